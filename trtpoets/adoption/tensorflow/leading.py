"""Finds the pixel values that a TensorFlow graph itself determines: the scaling with which it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trtpoets.adoption.contract import RAW, SIGNED, UNIT, Pixels, Triple
from trtpoets.adoption.foreign import FixedPixels
from trtpoets.adoption.tensorflow.graph import (
    Graph,
    Nodes,
    attribute,
    constant_value,
    consumers_of,
    data_inputs,
    node_of,
)
from trtpoets.core.original import Channels, Evidence, Source

_RESIZES = ("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea")
_UNCHANGED = ("Identity", "StopGradient", "Cast", "ExpandDims", "Squeeze", "Transpose", "Placeholder", "Reshape")
_CHANNEL_ORDER = ("ReverseV2", "StridedSlice", "GatherV2")
_TERMS = ("Add", "AddV2", "BiasAdd", "Sub")
_FACTORS = ("Mul", "RealDiv", "Div")
_SWAPPED = ("Add", "AddV2", "Mul", "Sub")
"""Operators whose constant may be the first operand."""

_IMAGENET_MEANS = np.array((123.68, 116.779, 103.939))
"""Red, green and blue, of 0..255."""

_LARGEST = 6.0
"""Networks are trained on values of at most this size, unless they take pixels without scaling."""


@dataclass(frozen=True)
class Scaling:
    """What a graph computes first: `x * scale + offset` by channel, in the nodes `nodes`, of which `last` is the end.

    The numbers are in the order of the channels of the input, also if the graph reverses them (`reversed`). `resized`
    says whether it contains a resize.
    """

    scale: np.ndarray
    offset: np.ndarray
    nodes: tuple[str, ...]
    last: str
    resized: bool = False
    reversed: bool = False


def scaling_after(nodes: Nodes, start: str) -> Scaling:
    """Follow the values of the node `start` as long as one node takes them and computes a linear function of them."""
    consumers = consumers_of(nodes.values())
    scale, offset = np.ones(1), np.zeros(1)
    names: list[str] = []
    current = last = start
    resized = flipped = False
    for _ in range(len(nodes)):  # a damaged graph may have a cycle
        users = consumers.get(current, [])
        packed = _reversed_by_pack(nodes, users, consumers)
        if packed is not None:
            flipped, current, last = not flipped, packed, packed
            continue
        if len(users) != 1:
            break
        node = users[0]
        inputs = [node_of(tensor) for tensor in data_inputs(node)]
        if node.op in (*_TERMS, *_FACTORS):
            combined = _combined(dict(nodes), node, current, scale, offset, flipped)
            if combined is None:
                break
            scale, offset = combined
            names.append(node.name)
        elif node.op in _RESIZES and inputs[0] == current:
            resized = True
        elif inputs[0] == current and _reverses_channels(dict(nodes), node):
            flipped = not flipped
        elif inputs[0] != current or not (node.op in _UNCHANGED or adds_axis(node)):
            break
        current = last = node.name
    return Scaling(scale, offset, tuple(names), last, resized, flipped)


def _combined(
    nodes: Nodes, node: Any, current: str, scale: np.ndarray, offset: np.ndarray, flipped: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return scale and offset after a node, or None if its other operand is not a number or one per channel."""
    inputs = data_inputs(node)
    at = next(n for n, tensor in enumerate(inputs) if node_of(tensor) == current)
    if len(inputs) != 2 or (at == 1 and node.op not in _SWAPPED):
        return None
    value = constant_value(nodes, inputs[1 - at])
    if value is None or value.size not in (1, 3) or value.dtype.kind not in "fiu":
        return None
    number = value.astype(float).reshape(-1)[:: -1 if flipped else 1]
    with np.errstate(all="ignore"):
        if node.op in ("RealDiv", "Div"):
            number = 1 / number
        if node.op in _FACTORS:
            result = scale * number, offset * number
        elif node.op == "Sub":
            result = (scale, offset - number) if at == 0 else (-scale, number - offset)
        else:
            result = scale, offset + number
    return result if np.isfinite(np.concatenate(result)).all() else None


def adds_axis(node: Any) -> bool:
    """Whether a node is `x[None]` or `x[tf.newaxis, ...]`."""
    if node.op != "StridedSlice":
        return False
    masks = [attribute(node, name).i for name in ("new_axis_mask", "shrink_axis_mask")]
    return masks == [1, 0]


def _reverses_channels(nodes: Nodes, node: Any) -> bool:
    """Whether a node reverses the order of three channels, the last axis."""
    if node.op not in _CHANNEL_ORDER:
        return False
    values = [constant_value(nodes, tensor) for tensor in data_inputs(node)[1:]]
    if any(value is None for value in values):
        return False
    numbers = [np.asarray(value).reshape(-1).tolist() for value in values]
    if node.op == "ReverseV2":
        return numbers[0] in ([-1], [3])
    if node.op == "GatherV2":
        return numbers[0] == [2, 1, 0] and numbers[1] in ([-1], [3])
    return numbers[2][-1] == -1 and set(numbers[2][:-1]) <= {1}


