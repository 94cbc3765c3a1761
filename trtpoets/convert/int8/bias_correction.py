"""Bias correction: shifts biases so that quantisation does not change the mean of any channel.

Rounding weights shifts the mean of each channel, considerably where batch norms are folded; rounding activations shifts
it a little. A bias compensates this at no cost. Source: Nagel, van Baalen, Blankevoort, Welling, "Data-Free
Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.2, the empirical form: layer by
layer in graph order, each measured with the earlier layers corrected.

Only the shift caused by rounding within the layer is corrected, on the data that the INT8 layers before it produce.
Matching the whole FP32 mean would also compensate values that the ranges clip, and so shift every position of a channel
because of a few huge values: this costs MobileNetV2 9 dB, whereas correcting for rounded activations gains 0.4 dB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.convert.graph.graph_edits import reduction_axes, set_constant
from trtpoets.convert.graph.graph_view import CONVOLUTIONS, GraphView, attribute, channel_axis, is_dequantised
from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.convert.int8.fidelity import features_of, sqnr_from_powers
from trtpoets.convert.int8.segments import (
    LiveTensors,
    Segment,
    SegmentRunner,
    last_needed,
    split_model,
    with_constant_weights,
    without_weight_pairs,
)
from trtpoets.core.onnx_file import open_model
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    from onnx import TensorProto

_PHOTOS_AT_ONCE = 2
"""The outputs of all layers for this many photos are in memory at once."""

_LAYER_PHOTOS = 8
"""So many photos measure the SQNR of each layer, which the report shows and nothing is chosen by."""


@dataclass(frozen=True)
class Fp32Reference:
    """The FP32 network's features for some photos, and the points where it is split into segments.

    `ends` are the layers with weights, in order. `needed` maps each tensor to the last segment that reads it.
    `features` is float32 (N, F).
    """

    ends: tuple[str, ...]
    needed: Mapping[str, int]
    feature_name: str
    features: np.ndarray


def reference_from_onnx(model: Any, photos: np.ndarray) -> Fp32Reference:
    """Run the FP32 ModelProto on photos, uint8 (N, H, W, 3)."""
    view = GraphView(model)
    ends = tuple(node.name for node in view.weighted())
    name = features_of(view)
    session = open_model(with_outputs(model, [name]), one_of_many=True)
    return Fp32Reference(ends, last_needed(view, ends), name, session.run([name], {INPUT_NAME: photos})[0])


def split_like(model: Any, reference: Fp32Reference) -> list[Segment]:
    """Split a quantised ModelProto where the reference is split, so that versions can continue from each other."""
    return split_model(model, reference.ends, (reference.feature_name, OUTPUT_NAME), reference.needed)


def bias_shifts(
    quantised: Any,
    clipped: Any,
    reference: Fp32Reference,
    photos: np.ndarray,
    runner: SegmentRunner,
) -> dict[str, np.ndarray]:
    """Return the shift of the bias of each INT8 layer, float32 (channels,), measured in one run of the network.

    `clipped` is the ModelProto that clips activations where `quantised` does, and rounds nothing (`with_clips`).
    `photos` are uint8 (N, H, W, 3).
    """
    pairs = list(zip(split_like(quantised, reference), split_like(clipped, reference), strict=True))
    if pairs[0][0].view.batch is None:
        return _shifts_at_once(pairs, photos)
    live: LiveTensors = {INPUT_NAME: photos}
    shifts = {}
    for segment, clipped_segment in pairs:
        before = dict(live)
        runner.advance(segment, live)
        if _is_corrected(segment):
            runner.advance(clipped_segment, before)
            output = live[segment.tensor]
            axis = 1 if segment.nodes[-1].op_type in CONVOLUTIONS else output.ndim - 1
            means = (_channel_means(array, axis) for array in (before[clipped_segment.tensor], output))
            shift = np.subtract(*means).astype(np.float32)
            live[segment.tensor] = output + shift.reshape(-1, *[1] * (output.ndim - 1 - axis))
            shifts[segment.end] = shift
    return shifts


def _shifts_at_once(pairs: Sequence[tuple[Segment, Segment]], photos: np.ndarray) -> dict[str, np.ndarray]:
    """Return what `bias_shifts` returns, from one run of a graph that also computes the shifts.

    It takes much less time than a session for each segment, but all photos must fit in one batch. The graph has the
    quantised network; for each INT8 layer, the clipped segment on the same inputs; and the sum of the layer's output
    and its shift, which the later layers read.
    """
    from onnx import TensorProto, helper

    view = pairs[0][0].view
    nodes: list[Any] = []
    constants: dict[str, TensorProto] = dict(view.constants)
    shifts: dict[str, str] = {}
    for segment, clipped in pairs:
        own, computed = without_weight_pairs(view, segment.nodes, segment.outputs)
        constants.update((constant.name, constant) for constant in computed)
        nodes.extend(own)
        if not _is_corrected(segment):
            continue
        layer, tensor = segment.nodes[-1], segment.tensor
        shifts[segment.end] = f"{tensor}.shift"
        nodes[-1] = _renamed(layer, {}, {tensor: f"{tensor}.raw"}, "")
        exact = _exact_nodes(clipped, constants)
        if _is_pointwise(layer, view):
            *before, exact_layer = exact
            nodes.extend(before)
            for node, result in ((exact_layer, "exact"), (layer, "raw")):
                nodes.extend(_of_mean_input(node, view.opset, f"{tensor}.mean_{result}", constants))
            nodes.append(helper.make_node("Sub", [f"{tensor}.mean_exact", f"{tensor}.mean_raw"], [f"{tensor}.shift"]))
        else:
            nodes.extend(exact)
            nodes.append(helper.make_node("Sub", [f"{tensor}.exact", f"{tensor}.raw"], [f"{tensor}.error"]))
            nodes.extend(_mean_nodes(layer, view, tensor, constants))
        nodes.append(helper.make_node("Add", [f"{tensor}.raw", f"{tensor}.shift"], [tensor]))
    if not shifts:
        return {}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in shifts.values()]
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes, "shifts", view.graph.input, outputs, [constants[name] for name in constants if name in read]
    )
    model = helper.make_model(graph, opset_imports=pairs[0][0].opsets, ir_version=pairs[0][0].ir_version)
    arrays = open_model(model, one_of_many=True).run(list(shifts.values()), {INPUT_NAME: photos})
    return {name: array.reshape(-1) for name, array in zip(shifts, arrays, strict=True)}


def _exact_nodes(clipped: Segment, constants: dict[str, TensorProto]) -> list[Any]:
    """Return copies of the nodes that compute a clipped segment's tensor; names that they compute end in ".exact".

    Their constants are added to `constants` under names that end so too.
    """
    wanted, needed = {clipped.tensor}, []
    for node in reversed(clipped.nodes):
        if not wanted.isdisjoint(node.output):
            needed.append(node)
            wanted.update(node.input)
    own = {name for node in needed for name in node.output if name}
    own |= {name for name in wanted if name in clipped.view.constants}
    names = {name: f"{name}.exact" for name in own}
    constants.update(
        (names[name], _named(clipped.view.constants[name], names[name])) for name in own & set(clipped.view.constants)
    )
    return [_renamed(node, names, names, ".exact") for node in reversed(needed)]


def _is_pointwise(layer: Any, view: GraphView) -> bool:
    """Return whether a layer is a 1 x 1 convolution, whose mean output is its output for the mean input."""
    shape = view.shape(layer.input[1]) or ()
    return (
        layer.op_type == "Conv"
        and len(shape) == 4
        and tuple(shape[2:]) == (1, 1)
        and set(attribute(layer, "strides", [1])) == {1}
        and not any(attribute(layer, "pads", [0]))
    )


def _of_mean_input(layer: Any, opset: int, output: str, constants: dict[str, TensorProto]) -> list[Any]:
    """Return the nodes that compute a layer for the mean of its input (N, C, H, W): `output` (1, channels, 1, 1)."""
    from onnx import helper, numpy_helper

    nodes, source = [], layer.input[0]
    # Over each map first, because ONNX Runtime has a fast kernel for neighbouring values.
    for number, axes in enumerate(([2, 3], [0])):
        names, attributes = reduction_axes(opset, axes, f"{output}.axes_{number}")
        constants.update((name, numpy_helper.from_array(np.array(axes, np.int64), name)) for name in names)
        target = f"{output}.input_{number}"
        nodes.append(helper.make_node("ReduceMean", [source, *names], [target], keepdims=1, **attributes))
        source = target
    nodes.append(_renamed(layer, {layer.input[0]: source}, {layer.output[0]: output}, f".{output}"))
    return nodes


def _mean_nodes(layer: Any, view: GraphView, tensor: str, constants: dict[str, TensorProto]) -> list[Any]:
    """Return the nodes that compute the mean of each channel of `tensor`.error, in a shape that can be added to it."""
    from onnx import helper, numpy_helper

    def constant(name: str, values: Sequence[int]) -> str:
        constants[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name

    nodes, source = [], f"{tensor}.error"
    axes = [0, *range(2, len(view.shape(layer.input[1]) or ()))]
    if layer.op_type not in CONVOLUTIONS:
        shape = constant(f"{tensor}.rows_shape", [-1, _channels(layer, view)])
        nodes.append(helper.make_node("Reshape", [source, shape], [f"{tensor}.rows"]))
        source, axes = f"{tensor}.rows", [0]
    keep = int(layer.op_type in CONVOLUTIONS)
    names, attributes = reduction_axes(view.opset, axes, f"{tensor}.axes")
    inputs = [source, *(constant(name, axes) for name in names)]
    nodes.append(helper.make_node("ReduceMean", inputs, [f"{tensor}.shift"], keepdims=keep, **attributes))
    return nodes


def _renamed(node: Any, inputs: Mapping[str, str], outputs: Mapping[str, str], suffix: str) -> Any:
    """Return a copy of a node with other names of tensors, and a suffix to its own."""
    copy = type(node)()
    copy.CopyFrom(node)
    copy.name = f"{node.name}{suffix}"
    copy.input[:] = [inputs.get(name, name) for name in node.input]
    copy.output[:] = [outputs.get(name, name) for name in node.output]
    return copy


def _named(constant: Any, name: str) -> Any:
    copy = type(constant)()
    copy.CopyFrom(constant)
    copy.name = name
    return copy


def with_shifted_biases(model: Any, shifts: Mapping[str, np.ndarray]) -> Any:
    """Return a copy of a ModelProto with the bias of each named layer shifted. A convolution without bias gets one.

    The bias of a MatMul is the constant of the Add after it.
    """
    copy = type(model)()
    copy.CopyFrom(model)
    view = GraphView(copy)
    for node in view.nodes:
        if node.name not in shifts:
            continue
        shift = shifts[node.name]
        holder, index = bias_of(node, view) or (node, 2)
        name = f"{node.name}.bias"
        if len(holder.input) > index and holder.input[index]:
            old = view.array(holder.input[index])
            name = holder.input[index] if len(view.readers[holder.input[index]]) == 1 else f"{node.name}.own_bias"
            shift = old.reshape(-1) + shift
        else:
            del node.input[2:]
            node.input.append(name)
        holder.input[index] = name
        set_constant(copy, view, name, shift)
    return copy


def layer_sqnr(fp32: Any, quantised: Any, photos: np.ndarray) -> dict[str, float]:
    """Return the SQNR in dB of each layer's output, on the first 8 of `photos`, uint8 (N, H, W, 3)."""
    view = GraphView(fp32)
    photos = photos[: max(view.batch or 0, _LAYER_PHOTOS)]
    names = [node.name for node in view.weighted()]
    runs = [_run_of_layers(model, names) for model in (fp32, quantised)]
    signal, noise = np.zeros(len(names)), np.zeros(len(names))
    step = view.batch or _PHOTOS_AT_ONCE
    for start in range(0, len(photos), step):
        exact, other = (run(photos[start : start + step]) for run in runs)
        for number, (before, after) in enumerate(zip(exact, other, strict=True)):
            with np.errstate(invalid="ignore", over="ignore"):  # a damaged network may give infinities
                error = after - before
                signal[number] += np.vdot(before, before)
                noise[number] += np.vdot(error, error)
    return {name: sqnr_from_powers(*powers) for name, *powers in zip(names, signal, noise, strict=True)}


