"""Looks into TensorFlow graphs (GraphDef) and cuts them, without importing them into TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Nodes = dict[str, Any]
"""The nodes of a GraphDef (NodeDef) by name."""

PASSING = ("Identity", "StopGradient", "Reshape", "Squeeze", "PreventGradient", "CheckNumerics", "Snapshot")
"""Operators whose output has the values of their first input."""


def node_of(tensor: str) -> str:
    """Return the name of the node of a tensor ("a:0") or of a control input ("^a")."""
    return tensor.lstrip("^").split(":")[0]


def data_inputs(node: Any) -> list[str]:
    """Return the inputs of a node that are tensors, not control inputs."""
    return [name for name in node.input if not name.startswith("^")]


def attribute(node: Any, key: str) -> Any:
    """Return an attribute of a node, or an empty one. Reading a missing one by its key would add it to the node."""
    from tensorflow.core.framework.attr_value_pb2 import AttrValue

    return node.attr[key] if key in node.attr else AttrValue()


@dataclass(frozen=True)
class Graph:
    """A GraphDef with one image input and one output, all of whose nodes the output needs.

    `input` is the name of the Placeholder, `output` a tensor such as "softmax:0".
    """

    definition: Any
    input: str
    output: str

    @cached_property
    def nodes(self) -> Nodes:
        """The nodes by name."""
        return {node.name: node for node in self.definition.node}

    @cached_property
    def consumers(self) -> dict[str, list[Any]]:
        """The nodes that take a tensor of each node."""
        return consumers_of(self.definition.node)

    @property
    def final(self) -> Any:
        """The node that computes the values of the output: the last one that does not only pass or reshape them."""
        return final_node(self.nodes, self.output)

    def constant(self, tensor: str) -> np.ndarray | None:
        """Return the value of a tensor that depends on no input and little else, or None."""
        return constant_value(self.nodes, tensor)


def consumers_of(nodes: Iterable[Any]) -> dict[str, list[Any]]:
    """Return the nodes that take a tensor of each node, by its name."""
    result: dict[str, list[Any]] = {}
    for node in nodes:
        for name in {node_of(tensor) for tensor in data_inputs(node)}:
            result.setdefault(name, []).append(node)
    return result


def final_node(nodes: Nodes, tensor: str) -> Any:
    """Follow a tensor backwards through nodes that only pass or reshape values, or cast them between floats."""
    node = nodes[node_of(tensor)]
    for _ in range(len(nodes)):  # a damaged graph may have a cycle
        if not (node.op in PASSING or _casts_floats(node)) or not data_inputs(node):
            break
        node = nodes[node_of(data_inputs(node)[0])]
    return node


def _casts_floats(node: Any) -> bool:
    floats = (1, 2, 14, 19)  # DT_FLOAT, DT_DOUBLE, DT_BFLOAT16, DT_HALF
    return node.op == "Cast" and all(attribute(node, key).type in floats for key in ("SrcT", "DstT"))


def ancestors(nodes: Nodes, names: Iterable[str]) -> set[str]:
    """Return the names of these nodes and of all that they need, control inputs included. Raises KeyError."""
    needed: set[str] = set()
    pending = [node_of(name) for name in names]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += [node_of(tensor) for tensor in nodes[name].input]
    return needed


def pruned(definition: Any, outputs: Iterable[str]) -> Any:
    """Return a copy of a GraphDef with only the nodes that the outputs need. Raises KeyError for a missing node."""
    nodes = {node.name: node for node in definition.node}
    needed = ancestors(nodes, outputs)
    result = type(definition)()
    result.versions.CopyFrom(definition.versions)
    result.library.CopyFrom(definition.library)
    for node in definition.node:
        if node.name in needed:
            result.node.add().CopyFrom(node)
    return result


_FOLDED = ("Squeeze", "Maximum", "Minimum", "Sqrt", "Rsqrt", "Reshape", "Cast", "ExpandDims", "Neg", "Pack", "Square")
_FOLDED_PAIRS = ("Add", "AddV2", "Sub", "Mul", "RealDiv", "Div")


def constant_value(nodes: Nodes, tensor: str, depth: int = 12) -> np.ndarray | None:
    """Return the value of a tensor that small numpy computations on constants give, or None."""
    from tensorflow.python.framework import tensor_util

    node = nodes[node_of(tensor)]
    if node.op == "Const":
        return np.asarray(tensor_util.MakeNdarray(attribute(node, "value").tensor))
    if node.op == "Identity" and depth:
        return constant_value(nodes, data_inputs(node)[0], depth - 1)
    if depth == 0 or node.op not in (*_FOLDED, *_FOLDED_PAIRS):
        return None
    inputs = [constant_value(nodes, name, depth - 1) for name in data_inputs(node)]
    known = [value for value in inputs if value is not None]
    if len(known) < len(inputs) or any(value.size > 4096 for value in known):
        return None
    with np.errstate(all="ignore"):
        return np.asarray(_computed(node.op, known))


def _computed(op: str, values: list[np.ndarray]) -> np.ndarray:
    first = values[0]
    if op == "Reshape":
        return first.reshape(values[1])
    if op == "ExpandDims":
        return np.expand_dims(first, int(values[1]))
    if op == "Squeeze":  # of biases and means: all axes of length 1, which does not change how they are applied
        return first.squeeze()
    if op == "Pack":
        return np.stack(values)
    functions: dict[str, Callable[..., Any]] = {
        "Sqrt": np.sqrt,
        "Square": np.square,
        "Neg": np.negative,
        "Rsqrt": lambda value: 1 / np.sqrt(value),
        "Maximum": np.maximum,
        "Minimum": np.minimum,
        "Add": np.add,
        "AddV2": np.add,
        "Sub": np.subtract,
        "Mul": np.multiply,
        "RealDiv": np.divide,
        "Div": np.divide,
    }
    return np.asarray(functions[op](*values)) if op in functions else first


def replaced_by_placeholder(definition: Any, name: str, dtype: int, shape: list[int | None]) -> Any:
    """Return a copy in which the node `name` is a Placeholder of this type and shape; None is any length."""
    result = type(definition)()
    result.CopyFrom(definition)
    for node in result.node:
        if node.name == name:
            node.op = "Placeholder"
            del node.input[:]
            node.attr.clear()
            node.attr["dtype"].type = dtype
            for length in shape:
                node.attr["shape"].shape.dim.add().size = -1 if length is None else length
    return result


def add_constant(nodes: Any, name: str, value: np.ndarray) -> None:
    """Add a Const to the nodes of a GraphDef or of a function."""
    from tensorflow.python.framework import dtypes, tensor_util

    node = nodes.add()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = dtypes.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(value))
