"""Looks up types, shapes and neighbours of tensors in ONNX graphs of other programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView

TRANSPARENT = ("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Dropout")
"""Operators that do not change the values of their first input, apart from rounding."""


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Return the sizes of a ValueInfoProto, 0 for those that are not fixed; None if its shape is not given."""
    kind = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type" or not kind.HasField("shape"):
        return None
    return tuple(max(0, size.dim_value) for size in kind.shape.dim)


def dtype_of(value: Any) -> str:
    """Return numpy's name of the type of a ValueInfoProto's elements: "float32"; "" if numpy has none."""
    from onnx import helper

    try:
        return str(np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)).name)
    except (KeyError, ValueError, TypeError):
        return ""


def described(value: Any) -> str:
    """Return a ValueInfoProto in words, like "images float32 (?, 3, 224, 224)"."""
    shape = shape_of(value)
    form = value.type.WhichOneof("value")
    if form != "tensor_type":
        return f"{value.name} ({(form or 'unknown').replace('_type', '')})"
    sizes = "of unknown shape" if shape is None else f"({', '.join(str(size or '?') for size in shape)})"
    return f"{value.name} {dtype_of(value)} {sizes}".replace("  ", " ")


def needed_nodes(view: GraphView, tensor: str) -> list[Any]:
    """Return the nodes that compute a tensor, in the order of the graph."""
    needed: set[int] = set()
    stack = [tensor]
    while stack:
        node = view.producer.get(stack.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            stack.extend(node.input)
    return [node for node in view.nodes if id(node) in needed]


def before(view: GraphView, tensor: str, operators: tuple[str, ...] = TRANSPARENT) -> Iterator[str]:
    """Yield a tensor, and the first input of each node before it as long as the nodes have these operators."""
    yield tensor
    while (node := view.producer.get(tensor)) is not None and node.op_type in operators and node.input:
        tensor = node.input[0]
        yield tensor


def constant_values(view: GraphView, tensor: str) -> np.ndarray | None:
    """Return the values of a constant; None if the tensor is none."""
    for name in before(view, tensor, ("Identity",)):
        if name in view.constants:
            return view.array(name)
    return None


def quantisation(view: GraphView, node: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return scale and zero point of a QuantizeLinear or DequantizeLinear; None if they are not constant."""
    scale = constant_values(view, node.input[1])
    if scale is None:
        return None
    if len(node.input) < 3 or not node.input[2]:
        return scale, np.zeros(scale.shape, np.uint8)
    zero_point = constant_values(view, node.input[2])
    return None if zero_point is None else (scale, zero_point)


def content_with_outputs(model: Any, names: list[str]) -> bytes:
    """Return a serialised ModelProto whose outputs are these tensors, of any type and shape."""
    graph = model.graph
    kinds = {value.name: value for value in (*graph.output, *graph.value_info)}
    own = [type(value).FromString(value.SerializeToString()) for value in graph.output]
    asked = [kinds[name].SerializeToString() if name in kinds else None for name in names]
    del graph.output[:]
    try:
        for name, content in zip(names, asked, strict=True):
            value = graph.output.add()
            if content is not None:
                value.ParseFromString(content)
            value.name = name
        result: bytes = model.SerializeToString()
    finally:
        del graph.output[:]
        graph.output.extend(own)
    return result
