"""Determines which pixel values an ONNX graph expects, from the constants that it applies to its input first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trtpoets.adoption.contract import CENTRED, IMAGENET, RAW, SIGNED, UNIT, Pixels
from trtpoets.adoption.foreign import FixedPixels
from trtpoets.adoption.onnx.image_input import ImageInput
from trtpoets.adoption.onnx.tensors import constant_values
from trtpoets.convert.graph.graph_view import GraphView, attribute
from trtpoets.core.original import Channels, Evidence, Layout, Source

_UNCHANGED = ("Cast", "Identity", "Dropout", "Pad", "Resize", "Upsample", "QuantizeLinear", "DequantizeLinear", "Clip")
_AFFINE = ("Sub", "Add", "Mul", "Div")
_MEANS = ((123.68, 116.779, 103.939), (123.0, 117.0, 104.0))
"""Means of red, green and blue of ImageNet, as Caffe's networks subtract them; exact and rounded."""

_UNIT_MEAN, _UNIT_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class _State:
    """What the nodes so far computed of the channels of the input: `x * scale + offset`.

    Entry i of the arrays is channel `order[i]` of the input; `axis` is the axis of the channels. `learned` are mean
    and standard deviation of a BatchNormalization that normalises the input. `applied` describes the nodes.
    """

    axis: int
    scale: np.ndarray
    offset: np.ndarray
    order: tuple[int, ...]
    learned: tuple[np.ndarray, np.ndarray] | None = None
    applied: tuple[str, ...] = ()
    reordered: bool = field(default=False)

    def of_input(self, values: np.ndarray) -> np.ndarray:
        """Return values per channel in the order of the input's channels."""
        return values[np.argsort(self.order)]


def fixed_pixels(view: GraphView, image: ImageInput) -> FixedPixels | None:
    """Return the pixel values that the graph determines, with its constants as evidence; None if it does not."""
    if _standardised_for_inception(view, image):
        text = "the graph begins with torchvision's transform_input, so it takes pixels with ImageNet's statistics"
        return FixedPixels(IMAGENET, Evidence("pixels", Source.GRAPH, text))
    state = _leading(view, image)
    channels, order = _channels(state, image.channels)
    integer = image.input.dtype in ("uint8", "int8")
    quantised = integer and any(
        reader.node.op_type == "DequantizeLinear" for reader in view.readers.get(image.input.name, ())
    )
    constants = f"the graph begins with {', '.join(state.applied)}" if state.applied else ""
    pixels: Pixels | None
    if integer and not quantised:
        pixels = RAW if image.input.dtype == "uint8" else CENTRED
        text = f"the input is {image.input.dtype} without a scale, so it takes {pixels.name}"
        text += f"; {constants}" if constants else ""
    elif quantised and not state.applied:
        pixels = _by_quantisation(image)
        text = f"the input is {image.input.dtype} with the scale {image.input.scale:.6g} and the zero point "
        text += f"{image.input.zero_point}" + (f", which is {pixels.name}" if pixels else "")
    else:
        pixels = _by_constants(state)
        text = f"{constants}, so it takes pixels {pixels.name}" if pixels else ""
    if pixels is None:
        return None
    return FixedPixels(replace(pixels, channels=channels), Evidence("pixels", Source.GRAPH, text + order), bool(order))


def _standardised_for_inception(view: GraphView, image: ImageInput) -> bool:
    """Whether a graph begins with `transform_input` of torchvision's Inception v3 and GoogLeNet.

    It converts pixels with the mean and standard deviation of ImageNet to -1..1, one channel after the other:
    `x[:, c] * (std / 0.5) + (mean - 0.5) / 0.5`. So it is a part of the network, not its preprocessing.
    """
    readers = [reader.node for reader in view.readers.get(image.input.name, ()) if reader.node.op_type != "Shape"]
    if image.channels != 3 or image.input.layout is not Layout.NCHW or len(readers) != 3:
        return False
    changes = [_change_of_channel(view, node) for node in readers]
    if any(change is None for change in changes):
        return False
    actual = {change[0]: change[1:] for change in changes if change is not None}
    expected = {
        c: (std / 0.5, (mean - 0.5) / 0.5) for c, (mean, std) in enumerate(zip(_UNIT_MEAN, _UNIT_STD, strict=True))
    }
    return actual.keys() == expected.keys() and all(np.allclose(actual[c], expected[c], atol=1e-3) for c in expected)


