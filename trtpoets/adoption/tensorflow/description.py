"""Describes frozen graphs and SavedModels by their protobufs. TensorFlow is not imported."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from trtpoets.adoption.description import NetworkFacts, by_number, known_about, model_of, refusal_of, refusal_of_input
from trtpoets.adoption.foreign import Clues
from trtpoets.adoption.tensorflow.frozen_graphs import LARGEST, NAMED_OUTPUTS, NO_OUTPUTS
from trtpoets.convert.graph.onnx_facts import TensorFacts
from trtpoets.core.original import Format
from trtpoets.core.protobuf import Value, fields, message, text
from trtpoets.core.reading import read_bytes

_DTYPES = {
    1: "fp32",
    2: "fp64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    9: "int64",
    10: "bool",
    14: "bf16",
    19: "fp16",
    20: "resource",
}
"""Names of TensorFlow's types (types.proto)."""

_FLOATS = (1, 2, 14, 19)
_VARIABLES = ("VariableV2", "Variable", "VarHandleOp")
_FIRST_LAYERS = ("Conv2D", "DepthwiseConv2dNative", "MatMul", "PartitionedCall", "StatefulPartitionedCall")
"""Operators that end the part of a graph that prepares pixels, and calls of functions."""

_PASSED_ON = ("Softmax", "Sigmoid", "LogSoftmax", "Identity", "Reshape", "Squeeze")
_BY_WEIGHTS = {"BiasAdd": 1, "Add": 1, "AddV2": 1, "MatMul": 2, "Conv2D": 4}
"""Operators whose constant has one value for each class along its last axis, and its number of axes."""

_MAX_NODES = 300_000
"""Maximum number of graph nodes to parse: a node takes about 1,000 bytes of memory, and as few as 2 in the file."""

_MAX_CLUES = 2000
_LONGEST_CHAIN = 50
"""Nodes of one input and one reader that are followed."""

_FIRST = 6
"""Operators behind an input that are named."""


@dataclass(frozen=True)
class _Node:
    """A node of a graph. `attributes` are the messages AttrValue by name."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, memoryview]

    def attribute(self, key: str, number: int) -> Value | None:
        """Return a field of an attribute, such as 6 for a type and 7 for a shape."""
        if key not in self.attributes:
            return None
        return next((value for field, value in fields(self.attributes[key]) if field == number), None)

    @property
    def dtype(self) -> int:
        """TensorFlow's number of the attribute `dtype`, 0 if there is none."""
        value = self.attribute("dtype", 6)
        return value if isinstance(value, int) else 0


def facts_of_graph_def(path: Path) -> NetworkFacts:
    """Describe a frozen graph. Raises ValueError if it is damaged, OSError."""
    nodes = list(_nodes(memoryview(read_bytes(path, LARGEST)), node_field=1))
    taken = {_node_of(name) for node in nodes for name in node.inputs}
    sinks = [node for node in nodes if node.name not in taken and node.operator not in NO_OUTPUTS and node.inputs]
    ends = [node for node in nodes if node.name in NAMED_OUTPUTS] or sinks
    needed = _needed(nodes, [node.name for node in ends])
    counts = [_classes(node, needed) for node in ends]
    shapes = [(None, count) if count else None for count in counts]
    outputs = tuple(TensorFacts(node.name, "fp32", shape) for node, shape in zip(ends, shapes, strict=True))
    inputs = tuple(_placeholder(node) for node in needed if node.operator == "Placeholder")
    return _facts(path, Format.GRAPH_DEF, "", needed, inputs, outputs)


def facts_of_saved_model(path: Path) -> NetworkFacts:
    """Describe a SavedModel, its folder or its protobuf, by the graph with the tag "serve".

    Raises ValueError if it is damaged, OSError.
    """
    content = memoryview(read_bytes(path / "saved_model.pb" if path.is_dir() else path, LARGEST))
    metas = [_fields(message(value)) for number, value in fields(content) if number == 2]
    if not metas:
        raise ValueError("it contains no graph")
    serving = [meta for meta in metas if b"serve" in _tags(meta)] or metas
    meta = serving[0]
    info = _fields(message(meta[1][0])) if 1 in meta else {}
    version = text(info[5][0]) if 5 in info else ""
    signature = _signature(meta)
    inputs, outputs = (_tensors(signature.get(number, [])) for number in (1, 2))
    graph = message(meta[2][0]) if 2 in meta else memoryview(b"")
    nodes = list(_nodes(graph, node_field=1))
    tensors = [text(_last(_entry(value)[1], 1)) for value in signature.get(2, [])]
    needed = _needed(nodes, [_node_of(name) for name in tensors])
    functions = _functions(graph)
    inside = _called(needed, functions)
    writer = f"tensorflow {version}" if version else ""
    return _facts(path, Format.SAVED_MODEL, writer, [*needed, *inside], inputs, outputs)