def _reversed_by_pack(nodes: Nodes, users: list[Any], consumers: Mapping[str, list[Any]]) -> str | None:
    """Return the Pack that stacks three channels in reverse order, as preprocess_input of Keras does; else None."""
    channels = {node.name: _taken_channel(nodes, node) for node in users}
    packs = [reader for node in users for reader in consumers.get(node.name, [])]
    if sorted(str(channel) for channel in channels.values()) != ["0", "1", "2"] or len({one.name for one in packs}) > 1:
        return None
    if not packs or packs[0].op != "Pack" or attribute(packs[0], "axis").i not in (-1, 3):
        return None
    order = [channels.get(node_of(tensor)) for tensor in data_inputs(packs[0])]
    return str(packs[0].name) if order == [2, 1, 0] else None


def _taken_channel(nodes: Nodes, node: Any) -> int | None:
    """Return i of a node that computes `x[..., i]`, None for another one."""
    if node.op != "StridedSlice":
        return None
    masks = [attribute(node, name).i for name in ("ellipsis_mask", "shrink_axis_mask", "new_axis_mask")]
    begin = constant_value(nodes, data_inputs(node)[1])
    return int(begin[1]) if masks == [1, 2, 0] and begin is not None and begin.size == 2 else None


def _channels(scaling: Scaling) -> tuple[Channels, str]:
    """Return the order of the channels, and how the subtracted means show it ("" if they do not)."""
    if scaling.offset.size != 3 or (scaling.scale <= 0).any():
        return Channels.RGB, ""
    mean = np.broadcast_to(-scaling.offset / scaling.scale, (3,))
    for known, nearly in ((_IMAGENET_MEANS, 1.5), (_IMAGENET_MEANS / 255, 0.01)):
        for channels, expected in ((Channels.RGB, known), (Channels.BGR, known[::-1])):
            if (np.abs(mean - expected) < nearly).all():
                return channels, f"; the means {_numbers(mean)} are those of ImageNet in {channels.text}"
    return Channels.RGB, ""


def fixed_pixels(graph: Graph, dtype: str) -> FixedPixels | None:
    """Return the pixel values that a graph determines by its first computations, or by an input of whole numbers."""
    if np.dtype(dtype).kind in "iu":
        text = f"the input {graph.input} has the type {dtype}, so the network takes pixels of 0 to 255"
        return FixedPixels(RAW, Evidence("pixels", Source.GRAPH, text)) if dtype != "int8" else None
    scaling = scaling_after(graph.nodes, graph.input)
    pixels = expected_pixels(scaling.scale, scaling.offset) if scaling.nodes else None
    if pixels is None:
        return None
    channels, order = _channels(scaling)
    verb = "computes" if len(scaling.nodes) == 1 else "compute"
    text = (
        f"the graph begins with {' and '.join(scaling.nodes)}, which {verb} {formula(scaling)}, so the network takes "
        f"pixels of {pixels.name}{order}"
    )
    if scaling.reversed:
        text += "; it reverses the channels itself"
    return FixedPixels(replace(pixels, channels=channels), Evidence("pixels", Source.GRAPH, text), bool(order))


def pixels_of(scaling: Scaling) -> Pixels:
    """Return the values that a scaling makes of RGB pixels of 0 to 255."""
    channels = Channels.BGR if scaling.reversed else Channels.RGB
    return Pixels(_triple(scaling.scale), _triple(scaling.offset), channels, formula(scaling))


def expected_pixels(scale: np.ndarray, offset: np.ndarray) -> Pixels | None:
    """Return the pixels that networks scale with these numbers first; None if that is not clear.

    These are pixels of 0..255 if the results are as small as networks need them, or are pixels minus a mean. They are
    0..1 if `x * 2 - 1` or the division by a standard deviation follows, or a multiplication with 255; -1..1 if these
    become 0..1 or 0..255.
    """
    scale, offset = np.broadcast_arrays(scale, offset)
    if (scale <= 0).any():
        return None
    results = {pixels.name: (low * scale + offset, high * scale + offset) for pixels, low, high in _RANGES}

    def within(name: str, low: float, high: float) -> bool:
        return bool((results[name][0] >= low).all() and (results[name][1] <= high).all())

    spans = scale * 255
    if (spans >= 0.5).all() and within(RAW.name, -_LARGEST, _LARGEST):
        return RAW
    if np.allclose(scale, 1) and ((offset <= -80) & (offset >= -150)).all():
        return RAW
    if np.allclose(scale, 255) or ((scale >= 1.5).all() and within(UNIT.name, -_LARGEST, _LARGEST) and _low(results)):
        return UNIT
    for factor in (0.5, 127.5):
        if np.allclose(scale, factor) and np.allclose(offset, factor, rtol=0.01):
            return SIGNED
    return None


def _low(results: dict[str, tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether 0 becomes negative and 1 positive, as where a mean is subtracted."""
    low, high = results[UNIT.name]
    return bool((low < 0).all() and (high > 0).all())


_RANGES = ((RAW, 0, 255), (UNIT, 0, 1), (SIGNED, -1, 1))


def formula(scaling: Scaling) -> str:
    """Return like "x * 0.00784 - 1", with three numbers where the channels differ."""
    offset = _numbers(np.abs(scaling.offset))
    sign = "-" if (scaling.offset < 0).any() else "+"
    return f"x * {_numbers(scaling.scale)}" + (f" {sign} {offset}" if np.any(scaling.offset) else "")


def _numbers(values: np.ndarray) -> str:
    texts = [f"{value:.4g}" for value in values.reshape(-1)]
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"


def _triple(values: np.ndarray) -> Triple:
    first, second, third = (float(value) for value in np.broadcast_to(values, 3))
    return first, second, third
