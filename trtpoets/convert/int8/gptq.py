"""GPTQ: rounds weights so that the output of a layer changes least, instead of each weight to the nearest value.

Weights are rounded column by column. The error of each is compensated by the weights of the same output channel that
are not rounded yet, as far as their inputs correlate. Source: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate
Post-Training Quantization for Generative Pre-trained Transformers" (ICLR 2023), which builds on LeCun's optimal brain
surgeon. Inputs are centred on their mean, because the bias of a layer is corrected for the effect of its errors on the
mean output.

The target is the layer's own FP32 weights applied to its INT8 input. Fitting the weights to the output of the FP32
network, to compensate the error of the input too, is much worse (MobileNetV2: 5 dB instead of 18): least squares shrink
weights with noisy inputs, and the shrinkage of all layers adds up, whereas rounding errors average out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import MATMULS, GraphView, attribute, channel_axis
from trtpoets.convert.int8.bias_correction import bias_of, has_bias, with_shifted_biases
from trtpoets.convert.int8.placement import LEVELS, Placement
from trtpoets.convert.int8.segments import LiveTensors, SegmentRunner, split_model
from trtpoets.core.progress import Progress, silent
from trtpoets.core.threads import one_blas_thread
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME

_POSITIONS = 4096
_POSITIONS_PER_WEIGHT = 4
_MOST_PER_WEIGHT = 32
"""At most 4096 positions of a layer's input are sampled, but no more than 32 for each weight of a channel; or 4 for
each weight, if these are more. With twice as many the SQNR of four networks differed by at most 0.3 dB, in both
directions."""

_MAX_NUMBERS = 1 << 24
"""The largest count of numbers in the sample of a layer's input."""

_MAX_DEPTH = 2304
"""The largest number of weights per output channel, 256 x 3 x 3, for which GPTQ is used. Its time grows with the cube
of this number. More weights are rounded to the nearest value; their errors average out."""

_DAMPING = 0.01
"""Fraction of the mean square input that is added to the diagonal, as in the paper, because there are few photos."""

_BLOCK = 64
"""The number of columns in a block. The error of a column is compensated immediately by the later columns of its block,
and at the end of the block by all columns after it."""


@dataclass(frozen=True)
class _Layer:
    """A layer that reads the tensor `source` and the constant `weights`, both through Q/DQ pairs.

    `levels` is the largest integer weight.
    """

    node: Any
    source: str
    weights: str
    levels: int


def gptq_weights(
    quantised: Any, placement: Placement, photos: np.ndarray, progress: Progress = silent
) -> dict[str, np.ndarray]:
    """Return the rounded weights of the INT8 layers of a ModelProto, by name: multiples of the scale, float32.

    `photos` are uint8 (N, H, W, 3). Layers are processed in graph order; the input of each is computed by the rounded
    layers before it. The result lacks transposed convolutions, layers with more than 2304 weights per channel, and
    MatMuls without bias: their weights are to be rounded to the nearest value.
    """
    model = _with_biases(quantised, placement)
    view = GraphView(model)
    layers = _layers_by_producer(view, placement)
    segments = split_model(model, [node.name for node in view.nodes if node.name in layers], (OUTPUT_NAME,))
    runner, live = SegmentRunner(), LiveTensors({INPUT_NAME: photos})
    rounded: dict[str, np.ndarray] = {}
    with one_blas_thread():  # threads of ONNX Runtime that have just ended their work would compete with more of them
        for number, segment in enumerate(segments[:-1]):
            runner.advance(segment, live)
            for layer in layers[segment.end]:
                # Segments read constants when they first run, so later segments use the weights that are written here.
                rounded[layer.weights] = _round_layer(view, layer, live[layer.source])
            progress("rounding", number + 1, len(segments) - 1)
    return rounded


def _with_biases(quantised: Any, placement: Placement) -> Any:
    """Return a copy of a ModelProto in which each supported layer has a bias of its own, which rounding can change."""
    view = GraphView(quantised)
    tensors = {weight.node: weight.tensor for weight in placement.weights}
    zeros = {
        weight.node: np.zeros(view.array(weight.tensor).shape[weight.axis], np.float32) for weight in placement.weights
    }
    return with_shifted_biases(
        quantised, {node.name: zeros[node.name] for node in view.nodes if _is_supported(view, node, tensors)}
    )


