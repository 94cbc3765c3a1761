"""Channels of one tensor brought to like sizes, so that one step serves them all.

A positive factor on a channel goes through ReLU, and the next layer's weights take it back: Nagel, van Baalen,
Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.1.
The first layer's weights have a step for each output channel and lose nothing by it. A depthwise layer that reads the
tensor has one too, so there the factor is free, and as large as the range allows; any other layer's weights pay for
small steps in the data with large ones of their own, and the factor stands between the two.

A ReLU6 cuts at 6 whatever the factor. So no factor is below 1, nor above what takes the channel's peak to 6: then
photos like those observed are cut nowhere that they were not. What the peaks did not foresee is cut, so equalisation
is judged on photos that the peaks were not taken from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView, attribute

_LARGEST = 1000.0
"""No factor is larger, nor smaller than its inverse: a channel that hardly speaks would get noise for weights."""


@dataclass(frozen=True)
class Pair:
    """The convolution that makes `tensor` and those that read it. `cut` is where a ReLU6 between them cuts; else None.

    `free` where all that read it are depthwise: their weights lose nothing by any factor.
    """

    tensor: str
    maker: Any
    readers: tuple[Any, ...]
    cut: float | None
    free: bool


def pairs_of(view: GraphView, tensors: Iterable[str]) -> list[Pair]:
    """Those of `tensors` whose channels can be scaled: between convolutions with weights of their own, and ReLUs."""
    found = []
    for tensor in tensors:
        readers = view.readers.get(tensor, [])
        fit = bool(readers) and all(reader.index == 0 and _owns_weights(view, reader.node) for reader in readers)
        if not fit or tensor in view.outputs:
            continue
        maker, cut = _maker(view, tensor)
        if maker is not None:
            nodes = tuple(reader.node for reader in readers)
            found.append(Pair(tensor, maker, nodes, cut, all(_is_depthwise(view, node) for node in nodes)))
    return found


def factors_of(view: GraphView, pair: Pair, peaks: np.ndarray) -> np.ndarray | None:
    """A factor for each channel, float32 (C,), from the channels' largest magnitudes `peaks`; None if all are silent.

    Where factors are free they take every peak to the same height. Else they go as the square root of weights over
    peaks, so that data and weights gain alike.
    """
    heights = np.asarray(peaks, np.float64)
    reading = np.max([_largest_by_input(view, node) for node in pair.readers], axis=0)
    live = (heights > 0) & (reading > 0)
    if not live.any():
        return None
    factors = np.ones_like(heights)
    factors[live] = 1 / heights[live] if pair.free else np.sqrt(reading[live] / heights[live])
    factors[live] *= (pair.cut or heights[live].max()) / np.max(heights[live] * factors[live])
    if pair.cut is None:
        factors[live] = np.clip(factors[live], 1 / _LARGEST, _LARGEST)
    else:
        room = np.maximum(pair.cut / heights[live], 1.0)
        factors[live] = np.clip(factors[live], 1.0, np.minimum(room, _LARGEST))
    return factors.astype(np.float32)


def equalised(model: Any, factors: Mapping[str, np.ndarray]) -> Any:
    """A copy of an FP32 ModelProto that computes the same with the channels of each named tensor scaled, (C,) each."""
    from onnx import numpy_helper

    view = GraphView(model)
    copy = type(model)()
    copy.CopyFrom(model)
    changed: dict[str, np.ndarray] = {}

    def weights(name: str) -> np.ndarray:
        return changed.get(name, view.array(name).astype(np.float64))

    for pair in pairs_of(view, factors):
        factor = np.asarray(factors[pair.tensor], np.float64)
        own = list(pair.maker.input)[1:]
        changed[own[0]] = weights(own[0]) * factor.reshape(-1, 1, 1, 1)
        if len(own) > 1 and own[1]:
            changed[own[1]] = weights(own[1]) * factor
        for node in pair.readers:
            changed[node.input[1]] = _by_input(node, weights(node.input[1]), 1 / factor)
    for constant in copy.graph.initializer:
        if constant.name in changed:
            constant.CopyFrom(numpy_helper.from_array(changed[constant.name].astype(np.float32), constant.name))
    return copy


def _maker(view: GraphView, tensor: str) -> tuple[Any, float | None]:
    """The convolution behind a tensor, through ReLUs that nobody else reads, and where they cut; None without one."""
    cut = None
    node = view.producer.get(tensor)
    while node is not None and node.op_type in ("Relu", "LeakyRelu", "Clip"):
        if node.op_type == "Clip":
            low, high = ([*(_constant(view, name) for name in node.input[1:]), None, None])[:2]
            if low != 0 or high is None:
                return None, None
            cut = high if cut is None else min(cut, high)
        if len(view.readers[node.input[0]]) > 1 or node.input[0] in view.outputs:
            return None, None
        node = view.producer.get(node.input[0])
    return (node, cut) if node is not None and _owns_weights(view, node) else (None, None)


def _constant(view: GraphView, name: str) -> float | None:
    return float(view.array(name)) if name in view.constants else None


def _owns_weights(view: GraphView, node: Any) -> bool:
    """Whether a node is a 2-D convolution with constants that nobody else reads."""
    own = [name for name in node.input[1:] if name]
    constant = all(name in view.constants and len(view.readers[name]) == 1 for name in own)
    return node.op_type == "Conv" and constant and view.array(own[0]).ndim == 4


def _is_depthwise(view: GraphView, node: Any) -> bool:
    return int(attribute(node, "group", 1)) > 1 and (view.shape(node.input[1]) or (0, 0))[1] == 1


def _largest_by_input(view: GraphView, node: Any) -> np.ndarray:
    """The largest magnitude among the weights of each input channel: (C,)."""
    weights = np.abs(view.array(node.input[1])).astype(np.float64)
    groups = int(attribute(node, "group", 1))
    return np.asarray(weights.reshape(groups, len(weights) // groups, weights.shape[1], -1).max(axis=(1, 3))).reshape(
        -1
    )


def _by_input(node: Any, weights: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Weights (O, I/groups, H, W) times a factor for each input channel."""
    groups = int(attribute(node, "group", 1))
    grouped = weights.reshape(groups, len(weights) // groups, *weights.shape[1:])
    return np.asarray((grouped * factor.reshape(groups, 1, -1, 1, 1)).reshape(weights.shape))
