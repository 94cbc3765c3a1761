"""The multiply-adds of any ONNX graph: of standard operators, of ONNX Runtime's fused ones, and what is not counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtpoets.convert.graph.graph_view import GraphView, attribute, multiply_adds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_RUNTIME = ("com.microsoft", "com.ms.internal.nhwc")
"""ONNX Runtime's domains: its graph optimiser writes such nodes."""

_PRODUCTS: dict[str, tuple[str, int]] = {
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
"""Operators that multiply by weights: the standard one that does as much work, and which input the weights are."""

_SAME_SHAPE = (
    *("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu"),
    *("QLinearSoftmax", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "BiasAdd"),
)
"""Fused operators whose output has the shape of their first input; their work is not worth counting."""

_UNCOUNTED = ("If", "Loop", "Scan", "LSTM", "GRU", "RNN", "Einsum", "Attention", "DeformConv")
"""Standard operators with products in them that are not counted."""

_KEPT = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides", "transA", "transB", "output_padding")


@dataclass(frozen=True)
class Product:
    """A node that multiplies by weights, as the standard operator that does the same work, and its multiply-adds.

    `multiply_adds` is for one photo, 0 where the shapes are not known.
    """

    node: Any
    multiply_adds: int


def all_nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph, and of the graphs in its nodes."""
    for node in graph.node:
        yield node
        for inner in _inner(node):
            yield from all_nodes(inner)


def operator_name(node: Any) -> str:
    """An operator with its domain, where that is not the standard one: "com.microsoft.FusedConv"."""
    domain = "" if node.domain in ("", "ai.onnx") else node.domain
    return f"{domain}.{node.op_type}" if domain else str(node.op_type)


def view_of_any(model: Any) -> GraphView:
    """A view of any graph that parses. Fused operators stand in it as standard ones, so that shapes are told."""
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
        elif node.domain in _RUNTIME and node.op_type in _PRODUCTS and not attribute(node, "channels_last", 0):
            node.CopyFrom(_standard(node) or node)
    try:
        view = GraphView(copy)
        view.shape("")
    except Exception:  # noqa: BLE001 - shape inference raises what it likes; without it, what the file tells is left
        view = GraphView(copy)
        values = (*copy.graph.input, *copy.graph.output, *copy.graph.value_info)
        view.__dict__["_types"] = {value.name: value.type.tensor_type for value in values}
    return view


def products(view: GraphView, model: Any) -> tuple[list[Product], Mapping[str, int]]:
    """The products of a graph, and how many nodes of other operators are not counted, by name."""
    found, uncounted = [], Counter[str]()
    for node in model.graph.node:
        standard = _standard(node)
        if standard is not None:
            found.append(Product(standard, _cost(view, standard)))
        elif _may_multiply(node):
            uncounted[operator_name(node)] += 1
        for graph in _inner(node):
            # How often a body runs is not known.
            bodies = (each for each in all_nodes(graph) if _standard(each) is not None or _may_multiply(each))
            uncounted.update(operator_name(each) for each in bodies)
    return found, dict(sorted(uncounted.items(), key=lambda each: (-each[1], each[0])))


def _inner(node: Any) -> list[Any]:
    return [graph for each in node.attribute for graph in (each.g, *each.graphs)]


def _is_standard(node: Any) -> bool:
    return node.domain in ("", "ai.onnx")


def _may_multiply(node: Any) -> bool:
    """Whether a node that is no known product may be one all the same."""
    from onnx import defs

    if _is_standard(node):
        return node.op_type in _UNCOUNTED or not defs.has(node.op_type)
    return not (node.domain in _RUNTIME and node.op_type in _SAME_SHAPE)


def _standard(node: Any) -> Any:
    """The standard operator that does a node's work; None where no product is known to be in it."""
    import onnx

    name, index = _PRODUCTS.get(node.op_type, ("", 0))
    if not (_is_standard(node) or node.domain in _RUNTIME):
        return None
    if not name or len(node.input) <= index or not node.output:
        return None
    if name == "MatMul" and attribute(node, "transB", 0):
        name = "Gemm"
    made = onnx.NodeProto(
        op_type=name, name=node.name, input=[node.input[0], node.input[index]], output=node.output[:1]
    )
    made.attribute.extend(each for each in node.attribute if each.name in _KEPT)
    return made


def _cost(view: GraphView, node: Any) -> int:
    try:
        return multiply_adds(view, node)
    except (IndexError, TypeError, ValueError):  # weights without axes, attributes of another type
        return 0
