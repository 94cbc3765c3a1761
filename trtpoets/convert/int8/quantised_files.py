"""Decides whether a file that its producer quantised already can be used as it is.

TensorRT accepts QuantizeLinear and DequantizeLinear with constant, positive scales and zero points of 0: one scale per
tensor for activations, one scale per tensor or per output channel for weights. It rejects ONNX Runtime's and
TensorFlow Lite's other forms (onnx-tensorrt, onnxOpImporters.cpp, QuantDequantLinearHelper). INT32 constants, the
biases of ONNX Runtime's files, are accepted: `own_scales` replaces them by the same numbers in float.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import QUANTISERS, WEIGHTED, GraphView, attribute, channel_axis

_INT8, _INT32 = 3, 6  # TensorProto.INT8, TensorProto.INT32

INTEGER_OPERATORS = (
    *("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear"),
    *("QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QGemm"),
    *(
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "QLinearWhere",
    ),
)
"""Operators on integers that TensorRT does not have."""

_NAMED = 3
"""Most nodes that a reason names."""


def is_quantised(model: Any) -> bool:
    """Return whether a ModelProto has Q/DQ nodes or integer operators."""
    return any(node.op_type in QUANTISERS + INTEGER_OPERATORS for node in model.graph.node)


def unsuitable_quantisation(
    model: Any, nodes: Sequence[Any] | None = None, skipped: Collection[str] = ()
) -> tuple[str, ...]:
    """Return why TensorRT cannot use a quantised ModelProto as it is; empty if it can, or if it is not quantised.

    `nodes` are those that matter, None for all; Q/DQ nodes that compute a tensor of `skipped` are left out. Each reason
    names up to three nodes. The remedy for all is the same: quantise the float network.
    """
    view = GraphView(model)
    nodes = view.nodes if nodes is None else nodes
    operators = Counter(node.op_type for node in nodes if node.op_type in INTEGER_OPERATORS)
    reasons = [
        f"TensorRT has no operator {name}, which is used by {count:,} node{'s' if count > 1 else ''}"
        for name, count in sorted(operators.items())
    ]
    nodes_of: dict[str, list[str]] = {}
    for node in nodes:
        if node.op_type in QUANTISERS and node.output[0] not in skipped:
            for reason in _problems(view, node):
                nodes_of.setdefault(reason, []).append(node.name or node.output[0])
    for reason, names in nodes_of.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        reasons.append(f"{reason}: {', '.join(names[:_NAMED])}{more}")
    return tuple(reasons)


def _problems(view: GraphView, node: Any) -> list[str]:
    """Return what TensorRT does not accept about a QuantizeLinear or DequantizeLinear."""
    problems: list[str] = []
    inputs = [*node.input, "", ""][:3]
    stored = view.constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
    if stored is not None and stored.data_type == _INT32 and all(name in view.constants for name in inputs if name):
        return problems
    problems += _problems_of_zero_point(view, node, inputs[2])
    if inputs[1] not in view.constants:
        return [*problems, "the scale is computed, not constant"]
    scale = view.array(inputs[1])
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        problems.append("a scale is not positive")
    if attribute(node, "block_size", 0):
        problems.append("a scale applies to a block of values")
    elif scale.size > 1:
        problems += _problems_of_axis(view, node)
    return problems


def _problems_of_zero_point(view: GraphView, node: Any, zero: str) -> list[str]:
    if zero and zero not in view.constants:
        return ["the zero point is computed, not constant"]
    kind = view.element_type(zero) if zero else attribute(node, "output_dtype", 0)
    if not zero and node.op_type == "DequantizeLinear":
        kind = view.element_type(node.input[0])
    if kind != _INT8:
        return [f"the quantised type is {_type_name(kind or 2)}, and TensorRT needs int8"]
    return ["a zero point is not 0"] if zero and view.array(zero).any() else []


def _problems_of_axis(view: GraphView, node: Any) -> list[str]:
    """Return what is wrong with scales per channel: they suit weights only, along the axis of the output channels."""
    source: str = node.input[0]
    producer = view.producer.get(source)
    if producer is not None and producer.op_type == "QuantizeLinear":
        source = producer.input[0]
    if source not in view.constants:
        return ["activations have a scale per channel"]
    rank = len(view.constants[source].dims)
    axis = attribute(node, "axis", 1) % max(rank, 1)
    readers = [reader for name in node.output for reader in view.readers.get(name, ())]
    for reader in readers:
        if reader.node.op_type in WEIGHTED and reader.index == 1 and channel_axis(reader.node, rank) != axis:
            return ["weights have scales along another axis than that of their output channels"]
    return []


def _type_name(kind: int) -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(kind)).lower()
