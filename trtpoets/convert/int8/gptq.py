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
"""At most 4096 positions of a layer's input are sampled, or 4 for each weight of a channel, if these are more. With
16384 the SQNR of four networks differed by at most 0.3 dB, in both directions."""

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
    """
    groups, _, depth = weights.shape
    squares = np.einsum("gdd->gd", products)
    mean_square = squares.mean(axis=1)
    damping = np.where(mean_square > 0, _DAMPING * mean_square, 1.0)
    # The largest inputs come first, while most weights are still free to compensate their errors.
    order = np.argsort(-squares, axis=1, kind="stable")
    group = np.arange(groups)[:, None]
    left = weights[group[:, :, None], np.arange(weights.shape[1])[None, :, None], order[:, None, :]]
    hessian = products[group[:, :, None], order[:, :, None], order[:, None, :]] + damping[:, None, None] * np.eye(depth)
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).transpose(0, 2, 1)
    rounded = np.empty_like(left)
    for start in range(0, depth, _BLOCK):
        stop = min(start + _BLOCK, depth)
        errors = np.empty((*left.shape[:2], stop - start))
        for column in range(start, stop):
            values = np.clip(np.rint(left[:, :, column] / scales), -levels, levels) * scales
            rounded[:, :, column] = values
            error = (left[:, :, column] - values) / upper[:, column, column, None]
            errors[:, :, column - start] = error
            left[:, :, column + 1 : stop] -= error[:, :, None] * upper[:, None, column, column + 1 : stop]
        left[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    result = np.empty_like(rounded)
    np.put_along_axis(result, np.broadcast_to(order[:, None, :], rounded.shape), rounded, axis=2)
    return result


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
    """Return the means (G, D) of inputs (G, N, D) and the sums of their centred products (G, D, D), float64."""
    means = inputs.mean(axis=1, dtype=np.float64)
    centred = inputs - means[:, None].astype(np.float32)
    return means, np.asarray(centred.transpose(0, 2, 1) @ centred, np.float64)


def _inputs(node: Any, data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a sample (G, N, D) of the inputs of a layer with weights of this shape: D numbers for one output."""
    if node.op_type in MATMULS:
        rows = data.reshape(-1, data.shape[-1])
        return np.asarray(rows[_sample(len(rows), data.shape[-1], 1)][None])
    groups = int(attribute(node, "group", 1))
    windows = _windows(node, data, shape[2:])
    photos, _, high, wide = windows.shape[:4]
    depth = int(np.prod(shape[1:]))
    chosen = _sample(photos * high * wide, depth, groups)
    photo, position = np.divmod(chosen, high * wide)
    row, column = np.divmod(position, wide)
    return np.asarray(windows[photo, :, row, column].reshape(len(chosen), groups, depth).transpose(1, 0, 2))


def _sample(count: int, depth: int, groups: int) -> np.ndarray:
    """Return the indices, ascending, of a sample of `count` positions with `depth` numbers for each of the groups."""
    most = min(count, max(_POSITIONS, _POSITIONS_PER_WEIGHT * depth), max(1, _MAX_NUMBERS // (depth * groups)))
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def _windows(node: Any, data: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
    """Return a view (N, C, H, W, KH, KW) of data (N, C, H, W): the window of the kernel at each position."""
    strides = attribute(node, "strides", [1, 1])
    dilations = attribute(node, "dilations", [1, 1])
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    pads = _padding(node, data.shape[2:], spans, strides)
    padded = np.pad(data, ((0, 0), (0, 0), *pads)) if any(map(any, pads)) else data
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(2, 3))
    return windows[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]


def _padding(node: Any, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Return the numbers of zeros (before, after) that a convolution adds to its input, for height and width."""
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