def _change_of_channel(view: GraphView, node: Any) -> tuple[int, float, float] | None:
    """Return the channel that a Gather takes, and the factor and the term that follow; None for another node."""
    indices = constant_values(view, node.input[1]) if node.op_type == "Gather" else None
    if indices is None or indices.size != 1 or attribute(node, "axis", 0) != 1:
        return None
    numbers: dict[str, float] = {}
    tensor = node.output[0]
    while len(numbers) < 2:
        readers = view.readers.get(tensor, ())
        if len(readers) != 1:
            return None
        following = readers[0].node
        if following.op_type in ("Mul", "Add") and following.op_type not in numbers:
            value = constant_values(view, following.input[1 - readers[0].index])
            if value is None or value.size != 1:
                return None
            numbers[following.op_type] = float(value.reshape(-1)[0])
        elif following.op_type not in ("Unsqueeze", "Identity"):
            return None
        tensor = following.output[0]
    return int(indices.reshape(-1)[0]), numbers["Mul"], numbers["Add"]


def _by_quantisation(image: ImageInput) -> Pixels | None:
    """Return the pixels whose range is that of all integers of the input."""
    limits = np.iinfo(image.input.dtype)
    low, high = ((limit - image.input.zero_point) * image.input.scale for limit in (limits.min, limits.max))
    for pixels, ends in ((RAW, (0, 255)), (UNIT, (0, 1)), (SIGNED, (-1, 1)), (CENTRED, (-128, 127))):
        if np.allclose((low, high), ends, atol=0.01 * (ends[1] - ends[0])):
            return pixels
    return None


def _by_constants(state: _State) -> Pixels | None:
    """Return the range of pixels for which the constants are a usual normalisation; None if there is none."""
    if state.learned is not None:
        mean, std = state.learned
        candidates: tuple[tuple[Pixels, bool], ...] = (
            (RAW, _inside(mean, 60, 180) and _inside(std, 20, 110)),
            (UNIT, _inside(mean, 0.2, 0.75) and _inside(std, 0.08, 0.45)),
        )
    elif not state.applied or np.any(state.scale <= 0):
        return None
    else:
        mean, std = -state.offset / state.scale, 1 / state.scale
        divided = _inside(std, 120, 260) and _inside(mean, -1, 1)  # by 255 or 127.5
        centred = _inside(mean, 90, 140)
        standardised = _inside(mean, 45, 180) and _inside(std, 40, 140)
        unit = _inside(mean, 0.2, 0.75) and _inside(std, 0.1, 0.6)
        multiplied = _inside(std * 255, 0.99, 1.01) and _inside(mean, -0.001, 0.75)  # by 255
        candidates = (
            (RAW, divided or centred or standardised),
            (UNIT, unit or multiplied),
            (SIGNED, _inside(mean, -1.02, -0.98) and _inside(std, 1 / 130, 3)),  # (x + 1) * 127.5, (x + 1) / 2
        )
    return next((pixels for pixels, fits in candidates if fits), None)


def _inside(values: np.ndarray, low: float, high: float) -> bool:
    return bool(np.all((values > low) & (values < high)))


def _channels(state: _State, number: int) -> tuple[Channels, str]:
    """Return the order of the channels, and how the subtracted means show it ("" if they do not)."""
    if number == 1:
        return Channels.GRAY, ""
    if np.any(state.scale == 0):
        return Channels.RGB, ""
    mean = state.learned[0] if state.learned is not None else -state.offset / state.scale
    mean = state.of_input(mean)
    for known, tolerance in (*((means, 1.5) for means in _MEANS), (_UNIT_MEAN, 0.01)):
        for channels in (Channels.RGB, Channels.BGR):
            expected = np.array(known if channels is Channels.RGB else known[::-1])
            if np.all(np.abs(mean - expected) < tolerance):
                numbers = ", ".join(f"{value:.6g}" for value in mean)
                return channels, f"; the means {numbers} are those of ImageNet in {channels.value.upper()}"
    return Channels.RGB, ""


def _leading(view: GraphView, image: ImageInput) -> _State:
    count = image.channels
    axis = 1 if image.input.layout is Layout.NCHW else 3
    state = _State(axis, np.ones(count), np.zeros(count), tuple(range(count)))
    tensor = image.input.name
    while True:
        nodes = [reader.node for reader in view.readers.get(tensor, ()) if reader.node.op_type != "Shape"]
        if not nodes or any(node is not nodes[0] for node in nodes):
            return state
        node = nodes[0]
        after = _reordered_by_concat(view, node, state) if node.op_type == "Split" else None
        if after is not None:
            state, tensor = after
            continue
        following = _applied(view, node, tensor, state)
        if following is None:
            return state
        state, tensor = following, node.output[0]


def _applied(view: GraphView, node: Any, tensor: str, state: _State) -> _State | None:
    """Return the state after a node; None if the node is not one of those that normalise images."""
    if node.op_type in _UNCHANGED and node.input[0] == tensor:
        return state
    if node.op_type == "Transpose" and len(attribute(node, "perm", ())) == 4:
        return replace(state, axis=list(attribute(node, "perm", ())).index(state.axis))
    if node.op_type in _AFFINE and len(node.input) == 2:
        return _affine(view, node, tensor, state)
    if node.op_type == "BatchNormalization" and state.axis == 1 and state.learned is None:
        return _batch_normalised(view, node, state)
    return _reordered(view, node, state) if node.op_type in ("Gather", "Slice") else None


