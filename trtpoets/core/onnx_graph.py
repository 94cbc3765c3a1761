"""The nodes of an ONNX file, and which of them compute in FP32, read without the `onnx` package: a device lacks it.

Field numbers are those of onnx.proto (github.com/onnx/onnx). Graphs inside attributes are not read: no network of ours
has any.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Iterator, Mapping, Sequence

from trtpoets.core.protobuf import fields, message, text

FP32_KEY = "trtpoets.fp32_nodes"
"""Metadata of an INT8 ONNX file: the names of the nodes that must not compute in FP16, a JSON list."""

MIXED_OPSET = 23
"""The first operator set in which data and scale of a QuantizeLinear may have different types."""

_GRAPH, _METADATA = 7, 14
_NODE, _INITIALIZER, _GRAPH_INPUT = 1, 5, 11
_INPUT, _OUTPUT, _NAME, _OPERATOR, _ATTRIBUTE = 1, 2, 3, 4, 5
_FLOAT, _FLOAT16 = 1, 10  # TensorProto.FLOAT, TensorProto.FLOAT16


@dataclass(frozen=True)
class Node:
    """A node of a graph. `numbers` are its integer attributes by name, as "to" of a Cast.

    A node without a name is called by its first output, as TensorRT's parser calls it.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, int]


@dataclass(frozen=True)
class Graph:
    """The nodes in the file's order, and the element types (TensorProto.DataType) of inputs and constants by name."""

    nodes: tuple[Node, ...]
    types: Mapping[str, int]
    metadata: Mapping[str, str]


def graph_of(content: bytes) -> Graph:
    """Read the graph of an ONNX file. Raises ValueError where `content` is none."""
    nodes: list[Node] = []
    types: dict[str, int] = {}
    metadata: dict[str, str] = {}
    for number, value in fields(memoryview(content)):
        if number == _METADATA:
            entry = dict(fields(message(value)))
            metadata[text(entry.get(1, b""))] = text(entry.get(2, b""))
        if number != _GRAPH:
            continue
        for each, part in fields(message(value)):
            if each == _NODE:
                nodes.append(_node(message(part)))
            elif each == _INITIALIZER:
                tensor = dict(fields(message(part)))
                types[text(tensor.get(8, b""))] = _whole(tensor.get(2, 0))
            elif each == _GRAPH_INPUT:
                info = dict(fields(message(part)))
                kind = dict(fields(message(info.get(2, memoryview(b"")))))
                tensor = dict(fields(message(kind.get(1, memoryview(b"")))))
                types[text(info.get(1, b""))] = _whole(tensor.get(1, 0))
    return Graph(tuple(nodes), types, metadata)


def fp32_nodes(graph: Graph) -> tuple[str, ...]:
    """The names of the nodes that a builder which may use FP16 must leave in FP32.

    The file says which: an INT8 file names them (FP32_KEY), since everything outside its Q/DQ pairs is FP32 in the
    file; in an FP16 file they are those that the file itself computes in FP32, between casts. A file that computes
    nothing in FP16 and names nothing has none. Raises ValueError for a list that is none.
    """
    if FP32_KEY in graph.metadata:
        names = json.loads(graph.metadata[FP32_KEY])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{FP32_KEY} is no list of names")
        return tuple(names)
    if _FLOAT16 not in (*graph.types.values(), *(each.numbers.get("to") for each in graph.nodes)):
        return ()
    return tuple(_typed_fp32(graph))


def marked_fp32(names: Sequence[str]) -> dict[str, str]:
    """The metadata by which an INT8 file names the nodes that must not compute in FP16."""
    return {FP32_KEY: json.dumps(list(names))}


def _typed_fp32(graph: Graph) -> Iterator[str]:
    types = dict(graph.types)
    for node in graph.nodes:
        found = [types[name] for name in node.inputs if types.get(name) in (_FLOAT, _FLOAT16)]
        if node.operator == "Cast":
            kind = node.numbers.get("to", 0)
        elif node.operator == "DequantizeLinear":
            kind = node.numbers.get("output_dtype", 0) or types.get((*node.inputs, "", "")[1], 0)
        else:
            kind = found[0] if found and node.operator != "QuantizeLinear" else 0
            if kind == _FLOAT:
                yield node.name
        types.update(dict.fromkeys(node.outputs, kind))


def _node(content: memoryview) -> Node:
    texts: dict[int, list[str]] = {}
    numbers: dict[str, int] = {}
    for number, value in fields(content):
        if number in (_INPUT, _OUTPUT, _NAME, _OPERATOR):
            texts.setdefault(number, []).append(text(value))
        elif number == _ATTRIBUTE:
            inside = dict(fields(message(value)))
            whole = inside.get(3)  # AttributeProto.i
            if isinstance(whole, int):
                numbers[text(inside.get(1, b""))] = whole
    name, operator = (next(iter(texts.get(number, [""]))) for number in (_NAME, _OPERATOR))
    outputs = tuple(texts.get(_OUTPUT, ()))
    return Node(name or "".join(outputs[:1]), operator, tuple(texts.get(_INPUT, ())), outputs, numbers)


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
