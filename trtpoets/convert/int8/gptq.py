"""Weights rounded so that what a layer gives changes least, instead of each to the nearest step.

Column by column, the error of a rounded weight is taken up by those of the same output channel that are not rounded
yet, as far as the layer's inputs go together: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training
Quantization for Generative Pre-trained Transformers" (ICLR 2023), after LeCun's optimal brain surgeon. Inputs are taken
around their mean, since what an error does to the mean goes into the bias (bias_correction.py).

The aim is the layer's own FP32 weights on its INT8 input. Fitting the weights to the output of the FP32 network, which
would make up for the noise of the input too, is worse by far (MobileNetV2: 5 dB in place of 18): least squares shrink
what is noisy, and what every layer shrinks a little adds up, where noise averages out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView, attribute
from trtpoets.convert.int8.bias_correction import has_bias, with_biases
from trtpoets.convert.int8.placement import Placement
from trtpoets.convert.int8.qdq import LEVELS, channel_scales
from trtpoets.convert.int8.segments import Live, Sessions, pieces_of
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME

_ROWS = 16384
_NUMBERS = 1 << 24
"""At most so many positions of a layer's input are looked at, and so many numbers at once."""

_WIDEST = 2304
"""A channel with more weights than 256 x 3 x 3 is rounded to the nearest: the work grows with the cube of their number,
and where there are so many, rounding one or the other way averages out."""

_DAMPING = 0.01
"""As in the paper: so much of the mean square input is added to each input's own, for there are few photos."""

_BLOCK = 64
"""Errors are passed on to the columns of the same block at once, and to all others after the block."""


@dataclass(frozen=True)
class _Layer:
    """A convolution whose data, the tensor `source`, and weights, the constant `weights`, come through pairs."""

    node: Any
    source: str
    weights: str


def rounded_weights(
    quantised: Any, placement: Placement, photos: np.ndarray, progress: Progress = silent
) -> dict[str, np.ndarray]:
    """The weights of INT8 convolutions of a ModelProto by name: whole steps, as float32 in the shape that they had.

    `photos` are uint8 (N, H, W, 3). Layer by layer in the order of the data, each on the input that the rounded layers
    before it give. Left out, and so rounded to the nearest, are transposed and very wide convolutions.
    """
    channels = {weight.node: weight.tensor for weight in placement.weights}
    plain = GraphView(quantised)
    zeros = {name: np.zeros(plain.array(tensor).shape[0], np.float32) for name, tensor in channels.items()}
    model = with_biases(
        quantised, {node.name: zeros[node.name] for node in plain.nodes if _can_be_rounded(plain, node, channels)}
    )
    view = GraphView(model)
    layers: dict[str, list[_Layer]] = {}
    for node in view.nodes:
        if _can_be_rounded(view, node, channels):
            layers.setdefault(view.producer[node.input[0]].name, []).append(
                _Layer(node, node.input[0], channels[node.name])
            )
    pieces = pieces_of(model, [node.name for node in view.nodes if node.name in layers], (OUTPUT_NAME,))
    sessions, live = Sessions(), Live({INPUT_NAME: photos})
    found: dict[str, np.ndarray] = {}
    for number, piece in enumerate(pieces[:-1]):
        sessions.advance(piece, live)
        for layer in layers[piece.end]:
            # A piece reads its constants when it first runs: those still to come see what is written here.
            found[layer.weights] = _round(view, layer, live[layer.source])
        progress("rounding", number + 1, len(pieces) - 1)
    return found