def _affine(view: GraphView, node: Any, tensor: str, state: _State) -> _State | None:
    first = node.input[0] == tensor
    values = constant_values(view, node.input[1] if first else node.input[0])
    constant = None if values is None else _per_channel(values, state.axis, len(state.scale))
    if constant is None or (node.op_type == "Div" and (not first or np.any(constant == 0))):
        return None
    text = f"{node.op_type} {_numbers(constant)}"
    if node.op_type == "Sub" and not first:
        return _after(replace(state, scale=-state.scale, offset=-state.offset), 1.0, constant, f"{text} minus x")
    if node.op_type in ("Add", "Sub"):
        return _after(state, 1.0, constant if node.op_type == "Add" else -constant, text)
    return _after(state, constant if node.op_type == "Mul" else 1 / constant, 0.0, text)


def _after(state: _State, factor: Any, term: Any, text: str) -> _State:
    return replace(
        state,
        scale=state.scale * factor,
        offset=state.offset * factor + term,
        applied=(*state.applied, text),
    )


def _batch_normalised(view: GraphView, node: Any, state: _State) -> _State | None:
    values = [constant_values(view, name) for name in node.input[1:5]]
    if any(value is None or value.size != len(state.scale) for value in values) or np.any(state.scale == 0):
        return None
    gamma, beta, mean, variance = (np.asarray(value, np.float64).reshape(-1) for value in values)
    std = np.sqrt(np.maximum(variance, 0) + attribute(node, "epsilon", 1e-5))
    text = f"BatchNormalization (mean {_numbers(mean)}, standard deviation {_numbers(std)})"
    learned = ((mean - state.offset) / state.scale, std / np.abs(state.scale))
    return replace(_after(state, gamma / std, beta - mean * gamma / std, text), learned=learned)


def _per_channel(values: np.ndarray, axis: int, channels: int) -> np.ndarray | None:
    """Return a constant that is broadcast to (N, C, H, W) as one number per channel; a mean image is averaged."""
    if values.dtype.kind not in "fiu" or values.ndim > 4 or not values.size or not np.isfinite(values).all():
        return None
    full = values.reshape((1,) * (4 - values.ndim) + values.shape).astype(np.float64)
    if full.shape[axis] not in (1, channels):
        return None
    means = full.mean(axis=tuple(other for other in range(4) if other != axis))
    return np.asarray(np.broadcast_to(means, (channels,)))


def _reordered(view: GraphView, node: Any, state: _State) -> _State | None:
    """Return the state after a Gather or Slice that reverses or permutes the channels."""
    count = len(state.order)
    picked: list[int] | None = None
    if node.op_type == "Gather" and attribute(node, "axis", 0) == state.axis:
        indices = constant_values(view, node.input[1])
        picked = None if indices is None or indices.ndim != 1 else [int(index) % count for index in indices]
    if node.op_type == "Slice" and len(node.input) == 5:
        numbers = [constant_values(view, name) for name in node.input[1:]]
        if all(value is not None and value.size == 1 for value in numbers):
            start, end, axis, step = (int(value.reshape(-1)[0]) for value in numbers if value is not None)
            if axis % 4 == state.axis:
                picked = list(range(count))[max(start, -count - 1) : None if end < -count else end : step or 1]
    return _permuted(state, picked)


def _reordered_by_concat(view: GraphView, node: Any, state: _State) -> tuple[_State, str] | None:
    """Return the state and the tensor after a Split into channels and a Concat of them in another order."""
    readers = [reader.node for name in node.output for reader in view.readers.get(name, ())]
    if not readers or readers[0].op_type != "Concat" or any(reader is not readers[0] for reader in readers):
        return None
    outputs = list(node.output)
    if any(name not in outputs for name in readers[0].input) or attribute(node, "axis", 0) % 4 != state.axis:
        return None
    after = _permuted(state, [outputs.index(name) for name in readers[0].input])
    return None if after is None else (after, readers[0].output[0])


def _permuted(state: _State, picked: Sequence[int] | None) -> _State | None:
    if picked is None or sorted(picked) != list(range(len(state.order))):
        return None
    index = list(picked)
    return replace(
        state,
        scale=state.scale[index],
        offset=state.offset[index],
        order=tuple(state.order[one] for one in index),
        applied=(*state.applied, f"a reordering of the channels to {index}"),
    )


def _numbers(values: np.ndarray) -> str:
    texts = [f"{value:.6g}" for value in np.unique(values) if np.ptp(values) == 0] or [f"{v:.6g}" for v in values]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
