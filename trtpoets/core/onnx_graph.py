"""Reads the nodes of an ONNX file and finds those that compute in FP32, without the `onnx` package.

A device does not have that package. Field numbers are those of onnx.proto (github.com/onnx/onnx). Subgraphs in
attributes are not read: trtpoets writes no networks with subgraphs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Iterator, Mapping, Sequence

from trtpoets.core.protobuf import fields, message, text

FP32_KEY = "trtpoets.fp32_nodes"
"""Metadata key of an INT8 ONNX file: a JSON list of the names of the nodes that must not compute in FP16."""

MIXED_OPSET = 23
"""The first opset in which data and scale of a QuantizeLinear may have different types."""

_GRAPH, _METADATA = 7, 14  # ModelProto
_METADATA_KEY, _METADATA_VALUE = 1, 2  # StringStringEntryProto
_NODE, _INITIALIZER, _GRAPH_INPUT = 1, 5, 11  # GraphProto
_INPUT, _OUTPUT, _NAME, _OPERATOR, _ATTRIBUTE = 1, 2, 3, 4, 5  # NodeProto
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER = 1, 3  # AttributeProto
_TENSOR_TYPE, _TENSOR_NAME = 2, 8  # TensorProto
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _ELEMENT_TYPE = 1, 2, 1, 1  # ValueInfoProto, TypeProto, TypeProto.Tensor
_FLOAT, _FLOAT16 = 1, 10  # TensorProto.FLOAT, TensorProto.FLOAT16
_EMPTY = memoryview(b"")


@dataclass(frozen=True)
class Node:
    """A node of a graph. `numbers` are its integer attributes by name, such as "to" of a Cast.

    The name of an unnamed node is that of its first output, as in TensorRT's parser.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, int]


@dataclass(frozen=True)
class OnnxGraph:
    """The nodes of an ONNX file in its order, the element types of its inputs and constants by name, and its metadata.

    An element type is a number of TensorProto.DataType.
    """

    nodes: tuple[Node, ...]
    types: Mapping[str, int]
    metadata: Mapping[str, str]


def read_graph(content: bytes) -> OnnxGraph:
    """Read the graph of an ONNX file. Raises ValueError if `content` is not an ONNX file."""
    nodes: list[Node] = []
    types: dict[str, int] = {}
    metadata: dict[str, str] = {}
    for number, value in fields(memoryview(content)):
        if number == _METADATA:
            entry = dict(fields(message(value)))
            metadata[text(entry.get(_METADATA_KEY, b""))] = text(entry.get(_METADATA_VALUE, b""))
        if number != _GRAPH:
            continue
        for field, part in fields(message(value)):
            if field == _NODE:
                nodes.append(_node(message(part)))
            elif field == _INITIALIZER:
                tensor = dict(fields(message(part)))
                types[text(tensor.get(_TENSOR_NAME, b""))] = _integer(tensor.get(_TENSOR_TYPE, 0))
            elif field == _GRAPH_INPUT:
                name, element_type = _input_type(message(part))
                types[name] = element_type
    return OnnxGraph(tuple(nodes), types, metadata)


def _input_type(content: memoryview) -> tuple[str, int]:
    """The name and the element type of a ValueInfoProto."""
    value = dict(fields(content))
    type_ = dict(fields(message(value.get(_VALUE_TYPE, _EMPTY))))
    tensor = dict(fields(message(type_.get(_TYPE_TENSOR, _EMPTY))))
    return text(value.get(_VALUE_NAME, b"")), _integer(tensor.get(_ELEMENT_TYPE, 0))


def fp32_nodes(graph: OnnxGraph) -> tuple[str, ...]:
    """The names of the nodes that must stay in FP32 when the builder may use FP16.

    An INT8 file lists them in its metadata (FP32_KEY), because all its nodes outside Q/DQ pairs are FP32. In an FP16
    file they are the nodes whose inputs are FP32, between casts. A file without the list and without FP16 has none.
    Raises ValueError if the metadata is not a list of names.
    """
    if FP32_KEY in graph.metadata:
        names = json.loads(graph.metadata[FP32_KEY])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"the metadata {FP32_KEY} is not a list of names")
        return tuple(names)
    if _FLOAT16 not in (*graph.types.values(), *(node.numbers.get("to") for node in graph.nodes)):
        return ()
    return tuple(_typed_fp32(graph))


def marked_fp32(names: Sequence[str]) -> dict[str, str]:
    """The metadata entry of an INT8 file that lists the nodes that must not compute in FP16."""
    return {FP32_KEY: json.dumps(list(names))}


def _typed_fp32(graph: OnnxGraph) -> Iterator[str]:
    """Yield the names of the nodes that compute in FP32 according to the types of their inputs, casts excepted."""
    types = dict(graph.types)
    for node in graph.nodes:
        float_types = [types[name] for name in node.inputs if types.get(name) in (_FLOAT, _FLOAT16)]
        if node.operator == "Cast":
            element_type = node.numbers.get("to", 0)
        elif node.operator == "DequantizeLinear":
            element_type = node.numbers.get("output_dtype", 0) or types.get((*node.inputs, "", "")[1], 0)
        else:
            element_type = float_types[0] if float_types and node.operator != "QuantizeLinear" else 0
            if element_type == _FLOAT:
                yield node.name
        types.update(dict.fromkeys(node.outputs, element_type))


def _node(content: memoryview) -> Node:
    """The node of a NodeProto."""
    texts: dict[int, list[str]] = {}
    numbers: dict[str, int] = {}
    for number, value in fields(content):
        if number in (_INPUT, _OUTPUT, _NAME, _OPERATOR):
            texts.setdefault(number, []).append(text(value))
        elif number == _ATTRIBUTE:
            attribute = dict(fields(message(value)))
            integer = attribute.get(_ATTRIBUTE_INTEGER)
            if isinstance(integer, int):
                numbers[text(attribute.get(_ATTRIBUTE_NAME, b""))] = integer
    name, operator = (next(iter(texts.get(number, [""]))) for number in (_NAME, _OPERATOR))
    outputs = tuple(texts.get(_OUTPUT, ()))
    return Node(name or "".join(outputs[:1]), operator, tuple(texts.get(_INPUT, ())), outputs, numbers)


def _integer(value: object) -> int:
    """`value` if it is an integer, else 0."""
    return value if isinstance(value, int) else 0