def _facts(
    path: Path,
    format_: Format,
    writer: str,
    nodes: Sequence[_Node],
    inputs: tuple[TensorFacts, ...],
    outputs: tuple[TensorFacts, ...],
) -> NetworkFacts:
    weights: Counter[str] = Counter()
    for node in nodes:
        size = _size(node)
        if size:
            weights[_DTYPES[node.dtype]] += size
    names = [node.name for node in nodes if node.operator not in ("Const", "NoOp")][:_MAX_CLUES]
    classes = outputs[0].shape[-1] if len(outputs) == 1 and outputs[0].shape else 0
    single = len(inputs) == len(outputs) == 1
    number = classes if isinstance(classes, int) else 0
    clues = Clues(writer, tuple(names))
    model = model_of(path, format_, inputs[0], outputs[0], number, clues) if single else None
    producer, labels, where, sentences = known_about(model, _beginning(nodes))
    return NetworkFacts(
        producer or writer,
        inputs,
        outputs,
        by_number(node.operator for node in nodes),
        dict(weights.most_common()),
        labels,
        where,
        sentences,
        _refused(inputs, outputs),
    )


def _refused(inputs: tuple[TensorFacts, ...], outputs: tuple[TensorFacts, ...]) -> str:
    floats = [tensor for tensor in outputs if tensor.dtype in ("fp32", "fp16", "fp64", "bf16")]
    photos = len(inputs) == 1 and inputs[0].dtype != "string"  # a string is an encoded photo
    return refusal_of(floats, "outputs") or (refusal_of_input(inputs[0]) if photos else "")


def _nodes(content: memoryview, node_field: int) -> Iterator[_Node]:
    """Yield the nodes of a GraphDef (field 1) or of a FunctionDef (field 3)."""
    encoded_nodes = (value for number, value in fields(content) if number == node_field)
    for count, value in enumerate(islice(encoded_nodes, _MAX_NODES + 1)):
        if count == _MAX_NODES:
            raise ValueError(f"it has more than {_MAX_NODES:,} nodes")
        name = operator = ""
        inputs, attributes = [], {}
        for number, part in fields(message(value)):
            if number == 1:
                name = text(part)
            elif number == 2:
                operator = text(part)
            elif number == 3:
                inputs.append(text(part))
            elif number == 5:
                key, attribute = _entry(part)
                attributes[key] = attribute
        yield _Node(name, operator, tuple(inputs), attributes)


def _entry(value: Value) -> tuple[str, memoryview]:
    """Return key and value of an entry of a map."""
    key, content = "", memoryview(b"")
    for number, part in fields(message(value)):
        if number == 1:
            key = text(part)
        elif number == 2:
            content = message(part)
    return key, content


def _fields(content: memoryview) -> dict[int, list[Value]]:
    values_by_field: dict[int, list[Value]] = {}
    for number, value in fields(content):
        values_by_field.setdefault(number, []).append(value)
    return values_by_field


def _last(content: memoryview, number: int) -> Value:
    return _fields(content).get(number, [memoryview(b"")])[-1]


def _tags(meta: Mapping[int, list[Value]]) -> list[bytes]:
    info = _fields(message(meta[1][0])) if 1 in meta else {}
    return [bytes(message(tag)) for tag in info.get(4, [])]


def _signature(meta: Mapping[int, list[Value]]) -> dict[int, list[Value]]:
    """Return the fields of the signature serving_default, else of the first with an input."""
    signatures = dict(_entry(value) for value in meta.get(5, []))
    chosen = {name: _fields(value) for name, value in signatures.items() if not name.startswith("__saved_model")}
    ordered = sorted(chosen.items(), key=lambda item: (item[0] != "serving_default", item[0]))
    return next((value for _, value in ordered if value.get(1)), {})


def _tensors(values: Iterable[Value]) -> tuple[TensorFacts, ...]:
    """Return the inputs or outputs of a signature."""
    tensors = []
    for value in values:
        name, info = _entry(value)
        parts = _fields(info)
        dtype = parts.get(2, [0])[-1]
        shape = _shape(message(parts[3][-1])) if 3 in parts else None
        tensors.append(TensorFacts(name, _DTYPES.get(dtype if isinstance(dtype, int) else 0, "unknown"), shape))
    return tuple(sorted(tensors, key=lambda tensor: tensor.name))


def _shape(content: memoryview) -> tuple[int | str | None, ...] | None:
    """Return the sizes of a TensorShapeProto; None for an unknown rank."""
    sizes: list[int | str | None] = []
    for number, value in fields(content):
        if number == 3 and value:
            return None
        if number == 2:
            size = _fields(message(value)).get(1, [0])[-1]
            known = size if isinstance(size, int) and size < 1 << 31 else None  # -1 is stored as 2**64 - 1
            sizes.append(known)
    return tuple(sizes)


def _placeholder(node: _Node) -> TensorFacts:
    shape = node.attribute("shape", 7)
    sizes = _shape(message(shape)) if shape is not None else None
    return TensorFacts(node.name, _DTYPES.get(node.dtype, "unknown"), sizes)


