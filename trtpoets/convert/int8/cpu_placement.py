"""Decides which tensors are integers in the CPU form of INT8, so that ONNX Runtime fuses the network without gaps.

ONNX Runtime replaces an operator by an integer kernel if every input is behind a DequantizeLinear and its output before
a QuantizeLinear. So each tensor is either an integer for all its readers or not at all, and every operator between two
integer layers that has an integer kernel uses it. A ReLU or a Clip from 0 after a layer disappears into the layer's
output: the range starts at 0 and ends at or below the limit. Operators without an integer kernel stay in float, between
a DequantizeLinear and a QuantizeLinear.

Weights: on processors with AVX2 or AVX-512 but without VNNI, ONNX Runtime adds two products of 8 bits in 16 bits, which
saturate. They never do if two weights are together at most 128: 255 x 128 = 32,640 < 32,768. So weights are -64 to 64
(`PAIRED_LEVELS`), and every processor computes the same integers. Depthwise kernels widen each product to 32 bits, so
depthwise weights are -127 to 127.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.convert.graph.graph_view import MATMULS, GraphView, attribute, channel_axis, clip_bounds
from trtpoets.convert.int8.placement import (
    CARRIERS,
    LEVELS,
    Placement,
    QuantisedInput,
    QuantisedWeight,
    carried,
    is_matrix_vector,
)
from trtpoets.core.errors import ConversionFailed

if TYPE_CHECKING:
    from onnx import NodeProto

PAIRED_LEVELS = 64
"""Largest weight where two products are added in 16 bits."""

_SCALING = {"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid"}
"""Operators with an integer kernel whose output has a scale of its own."""

_SAME_SCALE = (CARRIERS - {"Concat"}) | {"MaxPool"}
"""Operators that only move or select values, so that their output has the scale of their input."""


def cpu_placement_in(
    view: GraphView, keep_float: Mapping[str, str] | None = None, without_range: Collection[str] = ()
) -> Placement:
    """Return which tensors and weights of a graph become integers.

    `keep_float` maps layers that stay in float to the reason; `without_range` are tensors that cannot become integers.
    The first tensor of each group of `same_scale` determines the scale of the others. Raises ConversionFailed if no
    layer can become INT8.
    """
    in_float = {**_reasons(view, without_range), **(keep_float or {})}
    weighted = view.weighted()
    layers = {node.name: node for node in weighted if node.name not in in_float}
    if not weighted or not (layers or keep_float or without_range):
        raise ConversionFailed(
            "the network has no convolution and no matrix product before the last layer, so no layer can become INT8",
            hint="use FP16: trtpoets quantize NAME --precision fp16",
            code="TP3200",
        )
    integers = _integer_tensors(view, layers, without_range)
    inputs = tuple(
        QuantisedInput(node.name, index, tensor)
        for node in view.nodes
        for index, tensor in enumerate(node.input)
        if tensor in integers
    )
    weights = tuple(
        QuantisedWeight(
            node.name,
            node.input[1],
            channel_axis(node, len(view.constants[node.input[1]].dims)),
            LEVELS if is_depthwise(view, node) else PAIRED_LEVELS,
            node.op_type != "MatMul",
        )
        for node in layers.values()
    )
    names = {node.name for node in weighted}
    return Placement(
        inputs, weights, _groups(view, integers), {name: why for name, why in in_float.items() if name in names}
    )


def is_depthwise(view: GraphView, node: Any) -> bool:
    """Return whether each output channel of a convolution reads one input channel, and each is read once."""
    shape = view.shape(node.input[1]) or ()
    groups = int(attribute(node, "group", 1))
    return node.op_type == "Conv" and groups > 1 and len(shape) > 1 and shape[1] == 1 and shape[0] == groups


def largest_pair(weights: np.ndarray, axis: int) -> int:
    """Return the largest sum of the magnitudes of two integer weights of one output channel."""
    rows = np.abs(np.moveaxis(weights, axis, 0).astype(np.int64)).reshape(weights.shape[axis], -1)
    return int(np.sort(rows, axis=1)[:, -2:].sum(axis=1).max()) if rows.size else 0


def end_of(view: GraphView, tensor: str) -> str:
    """Return the tensor after the ReLUs that follow an operator and read nothing else; the tensor itself if none do."""
    while tensor not in view.outputs:
        readers = view.readers.get(tensor, [])
        if len(readers) != 1 or readers[0].index or not clips_at_zero(view, readers[0].node):
            break
        tensor = readers[0].node.output[0]
    return tensor


def clips_at_zero(view: GraphView, node: Any) -> bool:
    """Return whether a node is a ReLU or a Clip from 0 with a constant upper limit, or none."""
    if node.op_type == "Clip":
        bounds = clip_bounds(view, node)
        return bounds is not None and bounds[0] == 0.0
    return bool(node.op_type == "Relu")


def _reasons(view: GraphView, without_range: Collection[str]) -> dict[str, str]:
    """Return the layers with weights that stay in float, and why."""
    reasons = {}
    weighted = view.weighted()
    axes: dict[str, int] = {}
    for node in weighted:
        shape = [int(size) for size in view.constants[node.input[1]].dims]
        axis = channel_axis(node, len(shape))
        bias = node.input[2] if len(node.input) > 2 else ""
        dead = [name for name in (node.input[0], end_of(view, node.output[0])) if name in without_range]
        if node is weighted[-1] and is_matrix_vector(view, node):
            reasons[node.name] = "a matrix-vector product for each photo, next to the scores"
        elif node.op_type == "ConvTranspose":
            reasons[node.name] = "ONNX Runtime has no integer kernel for it"
        elif axes.setdefault(node.input[1], axis) != axis:
            reasons[node.name] = "another layer has the same weights with another output axis"
        elif bias and (bias not in view.constants or view.array(bias).size != shape[axis]):
            reasons[node.name] = "its bias is not one constant per channel"
        elif node.op_type in MATMULS and (
            len(shape) != 2
            or attribute(node, "transA", 0)
            or attribute(node, "alpha", 1.0) != 1.0
            or attribute(node, "beta", 1.0) != 1.0
        ):
            reasons[node.name] = "it transposes or scales its input"
        elif dead:
            reasons[node.name] = f"{dead[0]} is 0 for every calibration photo"
    return reasons


def _integer_tensors(view: GraphView, layers: Mapping[str, NodeProto], without_range: Collection[str]) -> set[str]:
    """Return the computed tensors that become integers."""
    wanted = {node.input[0] for node in layers.values()}
    ready = {name for name in wanted if name not in without_range}
    photos = {node.output[0] for node in view.nodes if node.op_type == "DequantizeLinear"}
    ready |= photos
    required = set()
    for node in view.nodes:
        ends = [end_of(view, name) for name in node.output if name]
        if node.name in layers:
            ready.update(ends)
            if node.op_type != "MatMul":  # ONNX Runtime has an integer MatMul with a float output
                required.update(ends)
        elif _has_kernel(view, node) and all(name in ready for name in _data(view, node)):
            ready.update(end for end in _ends(view, node) if end not in without_range)
    for node in reversed(view.nodes):
        if node.name in layers or wanted.isdisjoint(_ends(view, node)) or not _has_kernel(view, node):
            continue
        if all(name in ready for name in _data(view, node)):
            wanted.update(_data(view, node))
    return ((ready & wanted) | required) - photos - set(view.outputs)


def _data(view: GraphView, node: Any) -> list[str]:
    """Return the inputs of an operator that must be integers."""
    return carried(node) if node.op_type in _SAME_SCALE else view.activations(node)


def _ends(view: GraphView, node: Any) -> list[str]:
    """Return the tensors that hold the results of an operator as integers, behind ReLUs that become part of it."""
    outputs = [name for name in node.output if name]
    return [end_of(view, name) for name in outputs] if node.op_type in _SCALING else outputs


def _has_kernel(view: GraphView, node: Any) -> bool:
    """Return whether ONNX Runtime computes an operator without weights in integers."""
    data = view.activations(node)
    if not data or not all(map(view.is_float, node.output)):
        return False
    if node.op_type in _SAME_SCALE:
        rest = node.input[len(carried(node)) :]
        return all(name in data for name in carried(node)) and all(name in view.constants for name in rest if name)
    if node.op_type in ("Add", "Mul"):
        constants = [name for name in node.input if name in view.constants]
        return all(view.array(name).size == 1 for name in constants)
    if node.op_type == "Concat":
        return len(data) == len(node.input)
    return node.op_type in _SCALING or clips_at_zero(view, node)


def _groups(view: GraphView, integers: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """Return the tensors that share one scale; the first of each group is the one that others are taken from."""
    group_of: dict[str, list[str]] = {}
    for node in view.nodes:
        if node.op_type not in _SAME_SCALE or not node.input or node.input[0] not in integers:
            continue
        for name in node.output:
            if name in integers:
                group = group_of.setdefault(node.input[0], [node.input[0]])
                group.append(name)
                group_of[name] = group
    return tuple(dict.fromkeys(tuple(group) for group in group_of.values()))
