"""Networks as TensorRT's ONNX parser creates them, with types and constraints of layers, for `tensorrt_builder.py`.

Modelled on onnx-tensorrt: layers are created node by node, the main layer has the node's name, the last tensor of a
node has the name of its output; a Gemm's bias is a separate layer; weakly typed networks of 10.x have constraints on
Quantize and Dequantize layers. And on NvInfer.h: in a strongly typed network of 10.x the input of a Quantize layer has
the type of its scale; constraints apply only if the builder has a flag for that.

Names of layers and tensors are compared with the parser of the real TensorRT-RTX in
`tests/device/build/test_layer_precision.py`.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from tests.fakes.bindings import bound, instance_of, rule
from trtpoets.core.onnx_graph import Node, OnnxGraph, read_graph

_TYPES = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF"}
"""TensorProto.DataType in TensorRT's words."""

_KINDS = {
    "Conv": "CONVOLUTION",
    "Gemm": "MATRIX_MULTIPLY",
    "MatMul": "MATRIX_MULTIPLY",
    "Softmax": "SOFTMAX",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "Relu": "ACTIVATION",
    "Clip": "ACTIVATION",
    "GlobalAveragePool": "REDUCE",
    "Transpose": "SHUFFLE",
    "Flatten": "SHUFFLE",
    "Squeeze": "SHUFFLE",
    "MaxPool": "POOLING",
    "AveragePool": "POOLING",
    "Shape": "SHAPE",
}

_NO_ARITHMETIC = ("CONSTANT", "CAST", "IDENTITY", "SHUFFLE", "SHAPE", "QUANTIZE", "DEQUANTIZE")
_SPOKEN = {"int8": "Int8", "fp16": "Half", "fp32": "Float"}


def layers_of(content: bytes, version: str, enums: Any, strong: bool) -> list[Any]:
    """The layers that the parser of a version creates for an ONNX file; none if it is not an ONNX file."""
    try:
        graph = read_graph(content)
    except ValueError:
        return []
    return _Parsing(graph, version, enums, strong).layers


def mistyped(layers: list[Any], version: str, strong: bool) -> str:
    """Why the types of a network are refused; empty if they are accepted."""
    makers = {layer.get_output(0).name: layer for layer in layers}
    for layer in layers if strong and version.startswith("10.") else ():
        if layer.type.name == "QUANTIZE":
            data, scale = (makers[name].get_output(0).dtype for name in layer._reads[:2])
            if data != scale:
                return f"{layer.name}: input of type {data.name}, and its scale is {scale.name}"
    return ""


def inspected(layers: list[Any], version: str, strong: bool, flags: set[str]) -> str:
    """The inspector's result for an engine built with these flags: the type of each layer."""
    collected = []
    for layer in layers:
        if layer.type.name not in _NO_ARITHMETIC:
            kind = _arithmetic(layer, layers, strong, flags)
            word = {"DataType": _SPOKEN[kind]} if version.startswith("11") else {"Format/Datatype": _SPOKEN[kind]}
            values = {"Name": layer.name, "LayerType": layer.type.name.lower(), "Inputs": [{"Name": "x", **word}]}
            collected.append({**values, "Weights": {"Type": "Int8", "Count": 1}} if kind == "int8" else values)
    return json.dumps({"Layers": collected})


def _arithmetic(layer: Any, layers: list[Any], strong: bool, flags: set[str]) -> str:
    dequantised = {item.get_output(0).name for item in layers if item.type.name == "DEQUANTIZE"}
    obeyed = bool(flags & {"OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"})
    fp32 = obeyed and layer._precision == "FLOAT"
    product = layer.type.name in ("CONVOLUTION", "MATRIX_MULTIPLY")
    if product and layer._reads[0] in dequantised and (strong or "INT8" in flags) and not fp32:
        return "int8"
    if strong:
        return "fp16" if layer.get_output(0).dtype.name == "HALF" else "fp32"
    reader = _reader(layer, layers)
    while reader is not None and reader.type.name == "SHUFFLE":  # which moves numbers as they are
        reader = _reader(reader, layers)
    wanted = reader is not None and reader.type.name == "QUANTIZE" and reader._precision == "FLOAT"
    if fp32 or "FP16" not in flags or (obeyed and (wanted or layer._outputs.get(0) == "FLOAT")):
        return "fp32"
    return "fp16"


