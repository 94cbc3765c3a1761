"""Writes the CPU form of INT8: prepares an FP32 graph for integers, and gives its Q/DQ graph integer constants.

`prepared` changes an FP32 graph where integers need another, equal form: the photos, which are bytes already, become
the integers that the first convolution reads, and a Mul and Add per channel become a depthwise convolution. `lowered`
turns a graph with Q/DQ pairs and FP32 constants, in which biases are corrected and weights are rounded, into the file:
weights of 8 bits, biases of 32 bits, no ReLU that an integer range replaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.convert.graph.graph_edits import drop_unused_constants, replace_nodes, set_constant
from trtpoets.convert.graph.graph_view import GraphView, attribute, is_dequantised, owns_constants
from trtpoets.convert.int8.cpu_placement import clips_at_zero, end_of
from trtpoets.convert.int8.grid import UNSIGNED
from trtpoets.convert.int8.qdq import constant_scale
from trtpoets.core.types import INPUT_NAME

if TYPE_CHECKING:
    from onnx import NodeProto

_AFFINE = ("Mul", "Add", "Sub", "Div")

_CHANNEL_AXIS = 1


@dataclass
class _Affine:
    """The map x * scale + offset of each channel: float64 (channels,) or (1,)."""

    scale: np.ndarray
    offset: np.ndarray

    def then(self, operator: str, constant: np.ndarray, constant_first: bool) -> _Affine | None:
        """Return this map followed by an operator with a constant; None for constant - x and constant / x."""
        if operator == "Mul":
            return _Affine(self.scale * constant, self.offset * constant)
        if operator == "Add":
            return _Affine(self.scale + 0 * constant, self.offset + constant)
        if constant_first:
            return None
        if operator == "Sub":
            return _Affine(self.scale + 0 * constant, self.offset - constant)
        return _Affine(self.scale / constant, self.offset / constant) if constant.all() else None


def prepared(model: Any) -> Any:
    """Return a copy of an FP32 ModelProto that is equal to it and suits integers. Names of tensors are kept.

    Photos are read as integers if the preprocessing is one affine map of all channels, or if the first convolutions
    have no padding. A zero point is a whole number, so that of (x - 127.5) / 127.5 is 128; the first convolution's bias
    makes up for the difference, except in the padding, which is wrong by at most half a level of a pixel.
    """
    copy = type(model)()
    copy.CopyFrom(model)
    _read_photos_as_integers(copy)
    _replace_channel_maps(copy)
    _replace_hard_activations(copy)
    return copy


def lowered(model: Any) -> Any:
    """Return a copy of a ModelProto with Q/DQ pairs whose constants are integers, as ONNX Runtime fuses it."""
    copy = type(model)()
    copy.CopyFrom(model)
    view = GraphView(copy)
    dropped = {node.name for node in _quantise_weights(copy, view)}
    inserted: dict[str, NodeProto] = {}
    for node in view.nodes:
        if (
            node.op_type in ("Conv", "Gemm")
            and is_dequantised(view, node.input[0])
            and is_dequantised(view, node.input[1])
        ):
            inserted[node.name] = _quantise_bias(copy, view, node)
        elif node.op_type in ("Add", "Mul"):
            inserted[node.name] = _quantise_scalar(copy, view, node)
        elif node.op_type == "QuantizeLinear" and node.name not in dropped:
            dropped.update(_absorbed(view, node))
    nodes = (new for node in copy.graph.node for new in (inserted.get(node.name), node))
    replace_nodes(copy, [node for node in nodes if node is not None and node.name not in dropped])
    drop_unused_constants(copy)
    return copy


def _read_photos_as_integers(model: Any) -> None:
    """Let the first layers read the photos through one DequantizeLinear instead of the preprocessing."""
    from onnx import TensorProto, helper, numpy_helper

    view = GraphView(model)
    maps, perm, end, passed = _photo_map(view)
    readers = view.readers.get(end, [])
    if maps is None or not passed or not readers or end in view.outputs:
        return
    if any(reader.node.op_type != "Conv" or reader.index or not _owns(view, reader.node) for reader in readers):
        return
    channels = len(np.broadcast_arrays(maps.scale, maps.offset)[0])
    uniform = channels == 1
    padded = any(_has_padding(reader.node) for reader in readers)
    scale = float(maps.scale.reshape(-1)[0])
    zero = float(np.clip(np.rint(np.mean(-maps.offset / maps.scale)), 0, 255)) if (maps.scale > 0).all() else -1.0
    if zero < 0 or (padded and (not uniform or abs(zero * scale + float(maps.offset.reshape(-1)[0])) > scale)):
        return
    for reader in readers:
        _fold_photo_map(model, view, reader.node, maps, scale, zero)
    dropped = {node.name for node in passed}
    nodes = []
    source = INPUT_NAME
    if perm is not None:
        source = f"{end}.photos"
        nodes.append(helper.make_node("Transpose", [INPUT_NAME], [source], name=f"{passed[-1].name}.photos", perm=perm))
    names = [f"{end}.scale", f"{end}.zero_point"]
    model.graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), names[0]))
    model.graph.initializer.append(helper.make_tensor(names[1], TensorProto.UINT8, [], [int(zero)]))
    nodes.append(helper.make_node("DequantizeLinear", [source, *names], [end], name=f"{passed[-1].name}.integers"))
    nodes += [node for node in model.graph.node if node.name not in dropped]
    replace_nodes(model, nodes)
    drop_unused_constants(model)


def _photo_map(view: GraphView) -> tuple[_Affine | None, list[int] | None, str, list[Any]]:
    """Follow the preprocessing from the photos: the map of each channel, the transposition, its last tensor, nodes."""
    maps, perm, tensor, passed = _Affine(np.ones(1), np.zeros(1)), None, INPUT_NAME, []
    last_axis = True
    while len(readers := view.readers.get(tensor, [])) == 1:
        node = readers[0].node
        if node.op_type == "Transpose" and perm is None and attribute(node, "perm", None) == [0, 3, 1, 2]:
            perm, last_axis = [0, 3, 1, 2], False
        elif node.op_type in _AFFINE and len(view.activations(node)) == 1:
            constant = _per_channel(view, node, -1 if last_axis else 1)
            following = None if constant is None else maps.then(node.op_type, constant, readers[0].index == 1)
            if following is None:
                break
            maps = following
        elif not (node.op_type == "Cast" and attribute(node, "to", 0) == 1) and node.op_type != "Identity":
            break
        passed.append(node)
        tensor = node.output[0]
    if last_axis:  # the layers read (N, C, H, W)
        return None, None, tensor, passed
    return maps, perm, tensor, passed


def _per_channel(view: GraphView, node: Any, axis: int) -> np.ndarray | None:
    """Return the constant of an operator as float64 (1,) or (channels,); None if it differs between positions."""
    names = [name for name in node.input if name in view.constants]
    if len(names) != 1:
        return None
    value = view.array(names[0]).astype(np.float64)
    if value.size == 1 or (value == value.reshape(-1)[0]).all():
        return value.reshape(-1)[:1]
    from_end = -axis if axis < 0 else 4 - axis
    sizes = (1,) * (4 - value.ndim) + value.shape
    wide = [index for index, size in enumerate(sizes) if size > 1]
    return value.reshape(-1) if wide == [4 - from_end] else None


def _owns(view: GraphView, node: Any) -> bool:
    """Return whether no other node reads the weights and the bias of a convolution of all channels, all constant."""
    return int(attribute(node, "group", 1)) == 1 and owns_constants(view, node)


def _has_padding(node: Any) -> bool:
    return any(attribute(node, "pads", [0])) or attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")


def _fold_photo_map(model: Any, view: GraphView, node: Any, maps: _Affine, scale: float, zero: float) -> None:
    """Let a convolution of x * maps.scale + maps.offset read (x - zero) * scale."""
    weights = view.array(node.input[1]).astype(np.float64)
    shape = (1, -1, 1, 1)
    missing = (maps.offset + maps.scale * zero).reshape(shape)
    shift = (weights * missing).sum(axis=(1, 2, 3))
    set_constant(model, view, node.input[1], weights * (maps.scale / scale).reshape(shape))
    if len(node.input) > 2 and node.input[2]:
        set_constant(model, view, node.input[2], view.array(node.input[2]).astype(np.float64) + shift)
    elif shift.any():
        del node.input[2:]
        node.input.append(f"{node.name}.bias")
        set_constant(model, view, f"{node.name}.bias", shift)


def _replace_channel_maps(model: Any) -> None:
    """Replace each chain of Mul, Add, Sub, Div and BatchNormalization per channel by a depthwise convolution.

    Its weights have a scale per channel, so that integers represent the map without loss.
    """
    from onnx import helper

    view = GraphView(model)
    dropped: set[str] = set()
    replaced: dict[str, NodeProto] = {}
    for node in view.nodes:
        if node.name in dropped or (chain := _channel_chain(view, node)) is None:
            continue
        nodes, maps, channels = chain
        last = nodes[-1]
        dropped.update(entry.name for entry in nodes)
        names = [f"{last.name}.weight", f"{last.name}.bias"]
        source = view.activations(nodes[0])[0]
        set_constant(model, view, names[0], np.broadcast_to(maps.scale, channels).reshape(-1, 1, 1, 1))
        set_constant(model, view, names[1], np.broadcast_to(maps.offset, channels).copy())
        replaced[last.name] = helper.make_node(
            "Conv", [source, *names], [last.output[0]], name=last.name, group=channels, kernel_shape=[1, 1]
        )
    if replaced:
        nodes = [replaced.get(node.name, node) for node in model.graph.node]
        replace_nodes(model, [node for node in nodes if node.name in replaced or node.name not in dropped])
        drop_unused_constants(model)


def _replace_hard_activations(model: Any) -> None:
    """Replace HardSigmoid and HardSwish by operators with integer kernels, and divisions by products.

    HardSigmoid(x) = clip(a x + b, 0, 1) becomes a * clip(x + b / a, 0, 1 / a): the Clip is part of the Add's range.
    """
    from onnx import helper

    view = GraphView(model)
    nodes: list[Any] = []

    def scalar(name: str, value: float) -> str:
        set_constant(model, view, name, np.asarray(value))
        return name

    def gate(node: Any, slope: float, shift: float, result: str) -> list[Any]:
        stem = node.name
        bounds = [scalar(f"{stem}.low", 0.0), scalar(f"{stem}.high", 1 / slope)]
        moved, clipped = f"{stem}/moved:0", f"{stem}/clipped:0"
        return [
            helper.make_node("Add", [node.input[0], scalar(f"{stem}.shift", shift / slope)], [moved], f"{stem}/moved"),
            helper.make_node("Clip", [moved, *bounds], [clipped], f"{stem}/clipped"),
            helper.make_node("Mul", [clipped, scalar(f"{stem}.slope", slope)], [result], f"{stem}/gate"),
        ]

    for node in view.nodes:
        slope, shift = float(attribute(node, "alpha", 0.2)), float(attribute(node, "beta", 0.5))
        if node.op_type == "HardSigmoid" and slope > 0:
            nodes += gate(node, slope, shift, node.output[0])
        elif node.op_type == "HardSwish":
            nodes += gate(node, 1 / 6, 0.5, f"{node.name}/gate:0")
            nodes.append(helper.make_node("Mul", [node.input[0], f"{node.name}/gate:0"], node.output, node.name))
        elif node.op_type == "Div" and _is_number(view, node.input[1]):
            factor = scalar(f"{node.name}.factor", 1 / float(view.array(node.input[1]).reshape(-1)[0]))
            nodes.append(helper.make_node("Mul", [node.input[0], factor], node.output, node.name))
        else:
            nodes.append(node)
    if len(nodes) > len(view.nodes) or any(new is not old for new, old in zip(nodes, view.nodes, strict=True)):
        replace_nodes(model, nodes)
        drop_unused_constants(model)


def _is_number(view: GraphView, name: str) -> bool:
    """Return whether a tensor is a constant that is one number, not 0."""
    return (
        name in view.constants and view.is_float(name) and view.array(name).size == 1 and bool(view.array(name).any())
    )


def _channel_chain(view: GraphView, node: Any) -> tuple[list[Any], _Affine, int] | None:
    """Return the chain of maps per channel that starts with a node, their product, and the number of channels."""
    nodes: list[Any] = []
    maps = _Affine(np.ones(1), np.zeros(1))
    while True:
        following = _map_of(view, node, maps)
        if following is None:
            break
        nodes.append(node)
        maps = following
        readers = view.readers.get(node.output[0], [])
        if len(readers) != 1 or node.output[0] in view.outputs:
            break
        node = readers[0].node
    if not nodes:
        return None
    shape = view.shape(view.activations(nodes[0])[0])
    channels = shape[_CHANNEL_AXIS] if shape is not None and len(shape) == 4 else None
    sizes = {1, channels}
    differs = max(maps.scale.size, maps.offset.size) > 1
    if not channels or channels < 2 or not differs or not {maps.scale.size, maps.offset.size} <= sizes:
        return None
    return nodes, maps, channels


def _map_of(view: GraphView, node: Any, before: _Affine) -> _Affine | None:
    if node.op_type == "BatchNormalization" and all(name in view.constants for name in list(node.input)[1:]):
        gain, shift, mean, variance = (view.array(name).astype(np.float64) for name in list(node.input)[1:5])
        gain = gain / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        return _Affine(before.scale * gain, before.offset * gain + shift - mean * gain)
    if node.op_type not in _AFFINE or len(view.activations(node)) != 1 or len(node.input) != 2:
        return None
    constant = _per_channel(view, node, _CHANNEL_AXIS)
    return None if constant is None else before.then(node.op_type, constant, node.input[0] in view.constants)


def _quantise_weights(model: Any, view: GraphView) -> list[Any]:
    """Replace FP32 weights before QuantizeLinear by integers; return the QuantizeLinear nodes, which are not needed."""
    from onnx import numpy_helper

    quantisers = [node for node in view.nodes if node.op_type == "QuantizeLinear" and node.input[0] in view.constants]
    for node in quantisers:
        weights, scale = view.array(node.input[0]).astype(np.float64), view.array(node.input[1]).astype(np.float64)
        shape = [1] * weights.ndim
        shape[attribute(node, "axis", 1)] = -1
        integers = np.clip(np.rint(weights / scale.reshape(shape)), -127, 127).astype(np.int8)
        name = f"{node.input[0]}.int8"
        model.graph.initializer.append(numpy_helper.from_array(integers, name))
        for reader in view.readers[node.output[0]]:
            reader.node.input[reader.index] = name
    return quantisers


def _quantise_bias(model: Any, view: GraphView, node: Any) -> Any:
    """Give a layer a 32-bit integer bias in units of the product of the scales of its input and its weights.

    Returns the DequantizeLinear of the bias; None for a layer without bias.
    """
    from onnx import helper, numpy_helper

    if len(node.input) < 3 or not node.input[2]:
        return None
    name = f"{node.name}.bias.int32"
    weight_scale = view.array(view.producer[node.input[1]].input[1])
    scale = (np.float32(constant_scale(view, node.input[0])) * weight_scale).astype(np.float32)
    bias = view.array(node.input[2]).astype(np.float64).reshape(-1) / scale
    limit = np.iinfo(np.int32).max // 2
    integers = np.clip(np.rint(bias), -limit, limit).astype(np.int32)
    for value, suffix in ((integers, ""), (scale, ".scale"), (np.zeros(len(scale), np.int32), ".zero_point")):
        model.graph.initializer.append(numpy_helper.from_array(value, name + suffix))
    output = f"{name}:0"
    inputs = [name, f"{name}.scale", f"{name}.zero_point"]
    node.input[2] = output
    return helper.make_node("DequantizeLinear", inputs, [output], name=f"{name}.dq", axis=0)


def _quantise_scalar(model: Any, view: GraphView, node: Any) -> Any:
    """Represent the constant of an Add or Mul between integers exactly: as one level of its own scale.

    Returns the DequantizeLinear of the constant; None for other nodes.
    """
    from onnx import helper, numpy_helper

    constants = [index for index, name in enumerate(node.input) if name in view.constants]
    readers = [reader.node for reader in view.readers.get(end_of(view, node.output[0]), [])]
    data = view.activations(node)
    if len(constants) != 1 or view.array(node.input[constants[0]]).size != 1:
        return None
    if not all(is_dequantised(view, name) for name in data) or not any(n.op_type == "QuantizeLinear" for n in readers):
        return None
    value = view.array(node.input[constants[0]])
    number = float(value.reshape(-1)[0])
    name = f"{node.name}.constant"
    level, zero = (1, 0) if number > 0 else (0, 1) if number < 0 else (0, 0)
    for array, suffix in (
        (np.full(value.shape, level, UNSIGNED.code), ""),
        (np.float32(abs(number) or 1.0), ".scale"),
        (np.array(zero, UNSIGNED.code), ".zero_point"),
    ):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name + suffix))
    inputs = [name, f"{name}.scale", f"{name}.zero_point"]
    node.input[constants[0]] = f"{name}:0"
    return helper.make_node("DequantizeLinear", inputs, [f"{name}:0"], name=f"{name}.dq")


def _absorbed(view: GraphView, quantise: Any) -> Iterator[str]:
    """Let a QuantizeLinear read what the ReLUs before it read, if its range implies them; yield the names of these.

    A ReLU of a tensor that is an integer already becomes a LeakyRelu with slope 0, which has an integer kernel.
    """
    from onnx import helper

    scale, zero = constant_scale(view, quantise.output[0]), int(view.array(quantise.input[2]))
    low, high = -zero * scale, (UNSIGNED.highest - zero) * scale
    tensor = quantise.input[0]
    passed = []
    while (node := view.producer.get(tensor)) is not None and clips_at_zero(view, node):
        limits = [float(view.array(name)) for name in list(node.input)[2:3] if name]
        if (
            len(view.readers[tensor]) > 1
            or tensor in view.outputs
            or low < 0
            or any(high > top * 1.0001 for top in limits)
        ):
            return
        if is_dequantised(view, node.input[0]):
            node.op_type = "LeakyRelu"
            del node.input[1:]
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("alpha", 0.0))
            break
        passed.append(node.name)
        tensor = node.input[0]
    quantise.input[0] = tensor
    yield from passed
