"""Cross-layer equalisation: scales the channels of a tensor to similar magnitudes, so that one scale suits them all.

A positive factor on a channel passes through ReLU, and the weights of the next layer cancel it: Nagel, van Baalen,
Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.1.
The weights of the first layer have one scale per output channel and lose no precision. The same holds for a depthwise
layer that reads the tensor, so its factor can be as large as the range allows. The weights of any other reader lose
what the activations gain, so the factor is a compromise.

A ReLU6 clips at 6 whatever the factor. So factors are at least 1 and at most 6 divided by the channel's peak: then no
value is clipped that was not clipped before, on the observed photos. Values above the observed peaks are clipped, so
equalisation is evaluated on photos that were not used for the peaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView, attribute, clip_bounds, owns_constants

_LARGEST = 1000.0
"""Upper limit of a factor; its inverse is the lower limit. Larger factors would amplify nearly unused channels."""


@dataclass(frozen=True)
class Pair:
    """The convolution that computes `tensor` and its readers. `clip` is the limit of a ReLU6 between them, else None.

    `free` is true if all readers are depthwise: their weights lose no precision by any factor.
    """

    tensor: str
    producer: Any
    readers: tuple[Any, ...]
    clip: float | None
    free: bool


def pairs_of(view: GraphView, tensors: Iterable[str]) -> list[Pair]:
    """Return those of `tensors` that can be equalised: only ReLUs between them and convolutions with own weights."""
    pairs = []
    for tensor in tensors:
        readers = view.readers.get(tensor, [])
        fit = bool(readers) and all(reader.index == 0 and _owns_weights(view, reader.node) for reader in readers)
        if not fit or tensor in view.outputs:
            continue
        producer, clip = _producing_convolution(view, tensor)
        if producer is not None:
            nodes = tuple(reader.node for reader in readers)
            pairs.append(Pair(tensor, producer, nodes, clip, all(_is_depthwise(view, node) for node in nodes)))
    return pairs


def factors_of(view: GraphView, pair: Pair, peaks: np.ndarray) -> np.ndarray | None:
    """Return the factor of each channel, float32 (C,), from the channels' `peaks`; None if all channels are zero.

    Free factors scale all peaks to the same magnitude. Otherwise a factor is the square root of weight over peak, so
    that activations and weights gain equally.
    """
    heights = np.asarray(peaks, np.float64)
    weight_peaks = np.max([_largest_by_input(view, node) for node in pair.readers], axis=0)
    live = (heights > 0) & (weight_peaks > 0)
    if not live.any():
        return None
    factors = np.ones_like(heights)
    factors[live] = 1 / heights[live] if pair.free else np.sqrt(weight_peaks[live] / heights[live])
    factors[live] *= (pair.clip or heights[live].max()) / np.max(heights[live] * factors[live])
    if pair.clip is None:
        factors[live] = np.clip(factors[live], 1 / _LARGEST, _LARGEST)
    else:
        headroom = np.maximum(pair.clip / heights[live], 1.0)
        factors[live] = np.clip(factors[live], 1.0, np.minimum(headroom, _LARGEST))
    return factors.astype(np.float32)


def equalised(model: Any, factors: Mapping[str, np.ndarray]) -> Any:
    """Return an equivalent copy of an FP32 ModelProto in which the channels of each named tensor are scaled by (C,)."""
    from onnx import numpy_helper

    view = GraphView(model)
    copy = type(model)()
    copy.CopyFrom(model)
    changed: dict[str, np.ndarray] = {}

    def weights(name: str) -> np.ndarray:
        return changed.get(name, view.array(name).astype(np.float64))

    for pair in pairs_of(view, factors):
        factor = np.asarray(factors[pair.tensor], np.float64)
        own = list(pair.producer.input)[1:]
        changed[own[0]] = weights(own[0]) * factor.reshape(-1, 1, 1, 1)
        if len(own) > 1 and own[1]:
            changed[own[1]] = weights(own[1]) * factor
        for node in pair.readers:
            changed[node.input[1]] = _scaled_by_input(node, weights(node.input[1]), 1 / factor)
    for constant in copy.graph.initializer:
        if constant.name in changed:
            constant.CopyFrom(numpy_helper.from_array(changed[constant.name].astype(np.float32), constant.name))
    return copy


def _producing_convolution(view: GraphView, tensor: str) -> tuple[Any, float | None]:
    """Return the convolution behind a tensor and the clipping limit of the ReLUs between them; None if there is none.

    Each tensor on the way must have a single reader.
    """
    clip = None
    node = view.producer.get(tensor)
    while node is not None and node.op_type in ("Relu", "LeakyRelu", "Clip"):
        if node.op_type == "Clip":
            low, high = clip_bounds(view, node) or (None, None)
            if low != 0 or high is None:
                return None, None
            clip = high if clip is None else min(clip, high)
        if len(view.readers[node.input[0]]) > 1 or node.input[0] in view.outputs:
            return None, None
        node = view.producer.get(node.input[0])
    return (node, clip) if node is not None and _owns_weights(view, node) else (None, None)


def _owns_weights(view: GraphView, node: Any) -> bool:
    """Return whether a node is a 2-D convolution whose constants no other node reads."""
    return node.op_type == "Conv" and owns_constants(view, node) and view.array(node.input[1]).ndim == 4


def _is_depthwise(view: GraphView, node: Any) -> bool:
    return int(attribute(node, "group", 1)) > 1 and (view.shape(node.input[1]) or (0, 0))[1] == 1


def _largest_by_input(view: GraphView, node: Any) -> np.ndarray:
    """Return the largest magnitude among the weights of each input channel: (C,)."""
    weights = np.abs(view.array(node.input[1])).astype(np.float64)
    groups = int(attribute(node, "group", 1))
    return np.asarray(weights.reshape(groups, len(weights) // groups, weights.shape[1], -1).max(axis=(1, 3))).reshape(
        -1
    )


def _scaled_by_input(node: Any, weights: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Return weights (O, I/groups, H, W) multiplied by a factor for each input channel."""
    groups = int(attribute(node, "group", 1))
    grouped = weights.reshape(groups, len(weights) // groups, *weights.shape[1:])
    return np.asarray((grouped * factor.reshape(groups, 1, -1, 1, 1)).reshape(weights.shape))