def _run_of_layers(model: Any, names: Sequence[str]) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return a function of photos that gives the output of each named layer."""
    view = GraphView(model)
    computed = {node.name: node.output[0] for node in view.nodes}
    tensors = [computed[name] for name in names]
    extra = [tensor for tensor in tensors if tensor not in view.outputs]
    session = open_model(with_outputs(with_constant_weights(model), extra))
    return lambda photos: list(session.run(tensors, {INPUT_NAME: photos}))


def _is_corrected(segment: Segment) -> bool:
    """Return whether a segment ends with an INT8 layer whose bias can be shifted."""
    return bool(segment.end) and _is_quantised(segment) and has_bias(segment.nodes[-1], segment.view)


def _is_quantised(segment: Segment) -> bool:
    """Return whether the last layer of a segment reads its weights through a Q/DQ pair."""
    return is_dequantised(segment.view, segment.nodes[-1].input[1])


def has_bias(node: Any, view: GraphView) -> bool:
    """Return whether a layer has a bias of one number per channel, or can be given one."""
    if node.op_type == "MatMul":
        return bias_of(node, view) is not None
    if node.op_type == "Gemm" and attribute(node, "beta", 1.0) != 1.0:
        return False
    if len(node.input) < 3 or not node.input[2]:
        return True
    return node.input[2] in view.constants and view.array(node.input[2]).size == _channels(node, view)


def bias_of(node: Any, view: GraphView) -> tuple[Any, int] | None:
    """Return the node that adds a layer's bias and the index of its input: the Add after a MatMul; None without one."""
    if node.op_type != "MatMul":
        return (node, 2) if len(node.input) > 2 and node.input[2] else None
    readers = view.readers.get(node.output[0], [])
    if len(readers) != 1 or readers[0].node.op_type != "Add" or node.output[0] in view.outputs:
        return None
    index = 1 - readers[0].index
    name = readers[0].node.input[index]
    shape = view.shape(name) if name in view.constants else None
    if shape and int(np.prod(shape)) == shape[-1] == _channels(node, view):  # type: ignore[arg-type]
        return readers[0].node, index
    return None


def _channels(node: Any, view: GraphView) -> int:
    # The weights may be behind a Q/DQ pair, which preserves their shape.
    shape = view.shape(node.input[1]) or ()
    size = shape[channel_axis(node, len(shape))] if shape else None
    groups = int(attribute(node, "group", 1)) if node.op_type == "ConvTranspose" else 1
    return int(size or 0) * groups


def _channel_means(array: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean of each channel: float64 (channels,)."""
    others = tuple(other for other in range(array.ndim) if other != axis)
    return np.asarray(array.mean(axis=others, dtype=np.float64))
