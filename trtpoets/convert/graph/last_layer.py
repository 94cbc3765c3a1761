"""The last layer of a graph: read it, put another in its place, or leave it out, so that the features come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView, attribute
from trtpoets.convert.graph.naming import canonical
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.types import INPUT_NAME


@dataclass(frozen=True, eq=False)
class LastLayer:
    """scores = softmax(features @ weights + bias): `weights` (D, C), `bias` (C,), float32, and where they are."""

    features: str
    weights: np.ndarray
    bias: np.ndarray
    weights_name: str
    bias_name: str


def last_layer(model: Any) -> LastLayer:
    """The dense layer that the softmax at a graph's end reads.

    Raises ConversionFailed when the graph ends otherwise, or that layer's weights are not plain constants of its own.
    """
    view = GraphView(model)
    softmax = view.producer.get(view.outputs[0])
    dense = view.producer.get(softmax.input[0]) if softmax is not None and softmax.op_type == "Softmax" else None
    if dense is None or dense.op_type != "Gemm" or len(dense.input) != 3:
        raise ConversionFailed(
            "the graph does not end in a dense layer and a softmax", hint="leave the head as it is", code="TP3004"
        )
    plain = attribute(dense, "alpha", 1.0) == attribute(dense, "beta", 1.0) == 1.0 and not attribute(dense, "transA", 0)
    names = list(dense.input)[1:]
    if not plain or any(name not in view.constants or len(view.readers[name]) > 1 for name in names):
        raise ConversionFailed(
            "the last layer's weights are not constants of its own", hint="leave the head as it is", code="TP3005"
        )
    weights, bias = (view.array(name) for name in names)
    if attribute(dense, "transB", 0):
        weights = weights.T
    return LastLayer(dense.input[0], weights, bias.reshape(-1), *names)


def with_last_layer(model: Any, weights: np.ndarray, bias: np.ndarray) -> Any:
    """A copy of a ModelProto whose last layer has `weights` (D, C) and `bias` (C,). Raises as `last_layer` does."""
    from onnx import numpy_helper

    layer = last_layer(model)
    if weights.shape != layer.weights.shape or bias.shape != layer.bias.shape:
        raise ConversionFailed(
            f"a head of {weights.shape} and {bias.shape} in the place of {layer.weights.shape} and {layer.bias.shape}",
            code="TP3006",
        )
    copy = type(model)()
    copy.CopyFrom(model)
    fresh = {layer.weights_name: weights, layer.bias_name: bias}
    for constant in copy.graph.initializer:
        if constant.name in fresh:
            shape = tuple(constant.dims)
            value = fresh[constant.name]
            value = value.T if constant.name == layer.weights_name and shape != value.shape else value.reshape(shape)
            constant.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), constant.name))
    return copy


def base_of(model: Any, output_name: str) -> bytes:
    """The graph of a ModelProto up to its features, called `output_name`, float32 (N, D): the bytes of an ONNX file.

    The same base gives the same bytes under any head. Raises as `last_layer` does.
    """
    from onnx import TensorProto, helper

    layer = last_layer(model)
    copy = type(model)()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.append(
        helper.make_tensor_value_info(layer.features, TensorProto.FLOAT, ["N", len(layer.weights)])
    )
    return bytes(canonical(copy, INPUT_NAME, output_name, {}).SerializeToString(deterministic=True))