def gptq(weights: np.ndarray, products: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Round float64 (G, R, D) weights, R channels of D in each of G groups, to whole `steps` (G, R), -127 to 127.

    `products` are the inputs' (G, D, D) sums of products, which tell how far one weight can make up for another.
    """
    groups, _, depth = weights.shape
    squares = np.einsum("gdd->gd", products)
    usual = squares.mean(axis=1)
    damping = np.where(usual > 0, _DAMPING * usual, 1.0)
    # The inputs that matter most first, while most weights are still free to make up for them.
    order = np.argsort(-squares, axis=1, kind="stable")
    each = np.arange(groups)[:, None]
    left = weights[each[:, :, None], np.arange(weights.shape[1])[None, :, None], order[:, None, :]]
    mixed = products[each[:, :, None], order[:, :, None], order[:, None, :]] + damping[:, None, None] * np.eye(depth)
    upper = np.linalg.cholesky(np.linalg.inv(mixed)).transpose(0, 2, 1)
    found = np.empty_like(left)
    for start in range(0, depth, _BLOCK):
        stop = min(start + _BLOCK, depth)
        errors = np.empty((*left.shape[:2], stop - start))
        for column in range(start, stop):
            whole = np.clip(np.rint(left[:, :, column] / steps), -LEVELS, LEVELS) * steps
            found[:, :, column] = whole
            error = (left[:, :, column] - whole) / upper[:, column, column, None]
            errors[:, :, column - start] = error
            left[:, :, column + 1 : stop] -= error[:, :, None] * upper[:, None, column, column + 1 : stop]
        left[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    back = np.empty_like(found)
    np.put_along_axis(back, np.broadcast_to(order[:, None, :], found.shape), found, axis=2)
    return back


def _can_be_rounded(view: GraphView, node: Any, weights: Mapping[str, str]) -> bool:
    """Whether a node is a convolution in INT8 with weights and a bias of its own, not too wide."""
    if node.op_type != "Conv" or node.name not in weights or not has_bias(node, view):
        return False
    depth = int(np.prod(view.array(weights[node.name]).shape[1:]))
    return len(view.readers[node.input[1]]) == 1 and depth <= _WIDEST


def _round(view: GraphView, layer: _Layer, data: np.ndarray) -> np.ndarray:
    """Round one layer's weights; they, and the bias that keeps its means, go into the view's constants."""
    from onnx import numpy_helper

    exact = view.array(layer.weights)
    groups = int(attribute(layer.node, "group", 1))
    rows = exact.reshape(groups, len(exact) // groups, -1).astype(np.float64)
    means, products = _moments(layer.node, data, exact.shape, groups)
    whole = gptq(rows, products, channel_scales(exact, 0).reshape(groups, -1).astype(np.float64))
    values = whole.reshape(exact.shape).astype(np.float32)
    bias = view.array(layer.node.input[2]) + np.einsum("grd,gd->gr", rows - whole, means).reshape(-1)
    for name, array in ((layer.weights, values), (layer.node.input[2], bias.astype(np.float32))):
        view.constants[name].CopyFrom(numpy_helper.from_array(array, name))
    return values


def _moments(node: Any, data: np.ndarray, shape: tuple[int, ...], groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Means (G, D) of what a convolution's channels multiply, and sums of products around them (G, D, D), float64."""
    windows = _windows(node, data, shape[2:])
    photos, _, high, wide = windows.shape[:4]
    depth = int(np.prod(shape[1:]))
    count = min(photos * high * wide, _ROWS, max(1, _NUMBERS // (depth * groups)))
    chosen = np.sort(np.random.default_rng(0).choice(photos * high * wide, count, replace=False))
    photo, place = np.divmod(chosen, high * wide)
    row, column = np.divmod(place, wide)
    inputs = windows[photo, :, row, column].reshape(count, groups, depth).transpose(1, 0, 2)
    means = inputs.mean(axis=1, dtype=np.float64)
    centred = inputs - means[:, None].astype(np.float32)
    return means, np.asarray(centred.transpose(0, 2, 1) @ centred, np.float64)


def _windows(node: Any, data: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
    """A view (N, C, H, W, KH, KW) of data (N, C, H, W): what the kernel covers at each place."""
    strides = attribute(node, "strides", [1, 1])
    steps = attribute(node, "dilations", [1, 1])
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, steps, strict=True)]
    pads = _padding(node, data.shape[2:], spans, strides)
    padded = np.pad(data, ((0, 0), (0, 0), *pads)) if any(map(any, pads)) else data
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(2, 3))
    return windows[:, :, :: strides[0], :: strides[1], :: steps[0], :: steps[1]]


def _padding(node: Any, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Zeros before and behind, for both sides of the map."""
    kind = attribute(node, "auto_pad", b"NOTSET").decode()
    if not kind.startswith("SAME"):
        pads = attribute(node, "pads", [0, 0, 0, 0])
        return [(pads[0], pads[2]), (pads[1], pads[3])]
    found = []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + span - size, 0)
        less = total // 2
        found.append((less, total - less) if kind == "SAME_UPPER" else (total - less, less))
    return found
