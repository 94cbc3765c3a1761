"""Finds float16, bfloat16 and float64 in an ONNX graph, and converts them to float32."""

from __future__ import annotations

from typing import Any

HALF_TOLERANCE = 0.02
"""Largest difference of a score from that of a file that computes in float16 or bfloat16, whose results are rounded."""


def computes_in_half(model: Any) -> bool:
    """Whether a ModelProto computes with float16 or bfloat16, whatever the types of its input and output are."""
    from onnx import TensorProto

    half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    graph = model.graph
    return (
        any(value.type.tensor_type.elem_type in half for value in (*graph.input, *graph.output))
        or any(tensor.data_type in half for tensor in graph.initializer)
        or any(
            entry.t.data_type in half or (entry.name in ("to", "dtype") and entry.i in half)
            for node in graph.node
            for entry in node.attribute
        )
    )


def computes_in_double(model: Any) -> bool:
    """Whether a ModelProto has float64 weights."""
    from onnx import TensorProto

    return any(tensor.data_type == TensorProto.DOUBLE for tensor in model.graph.initializer)


def to_float32(model: Any) -> None:
    """Change all tensors, casts and types of a ModelProto in place; value_info is dropped."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    others = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    graph = model.graph

    def convert(tensor: Any) -> None:
        if tensor.data_type in others:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    for tensor in graph.initializer:
        convert(tensor)
    for node in graph.node:
        for entry in node.attribute:
            if entry.HasField("t"):
                convert(entry.t)
            elif entry.name in ("to", "dtype", "output_dtype") and entry.i in others:
                entry.i = TensorProto.FLOAT
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in others:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    del graph.value_info[:]