def _needed(nodes: Sequence[_Node], names: Iterable[str]) -> list[_Node]:
    """Return the nodes that these need, in the order of the graph."""
    by_name = {node.name: node for node in nodes}
    needed: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in by_name and name not in needed:
            needed.add(name)
            pending += map(_node_of, by_name[name].inputs)
    return [node for node in nodes if node.name in needed]


def _node_of(tensor: str) -> str:
    return tensor.lstrip("^").split(":", maxsplit=1)[0]


def _functions(graph: memoryview) -> dict[str, memoryview]:
    """Return the functions of a graph by their names."""
    libraries = [message(value) for number, value in fields(graph) if number == 2]
    functions = {}
    for library in libraries:
        for number, value in fields(library):
            if number == 1:
                definition = message(value)
                functions[text(_last(message(_last(definition, 1)), 1))] = definition
    return functions


def _called(nodes: Iterable[_Node], functions: Mapping[str, memoryview]) -> list[_Node]:
    """Return the nodes of the functions that these nodes call, and so on."""
    called_nodes: list[_Node] = []
    done: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        called = node.attribute("f", 10)  # AttrValue.func
        name = text(_last(message(called), 1)) if called is not None else node.operator
        if name in functions and name not in done:
            done.add(name)
            inside = list(_nodes(functions[name], node_field=3))
            if len(called_nodes) + len(inside) > _MAX_NODES:
                raise ValueError(f"it has more than {_MAX_NODES:,} nodes")
            called_nodes += inside
            pending += inside
    return called_nodes


def _size(node: _Node) -> int:
    """Return the number of float values of a constant or variable, 0 for other nodes."""
    if node.dtype not in _FLOATS:
        return 0
    if node.operator in _VARIABLES:
        shape = node.attribute("shape", 7)
        sizes = _shape(message(shape)) if shape is not None else None
    elif node.operator == "Const":
        sizes = _constant_shape(node)
    else:
        return 0
    known = [size for size in sizes or () if isinstance(size, int)]
    return math.prod(known) if known and sizes and len(known) == len(sizes) else 0


def _classes(end: _Node, nodes: Sequence[_Node]) -> int:
    """Return the number of values of an output by the weights before it, 0 if they do not say it."""
    by_name = {node.name: node for node in nodes}
    node: _Node | None = end
    for _ in range(len(nodes)):
        if node is None or node.operator not in _PASSED_ON:
            break
        node = by_name.get(_node_of(node.inputs[0])) if node.inputs else None
    axes = _BY_WEIGHTS.get(node.operator, 0) if node is not None else 0
    for name in node.inputs if node is not None else ():
        constant = by_name.get(_node_of(name))
        for _ in range(_LONGEST_CHAIN):
            if constant is None or constant.operator != "Identity" or not constant.inputs:
                break
            constant = by_name.get(_node_of(constant.inputs[0]))
        shape = _constant_shape(constant) if constant is not None else ()
        if axes and len(shape) == axes and isinstance(shape[-1], int):
            return shape[-1]
    return 0


def _constant_shape(node: _Node) -> tuple[int | str | None, ...]:
    tensor = node.attribute("value", 8) if node.operator == "Const" else None
    parts = _fields(message(tensor)) if tensor is not None else {}
    return (_shape(message(parts[2][-1])) or ()) if 2 in parts else ()


def _beginning(nodes: Sequence[_Node]) -> Iterator[str]:
    """Yield a sentence about the operators between an input and the first layer with weights, with their numbers."""
    by_name = {node.name: node for node in nodes}
    readers: dict[str, list[_Node]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(_node_of(name), []).append(node)
    for source in [node for node in nodes if node.operator == "Placeholder"][:1]:
        steps: list[str] = []
        node = source
        for _ in range(_LONGEST_CHAIN):  # a damaged graph may have a cycle
            if len(steps) == _FIRST or len(readers.get(node.name, [])) != 1:
                break
            node = readers[node.name][0]
            if node.operator in _FIRST_LAYERS:
                break
            if node.operator != "Identity":
                numbers = [_scalar(by_name[name]) for name in map(_node_of, node.inputs) if name in by_name]
                steps.append(" ".join([node.operator, *(f"{value:.6g}" for value in numbers if value is not None)]))
        if steps:
            yield f"the graph begins with {', '.join(steps)} behind {source.name}"


def _scalar(node: _Node) -> float | None:
    """Return the value of a constant that is one float32, else None."""
    tensor = node.attribute("value", 8) if node.operator == "Const" and node.dtype == 1 else None
    if tensor is None:
        return None
    parts = _fields(message(tensor))
    for number in (5, 4):  # float_val, packed or not, and tensor_content
        value = parts.get(number, [0])[-1]
        if isinstance(value, memoryview) and len(value) == 4:
            return float(struct.unpack("<f", value)[0])
    return None