def _reader(layer: Any, layers: list[Any]) -> Any:
    return next((item for item in layers if layer.get_output(0).name in item._reads), None)


class _Parsing:
    """The network during parsing."""

    def __init__(self, graph: OnnxGraph, version: str, enums: Any, strong: bool) -> None:
        self.version, self.enums, self.strong = version, enums, strong
        self.layers: list[Any] = []
        self.types = {name: _TYPES.get(kind, "FLOAT") for name, kind in graph.types.items()}
        self.graph = graph
        self.constants = {*graph.types} - {"photos"}
        self.class_ = bound("ILayer", version, _layer_body(enums, strong))
        for node in graph.nodes:
            self.node(node)

    def node(self, node: Node) -> None:
        for name in node.inputs:
            if name in self.constants:
                self.constants.remove(name)
                self.add("CONSTANT", name, (), name, self.types[name])
        kind = _KINDS.get(node.operator, "ELEMENTWISE")
        given = next((self.types[name] for name in node.inputs if self.types.get(name) in ("FLOAT", "HALF")), "FLOAT")
        if node.operator == "Cast":
            kind = "IDENTITY" if self.version == "8.5" else "CAST"
            given = _TYPES.get(node.numbers["to"], "FLOAT")
        elif node.operator == "QuantizeLinear":
            given = "INT8"
        elif node.operator == "DequantizeLinear":
            given = _TYPES.get(node.numbers.get("output_dtype", 0), self.types[node.inputs[1]])
        elif node.operator == "Shape":
            given = "INT64"
        (out,) = node.outputs
        self.types[out] = given
        if node.operator == "Gemm" and len(node.inputs) == 3:
            self.add(kind, node.name, node.inputs[:2], f"(Unnamed Tensor* {len(self.layers)})", given)
            self.add("ELEMENTWISE", f"(Unnamed Layer* {len(self.layers)}) [ElementWise]", node.inputs[2:], out, given)
            return
        layer = self.add(kind, node.name, node.inputs, out, given)
        if not self.strong and self.version.startswith("10."):
            scale = self.types[node.inputs[1]] if kind in ("QUANTIZE", "DEQUANTIZE") else ""
            if kind == "QUANTIZE":
                layer._precision = scale
            elif kind == "DEQUANTIZE":
                layer._outputs[0] = scale

    def add(self, kind: str, name: str, reads: tuple[str, ...], out: str, dtype: str) -> Any:
        tensor = SimpleNamespace(name=out, dtype=getattr(self.enums.DataType, dtype))
        self.layers.append(self.class_(getattr(self.enums.LayerType, kind), name, reads, tensor))
        return self.layers[-1]


def _layer_body(enums: Any, strong: bool) -> type:
    class Layer:
        num_outputs = property(lambda self: 1)
        type = property(lambda self: self._kind)
        name = property(lambda self: self._name)

        def __init__(self, kind: Any, name: str, reads: tuple[str, ...], output: Any) -> None:
            self._kind, self._name, self._reads, self._output = kind, name, reads, output
            self._precision = ""
            self._outputs: dict[int, Any] = {}

        def get_output(self, index: int) -> Any:
            return self._output if index == 0 else None

        def _set_precision(self, kind: Any) -> None:
            instance_of(enums.DataType, kind, "precision")
            rule(not strong, "layers of a strongly typed network have the types of their inputs")
            rule(self._kind.name not in ("CONSTANT", "SHAPE"), "the type of a constant or a shape is constrained")
            self._precision = kind.name

        precision = property(lambda self: getattr(enums.DataType, self._precision or "FLOAT"), _set_precision)

        def reset_precision(self) -> None:
            self._precision = ""

        def set_output_type(self, index: int, kind: Any) -> None:
            instance_of(enums.DataType, kind, "set_output_type")
            rule(not strong, "layers of a strongly typed network give the types that follow from their inputs")
            rule(index == 0, "a layer has one output here")
            self._outputs[index] = kind.name

        def reset_output_type(self, index: int) -> None:
            self._outputs.pop(index, None)

    return Layer
