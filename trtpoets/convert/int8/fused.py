"""Shows how ONNX Runtime runs a quantised file: its graph after fusion, and what it still computes in float."""

from __future__ import annotations

from typing import Any

from trtpoets.core.errors import BadArtefact, first_line
from trtpoets.core.files import temporary_folder
from trtpoets.core.onnx_file import unwanted_optimizers
from trtpoets.core.optional import needs, onnxruntime

_INTEGER_LAYERS = {"QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "ConvInteger", "MatMulInteger"}

_FLOAT_OUTPUT = {"DequantizeLinear", "MatMulIntegerToFloat"}
"""Operators with float outputs whatever their inputs; a QGemm without output scale as well."""

_WITH_OUTPUT_SCALE = 9
"""Number of inputs of a QGemm whose output is an integer: the last two are its scale and zero point."""


def fused_graph(content: bytes) -> Any:
    """Return the ModelProto that ONNX Runtime runs on the CPU for a serialised file, after all its optimizations.

    Raises MissingDependency, BadArtefact if ONNX Runtime rejects the file.
    """
    import onnx

    with needs("train", reason="running ONNX files"):
        runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # it warns that a graph optimized for this processor is written
    with temporary_folder() as folder:
        options.optimized_model_filepath = str(folder / "fused.onnx")
        try:
            runtime.InferenceSession(
                content,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=unwanted_optimizers(content),
                enable_fallback=0,
            )
        except Exception as error:
            raise BadArtefact(
                f"ONNX Runtime can't open the graph: {first_line(error)}", hint="export it again", code="TP3201"
            ) from error
        return onnx.load(options.optimized_model_filepath)


def integer_layers(fused: Any) -> int:
    """Return the number of convolutions and matrix products that a fused graph computes in integers."""
    return sum(node.op_type in _INTEGER_LAYERS for node in fused.graph.node)


def float_islands(fused: Any) -> tuple[tuple[str, str], ...]:
    """Return the operators (name, operator) that a fused graph computes in float between two integer layers.

    An operator is between them if it reads, through others, the output of one and its output reaches another.
    Conversions (DequantizeLinear, QuantizeLinear) count as well.
    """
    nodes = list(fused.graph.node)
    constants = {tensor.name for tensor in fused.graph.initializer}
    floats: set[str] = {tensor.name for tensor in fused.graph.initializer if tensor.data_type == 1}
    after: set[str] = set()
    computes_float: list[Any] = []
    for node in nodes:
        is_float = _has_float_output(node, floats)
        floats.update(node.output if is_float else ())
        data = [name for name in node.input if name not in constants]
        if node.op_type in _INTEGER_LAYERS or any(name in after for name in data):
            after.update(node.output)
        if (is_float or node.op_type == "QuantizeLinear") and any(name in after for name in data):
            computes_float.append(node)
    before: set[str] = set()
    for node in reversed(nodes):
        if node.op_type in _INTEGER_LAYERS or any(name in before for name in node.output):
            before.update(name for name in node.input if name not in constants)
    return tuple(
        (node.name, node.op_type)
        for node in computes_float
        if node.op_type not in _INTEGER_LAYERS and any(name in before for name in node.output)
    )


def _has_float_output(node: Any, floats: set[str]) -> bool:
    if node.op_type in _FLOAT_OUTPUT:
        return True
    if node.op_type == "QGemm":
        return len(node.input) < _WITH_OUTPUT_SCALE
    if node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear"):
        return False
    if node.op_type in ("Cast", "Shape"):
        return node.op_type == "Cast" and any(entry.name == "to" and entry.i == 1 for entry in node.attribute)
    return node.input[0] in floats if node.input else False
