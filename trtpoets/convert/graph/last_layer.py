"""Reads, replaces or removes the last layer of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView, attribute
from trtpoets.convert.graph.naming import canonical
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.onnx_file import FORM_KEY, metadata_of
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME

CLASSIFIER = "classifier"
"""The name of the Keras network of a trained classifier."""


@dataclass(frozen=True, eq=False)
class LastLayer:
    """scores = softmax(features @ weights + bias): `weights` (D, C) and `bias` (C,) float32, and their tensor names."""

    features: str
    weights: np.ndarray
    bias: np.ndarray
    weights_name: str
    bias_name: str

    def require_shapes(self, weights: np.ndarray, bias: np.ndarray) -> None:
        """Raise ConversionFailed unless `weights` and `bias` have the shapes of those of this layer."""
        if weights.shape != self.weights.shape or bias.shape != self.bias.shape:
            raise ConversionFailed(
                f"the head must have weights of shape {self.weights.shape} and a bias of shape {self.bias.shape}, not "
                f"{weights.shape} and {bias.shape}",
                code="TP3006",
            )


def last_layer(model: Any) -> LastLayer:
    """Return the dense layer before the softmax at the end of a graph.

    Raises ConversionFailed if the graph ends in any other way, or if the weights are not constants of that layer only.
    """
    view = GraphView(model)
    softmax = view.producer.get(view.outputs[0])
    dense = view.producer.get(softmax.input[0]) if softmax is not None and softmax.op_type == "Softmax" else None
    if dense is None or dense.op_type != "Gemm" or len(dense.input) != 3:
        raise ConversionFailed(
            "the graph does not end in a dense layer and a softmax", hint="keep the current head", code="TP3004"
        )
    plain = attribute(dense, "alpha", 1.0) == attribute(dense, "beta", 1.0) == 1.0 and not attribute(dense, "transA", 0)
    names = list(dense.input)[1:]
    if not plain or any(name not in view.constants or len(view.readers[name]) > 1 for name in names):
        raise ConversionFailed(
            "the weights of the last layer are not constants, or other nodes share them",
            hint="keep the current head",
            code="TP3005",
        )
    weights, bias = (view.array(name) for name in names)
    if attribute(dense, "transB", 0):
        weights = weights.T
    return LastLayer(dense.input[0], weights, bias.reshape(-1), *names)


def with_last_layer(model: Any, weights: np.ndarray, bias: np.ndarray) -> Any:
    """Return a copy of a ModelProto whose last layer has `weights` (D, C) and `bias` (C,). Raises like `last_layer`."""
    from onnx import numpy_helper

    layer = last_layer(model)
    layer.require_shapes(weights, bias)
    copy = type(model)()
    copy.CopyFrom(model)
    replacement = {layer.weights_name: weights, layer.bias_name: bias}
    for constant in copy.graph.initializer:
        if constant.name in replacement:
            shape = tuple(constant.dims)
            value = replacement[constant.name]
            value = value.T if constant.name == layer.weights_name and shape != value.shape else value.reshape(shape)
            constant.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), constant.name))
    return copy


def with_head(base: Any, weights: np.ndarray, bias: np.ndarray, network: str, metadata: Mapping[str, str]) -> Any:
    """Return the ModelProto of softmax(features @ weights + bias), of a graph that returns features (N, D).

    It is the graph that the export of a trained classifier gives. `network` is the name of the Keras network that
    `base` was exported from; `weights` is (D, C), `bias` (C,).
    """
    from onnx import TensorProto, helper, numpy_helper

    copy = type(base)()
    copy.CopyFrom(base)
    for node in copy.graph.node:  # the layers of the base are then those of the classifier
        if node.name.startswith(f"{network}/"):
            node.name = f"{CLASSIFIER}/{node.name[len(network) + 1 :]}"
    layer = f"{CLASSIFIER}/{OUTPUT_NAME}"
    names = [f"{layer}/weight", f"{layer}/bias"]
    for name, value in zip(names, (weights, bias), strict=True):
        copy.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
    logits, (features,) = f"{layer}/Gemm:0", copy.graph.output
    inputs = [features.name, *names]
    gemm = helper.make_node("Gemm", inputs, [logits], name=f"{layer}/Gemm", alpha=1.0, beta=1.0, transA=0, transB=0)
    copy.graph.node.append(gemm)
    copy.graph.node.append(helper.make_node("Softmax", [logits], [OUTPUT_NAME], name=f"{layer}/Softmax", axis=-1))
    del copy.graph.output[:]
    copy.graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", len(bias)]))
    return canonical(copy, INPUT_NAME, OUTPUT_NAME, metadata)


def base_of(model: Any, output_name: str) -> bytes:
    """Return a graph up to its features, float32 (N, D) named `output_name`, as the bytes of an ONNX file.

    The bytes do not depend on the head. Raises the same errors as `last_layer`.
    """

    from onnx import TensorProto, helper

    layer = last_layer(model)
    copy = type(model)()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.append(
        helper.make_tensor_value_info(layer.features, TensorProto.FLOAT, ["N", len(layer.weights)])
    )
    # The form decides what ONNX Runtime fuses. Other metadata is that of the classifier, not of its base.
    form = {name: value for name, value in metadata_of(model).items() if name == FORM_KEY}
    return bytes(canonical(copy, INPUT_NAME, output_name, form).SerializeToString(deterministic=True))
