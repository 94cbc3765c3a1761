"""Divides a TFLite network before its last layer, and replaces that, as `graph.last_layer` does for an ONNX file."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtpoets.convert.graph.last_layer import LastLayer
from trtpoets.convert.tflite_graph import TfliteGraph
from trtpoets.core.errors import ConversionFailed


def base_of_tflite(network: bytes) -> tuple[bytes, int]:
    """Return the flatbuffer of a network without its last layer, and the number of features that this returns.

    Operators, weights and scales stay the same, so that the features are those that the last layer of the network gets.
    Raises ConversionFailed if the network does not end with a dense layer of float32 features and a softmax.
    """
    graph = TfliteGraph(network)
    dense, softmax = _end(graph)
    features = int(dense.inputs[0])
    graph.graph.outputs = [features]
    graph.graph.operators = [
        operator for operator in graph.operators if operator is not dense and operator is not softmax
    ]
    graph.model.signatureDefs = []  # they name the scores
    return graph.content, int(graph.graph.tensors[features].shape[1])


def with_features_of_tflite(network: bytes) -> bytes:
    """Return a network that returns the input of its last layer too, after the scores. Raises like `base_of_tflite`."""
    graph = TfliteGraph(network)
    dense, _ = _end(graph)
    graph.graph.outputs = [*map(int, graph.graph.outputs), int(dense.inputs[0])]
    graph.model.signatureDefs = []  # they name the scores only
    return graph.content


def last_layer_of_tflite(network: bytes) -> LastLayer:
    """Return the dense layer before the softmax at the end of a network.

    Raises ConversionFailed like `base_of_tflite`, and if the weights are not float32 constants.
    """
    graph = TfliteGraph(network)
    return _layer(graph, _end(graph)[0])


def with_last_layer_of_tflite(network: bytes, weights: np.ndarray, bias: np.ndarray) -> bytes:
    """Return a network whose last layer has `weights` (D, C) and `bias` (C,). Raises like `last_layer_of_tflite`."""
    graph = TfliteGraph(network)
    dense, _ = _end(graph)
    _layer(graph, dense).require_shapes(weights, bias)
    graph.set_constant(dense, 1, np.ascontiguousarray(weights.T, np.float32))
    if len(dense.inputs) > 2 and int(dense.inputs[2]) >= 0:
        graph.set_constant(dense, 2, np.ascontiguousarray(bias, np.float32))
    else:
        dense.inputs = [*map(int, dense.inputs[:2]), graph.add_constant("bias", bias)]
    return graph.content


def _layer(graph: TfliteGraph, dense: Any) -> LastLayer:
    """Return a dense layer of a graph. Raises ConversionFailed if its weights are not float32 constants."""
    features, weights, bias = (*map(int, dense.inputs), -1)[:3]
    matrix = graph.constant(weights)
    offsets = np.zeros(0 if matrix is None else len(matrix), np.float32) if bias < 0 else graph.constant(bias)
    if matrix is None or offsets is None or matrix.dtype != np.float32 or offsets.dtype != np.float32:
        raise ConversionFailed("the last layer of the TFLite network has no float32 weights", code="TP3267")
    names = [_name(graph, index) for index in (features, weights, bias)]
    return LastLayer(names[0], matrix.T, offsets, *names[1:])


def _end(graph: TfliteGraph) -> tuple[Any, Any]:
    """Return the dense layer of float32 features and the softmax at the end of a network, or raise ConversionFailed."""
    tensors = graph.graph.tensors
    producers = {int(index): operator for operator in graph.operators for index in operator.outputs}
    (scores,) = map(int, graph.graph.outputs)
    softmax = _producer(graph, producers, scores, "SOFTMAX")
    dense = None if softmax is None else _producer(graph, producers, int(softmax.inputs[0]), "FULLY_CONNECTED")
    features = None if dense is None else tensors[int(dense.inputs[0])]
    if features is None or features.type != graph.schema.TensorType.FLOAT32 or len(features.shape) != 2:
        raise ConversionFailed(
            "the last layer of the TFLite network is not a dense layer of float32 features before a softmax",
            code="TP3266",
        )
    return dense, softmax


def _name(graph: TfliteGraph, index: int) -> str:
    """Return the name of a tensor; "" without one."""
    name = graph.graph.tensors[index].name if index >= 0 else b""
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name or "")


def _producer(graph: TfliteGraph, producers: dict[int, Any], index: int, kind: str) -> Any:
    """Return the operator of a kind that computes a tensor; None if another or none does."""
    operator = producers.get(index)
    return operator if operator is not None and graph.kind(operator) == kind else None
