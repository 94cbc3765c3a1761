"""Counts the multiply-adds of any ONNX graph: standard operators and ONNX Runtime's fused operators."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtpoets.convert.graph.graph_view import GraphView, attribute, multiply_adds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_RUNTIME = ("com.microsoft", "com.ms.internal.nhwc")
"""Domains of ONNX Runtime, whose graph optimiser writes nodes of them."""

_STANDARD_FORM: dict[str, tuple[str, int]] = {
    **{name: (name, 1) for name in ("Conv", "ConvTranspose", "Gemm", "MatMul")},
    **dict.fromkeys(("ConvInteger", "FusedConv", "NhwcFusedConv"), ("Conv", 1)),
    "QLinearConv": ("Conv", 3),
    **dict.fromkeys(
        ("MatMulInteger", "FusedMatMul", "TransposeMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"),
        ("MatMul", 1),
    ),
    "QLinearMatMul": ("MatMul", 3),
    "FusedGemm": ("Gemm", 1),
    "QGemm": ("Gemm", 3),
}
"""Operators that multiply by weights: the standard operator with the same work, and the input index of the weights."""

_SAME_SHAPE = (
    *("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu"),
    *("QLinearSoftmax", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "BiasAdd"),
)
"""Fused operators whose output has the shape of their first input; their work is negligible."""

_UNCOUNTED = ("If", "Loop", "Scan", "LSTM", "GRU", "RNN", "Einsum", "Attention", "DeformConv")
"""Standard operators that contain multiply-adds which are not counted."""

_KEPT = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides", "transA", "transB", "output_padding")


@dataclass(frozen=True)
class WeightedNode:
    """A node that multiplies by weights, as the standard operator with the same work, and its multiply-adds.

    `multiply_adds` is for one photo, 0 if the shapes are unknown.
    """

    node: Any
    multiply_adds: int


def all_nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph and of its subgraphs."""
    for node in graph.node:
        yield node
        for inner in _subgraphs(node):
            yield from all_nodes(inner)


def operator_name(node: Any) -> str:
    """Return an operator's name, with its domain unless that is the standard one: "com.microsoft.FusedConv"."""
    domain = "" if node.domain in ("", "ai.onnx") else node.domain
    return f"{domain}.{node.op_type}" if domain else str(node.op_type)


def view_of_any(model: Any) -> GraphView:
    """Return a view of any graph that can be parsed. Fused operators become standard ones, so that shapes are known."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.domain in _RUNTIME and node.op_type in _SAME_SHAPE and node.input and node.output:
            first, out = node.input[0], node.output[0]
            node.Clear()
            node.op_type = "Identity"
            node.input.append(first)
            node.output.append(out)
        elif node.domain in _RUNTIME and node.op_type in _STANDARD_FORM and not attribute(node, "channels_last", 0):
            node.CopyFrom(_standard(node) or node)
    try:
        view = GraphView(copy)
        view.shape_for_one_photo("")
    except Exception:  # noqa: BLE001 - shape inference raises any type; without it, only the file's own shapes are used
        view = GraphView(copy)
        values = (*copy.graph.input, *copy.graph.output, *copy.graph.value_info)
        types = {value.name: value.type.tensor_type for value in values}
        view.__dict__.update(_types=types, _types_of_one_photo=types)
    return view


def weighted_nodes(view: GraphView, model: Any) -> tuple[list[WeightedNode], Mapping[str, int]]:
    """Return the nodes of a graph that multiply by weights, and the number of uncounted nodes by operator."""
    weighted, uncounted = [], Counter[str]()
    for node in model.graph.node:
        standard = _standard(node)
        if standard is not None:
            weighted.append(WeightedNode(standard, _cost(view, standard)))
        elif _may_multiply(node):
            uncounted[operator_name(node)] += 1
        for graph in _subgraphs(node):
            # How often a body runs is unknown.
            bodies = (inner for inner in all_nodes(graph) if _standard(inner) is not None or _may_multiply(inner))
            uncounted.update(operator_name(inner) for inner in bodies)
    return weighted, dict(sorted(uncounted.items(), key=lambda item: (-item[1], item[0])))


def _subgraphs(node: Any) -> list[Any]:
    return [graph for entry in node.attribute for graph in (entry.g, *entry.graphs)]


def _is_standard(node: Any) -> bool:
    return node.domain in ("", "ai.onnx")


def _may_multiply(node: Any) -> bool:
    """Return whether a node without a known standard form may contain multiply-adds."""
    from onnx import defs

    if _is_standard(node):
        return node.op_type in _UNCOUNTED or not defs.has(node.op_type)
    return not (node.domain in _RUNTIME and node.op_type in _SAME_SHAPE)


def _standard(node: Any) -> Any:
    """Return the standard operator with the same work as a node; None if there is none."""
    import onnx

    name, index = _STANDARD_FORM.get(node.op_type, ("", 0))
    if not (_is_standard(node) or node.domain in _RUNTIME):
        return None
    if not name or len(node.input) <= index or not node.output:
        return None
    if name == "MatMul" and attribute(node, "transB", 0):
        name = "Gemm"
    standard = onnx.NodeProto(
        op_type=name, name=node.name, input=[node.input[0], node.input[index]], output=node.output[:1]
    )
    standard.attribute.extend(entry for entry in node.attribute if entry.name in _KEPT)
    return standard


def _cost(view: GraphView, node: Any) -> int:
    try:
        return multiply_adds(view, node)
    except (IndexError, TypeError, ValueError):  # weights without axes, attributes of another type
        return 0
