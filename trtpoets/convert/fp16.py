"""Converts the arithmetic of a graph to FP16, with given nodes kept in FP32.

onnxruntime.transformers.float16 is similar, but rounds the result of an FP32 node to FP16 before an FP32 output: with
Softmax kept in FP32, rows of scores no longer sum to 1.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.convert.graph.graph_view import QUANTISERS, GraphView

if TYPE_CHECKING:
    from onnx import TensorProto

_FLOAT, _FLOAT16 = 1, 10  # TensorProto.FLOAT, TensorProto.FLOAT16
_HALF = "tensor(float16)"


def lacks_fp16(node: Any, opset: int) -> bool:
    """Return whether the ONNX standard has no FP16 version of this operator, so that some tensor of it must be FP32."""
    from onnx import defs

    schema = defs.get_schema(node.op_type, opset, node.domain)
    allowed = {constraint.type_param_str: constraint.allowed_type_strs for constraint in schema.type_constraints}
    for parameter in (*schema.inputs, *schema.outputs):
        types = allowed.get(parameter.type_str, [parameter.type_str])
        if "tensor(float)" in types and _HALF not in types:
            return True
    return False


def with_fp16(model: Any, keep_fp32: Collection[str]) -> Any:
    """Return a copy of a ModelProto whose nodes compute in FP16 except those named, with casts between the two.

    The graph's input and outputs keep their types. Q/DQ pairs, which need opset 23, keep their FP32 scales: a
    QuantizeLinear accepts either type, and a DequantizeLinear returns the type of its readers.
    """
    view = GraphView(model)
    copy = type(model)()
    copy.CopyFrom(model)
    rewriting = _Rewriting(view, set(view.outputs))
    for node in list(copy.graph.node):
        if node.op_type in QUANTISERS:
            readers = [reader.node for name in node.output for reader in view.readers.get(name, ())]
            kept = all(reader.name in keep_fp32 for reader in readers)
            rewriting.add_quantiser(node, _FLOAT if kept else _FLOAT16)
        else:
            is_fp32 = node.name in keep_fp32 or _makes_fp32(view, node)
            rewriting.add(node, _FLOAT if is_fp32 else _FLOAT16)
    new_graph = type(copy.graph)()
    new_graph.node.extend(rewriting.nodes)
    new_graph.initializer.extend(rewriting.constants.values())
    del copy.graph.node[:], copy.graph.initializer[:], copy.graph.value_info[:]
    copy.graph.node.extend(new_graph.node)
    copy.graph.initializer.extend(new_graph.initializer)
    return copy


def _makes_fp32(view: GraphView, node: Any) -> bool:
    """Whether an attribute of the node, not its inputs, makes the result FP32, as the value of a ConstantOfShape."""
    return node.op_type != "Cast" and not any(name and view.is_float(name) for name in node.input)


class _Rewriting:
    """The new graph while it is built: its nodes in order, its constants, and the current type of each tensor."""

    def __init__(self, view: GraphView, outputs: set[str]) -> None:
        self.view = view
        self.outputs = outputs
        self.nodes: list[Any] = []
        self.constants: dict[str, TensorProto] = {}
        self.kinds: dict[str, int] = {}
        self.cast: set[str] = set()

    def add(self, node: Any, kind: int) -> None:
        """Append a node that computes in `kind`, with the casts that it needs."""
        from onnx import helper

        for index, name in enumerate(node.input):
            node.input[index] = self._as(name, kind) if name and self.view.is_float(name) else self._kept(name)
        if node.op_type == "Cast":
            for entry in node.attribute:
                if entry.name == "to" and entry.i == _FLOAT:
                    entry.i = kind
        back = []
        for index, name in enumerate(node.output):
            if not self.view.is_float(name):
                continue
            self.kinds[name] = kind
            if name in self.outputs and kind != _FLOAT:
                node.output[index] = f"{name}.fp16"
                back.append(helper.make_node("Cast", [f"{name}.fp16"], [name], name=f"{name}/Cast", to=_FLOAT))
        self.nodes += [node, *back]

    def add_quantiser(self, node: Any, kind: int) -> None:
        """Append a node of a Q/DQ pair; a DequantizeLinear returns `kind`."""
        from onnx import helper

        for name in node.input:
            self._kept(name)
        if node.op_type == "DequantizeLinear":
            self.kinds[node.output[0]] = kind
            if kind == _FLOAT16:
                node.attribute.append(helper.make_attribute("output_dtype", kind))
        self.nodes.append(node)

    def _as(self, name: str, kind: int) -> str:
        """Return the name of a floating-point tensor in type `kind`; adds a cast if necessary."""
        from onnx import helper, numpy_helper

        suffix = ".fp16" if kind == _FLOAT16 else ".fp32"
        if name in self.view.constants:
            if kind == _FLOAT:
                return self._kept(name)
            if name + suffix not in self.constants:
                half = self.view.array(name).astype(np.float16)
                self.constants[name + suffix] = numpy_helper.from_array(half, name + suffix)
            return name + suffix
        if self.kinds.get(name, _FLOAT) == kind:
            return name
        if name + suffix not in self.cast:
            self.cast.add(name + suffix)
            self.nodes.append(helper.make_node("Cast", [name], [name + suffix], name=f"{name}{suffix}/Cast", to=kind))
        return name + suffix

    def _kept(self, name: str) -> str:
        if name in self.view.constants:
            self.constants[name] = self.view.constants[name]
        return name