def _layers_by_producer(view: GraphView, placement: Placement) -> dict[str, list[_Layer]]:
    """Return the supported layers in graph order, by the name of the node that computes their input."""
    weights = {weight.node: weight for weight in placement.weights}
    tensors = {name: weight.tensor for name, weight in weights.items()}
    layers: dict[str, list[_Layer]] = {}
    for node in view.nodes:
        if _is_supported(view, node, tensors):
            layers.setdefault(view.producer[node.input[0]].name, []).append(
                _Layer(node, node.input[0], tensors[node.name], weights[node.name].levels)
            )
    return layers


def gptq(weights: np.ndarray, products: np.ndarray, scales: np.ndarray, levels: int = LEVELS) -> np.ndarray:
    """Round float64 weights (G, R, D) to multiples, -levels to levels, of `scales` (G, R).

    G is the number of groups, R the number of output channels in a group and D the number of weights of a channel.
    `products` (G, D, D) are the sums of products of the inputs, which determine how well one weight can compensate
    the error of another.

    The paper inverts `products`; here weights are rounded from the last to the first by its Cholesky factor, which
    gives the same result in a quarter of the time (Chen et al., "The Geometry of LLM Quantization: GPTQ as Babai's
    Nearest Plane Algorithm", 2025).
    """
    depth = weights.shape[2]
    squares = np.einsum("gdd->gd", products)
    mean_square = squares.mean(axis=1)
    damping = np.where(mean_square > 0, _DAMPING * mean_square, 1.0)
    # The largest inputs come last, so first in the rounding, while most weights are free to compensate their errors.
    order = np.argsort(-squares, axis=1, kind="stable")[:, ::-1]
    group = np.arange(len(weights))[:, None]
    hessian = products[group[:, :, None], order[:, :, None], order[:, None, :]] + damping[:, None, None] * np.eye(depth)
    factor = np.linalg.cholesky(hessian)
    coupling = factor / np.einsum("gdd->gd", factor)[:, None, :]
    exact = weights.transpose(0, 2, 1)[group, order]  # (G, D, R), as all below
    targets, rounded = exact.copy(), np.empty_like(exact)
    for stop in range(depth, 0, -_BLOCK):
        start = max(stop - _BLOCK, 0)
        errors = np.empty((len(exact), stop - start, exact.shape[2]))
        for column in range(stop - 1, start - 1, -1):
            later = slice(column + 1 - start, None)
            target = targets[:, column]
            if column + 1 < stop:
                target += (coupling[:, None, column + 1 : stop, column] @ errors[:, later])[:, 0]
            values = np.clip(np.rint(target / scales), -levels, levels) * scales
            rounded[:, column] = values
            errors[:, column - start] = exact[:, column] - values
        targets[:, :start] += coupling[:, start:stop, :start].transpose(0, 2, 1) @ errors
    result = np.empty_like(rounded)
    np.put_along_axis(result, np.broadcast_to(order[:, :, None], rounded.shape), rounded, axis=1)
    return np.asarray(result.transpose(0, 2, 1))


def _is_supported(view: GraphView, node: Any, weights: Mapping[str, str]) -> bool:
    """Return whether a node is an INT8 layer that GPTQ can round: with a bias, and weights that no other node reads.

    `weights` are the names of the weights of all INT8 layers, by node.
    """
    if node.op_type == "ConvTranspose" or node.name not in weights or not has_bias(node, view):
        return False
    depth = _rows(node, view.array(weights[node.name])).shape[-1]
    return len(view.readers[node.input[1]]) == 1 and depth <= _MAX_DEPTH


def _rows(node: Any, weights: np.ndarray) -> np.ndarray:
    """Return weights as (G, R, D): groups, output channels of a group, weights of a channel."""
    if node.op_type not in MATMULS:
        groups = int(attribute(node, "group", 1))
        return weights.reshape(groups, len(weights) // groups, -1)
    return (weights if channel_axis(node, weights.ndim) == 0 else weights.T)[None]


def _round_layer(view: GraphView, layer: _Layer, data: np.ndarray) -> np.ndarray:
    """Return the rounded weights of one layer, float32, from its input `data`.

    The weights are also written to the constants of `view`, with a bias that preserves the mean output.
    """
    from onnx import numpy_helper

    exact = view.array(layer.weights)
    rows = _rows(layer.node, exact).astype(np.float64)
    axis = channel_axis(layer.node, exact.ndim)
    means, products = _moments(_inputs(layer.node, data, exact.shape))
    scales = view.array(view.producer[layer.node.input[1]].input[1])
    rounded = gptq(rows, products, scales.reshape(len(rows), -1).astype(np.float64), layer.levels)
    # The result has the axes of the rows: those of the weights, but transposed for a MatMul.
    channels_first = exact.shape if axis == 0 else exact.shape[::-1]
    values = rounded.astype(np.float32).reshape(channels_first)
    values = np.ascontiguousarray(values if axis == 0 else values.T)
    adding, index = bias_of(layer.node, view) or (layer.node, 2)
    name = adding.input[index]
    old = view.array(name)
    bias = old.reshape(-1) + np.einsum("grd,gd->gr", rows - rounded, means).reshape(-1)
    for constant, array in ((layer.weights, values), (name, bias.astype(np.float32).reshape(old.shape))):
        view.constants[constant].CopyFrom(numpy_helper.from_array(array, constant))
    return values


def _moments(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the means (G, D) of inputs (G, D, N) and the sums of their centred products (G, D, D), float64.

    Subtracts the means from `inputs`, because a copy of so many numbers takes longer than the products.
    """
    means = inputs.mean(axis=2, dtype=np.float64)
    inputs -= means[:, :, None].astype(np.float32)
    return means, np.asarray(inputs @ inputs.transpose(0, 2, 1), np.float64)


def _inputs(node: Any, data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a sample (G, D, N) of the inputs of a layer with weights of this shape: D numbers for one output."""
    if node.op_type in MATMULS:
        rows = data.reshape(-1, data.shape[-1])
        return np.asarray(rows[_sample(len(rows), data.shape[-1], 1)].T[None])
    groups = int(attribute(node, "group", 1))
    depth = int(np.prod(shape[1:]))
    sizes = _output_sizes(node, data.shape[2:], shape[2:])
    chosen = _sample(len(data) * sizes[0] * sizes[1], depth, groups)
    windows = _windows(node, data, shape[2:], chosen)
    inputs = windows.transpose(1, 2, 3, 0).reshape(groups, depth, len(chosen))
    return np.ascontiguousarray(inputs) if groups > 1 else np.asarray(inputs)  # for products of many small matrices


def _sample(count: int, depth: int, groups: int) -> np.ndarray:
    """Return the indices, ascending, of a sample of `count` positions with `depth` numbers for each of the groups."""
    wanted = max(min(_POSITIONS, _MOST_PER_WEIGHT * depth), _POSITIONS_PER_WEIGHT * depth)
    most = min(count, wanted, max(1, _MAX_NUMBERS // (depth * groups)))
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def _windows(node: Any, data: np.ndarray, kernel: tuple[int, ...], positions: np.ndarray) -> np.ndarray:
    """Return the windows (P, C, KH, KW) of a kernel on data (N, C, H, W), at P `positions` of its output (N, H, W)."""
    high, wide = _output_sizes(node, data.shape[2:], kernel)
    photo, position = np.divmod(positions, high * wide)
    places, inside = [], []
    for axis, first in enumerate(np.divmod(position, wide)):
        stride, dilation = (attribute(node, name, [1, 1])[axis] for name in ("strides", "dilations"))
        before = _padding(node, data.shape[2:], kernel)[axis][0]
        place = first[:, None] * stride - before + np.arange(kernel[axis]) * dilation
        inside.append((place >= 0) & (place < data.shape[2 + axis]))
        places.append(np.clip(place, 0, data.shape[2 + axis] - 1))
    values = data[photo[:, None, None], :, places[0][:, :, None], places[1][:, None, :]]
    values *= (inside[0][:, :, None] & inside[1][:, None, :])[..., None]
    return np.asarray(values.transpose(0, 3, 1, 2))


def _output_sizes(node: Any, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[int, int]:
    """Return the height and width of a convolution's output, for inputs of these sizes."""
    padding, spans, strides = _padding(node, sizes, kernel), _spans(node, kernel), attribute(node, "strides", [1, 1])
    high, wide = (
        (size + sum(pads) - span) // stride + 1
        for size, pads, span, stride in zip(sizes, padding, spans, strides, strict=True)
    )
    return high, wide


def _spans(node: Any, kernel: Sequence[int]) -> list[int]:
    """Return the height and width of the area that a kernel reads."""
    dilations = attribute(node, "dilations", [1, 1])
    return [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]


def _padding(node: Any, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """Return the numbers of zeros (before, after) that a convolution adds to its input, for height and width."""
    spans, strides = _spans(node, kernel), attribute(node, "strides", [1, 1])
    kind = attribute(node, "auto_pad", b"NOTSET").decode()
    if not kind.startswith("SAME"):
        pads = attribute(node, "pads", [0, 0, 0, 0])
        return [(pads[0], pads[2]), (pads[1], pads[3])]
    padding = []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + span - size, 0)
        half = total // 2
        padding.append((half, total - half) if kind == "SAME_UPPER" else (total - half, half))

    return padding
