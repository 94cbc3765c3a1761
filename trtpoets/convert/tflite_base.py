"""Divides a TFLite network before its last layer, as `graph.last_layer` divides an ONNX file."""

from __future__ import annotations

from typing import Any

from trtpoets.convert.tflite_graph import TfliteGraph
from trtpoets.core.errors import ConversionFailed


def base_of_tflite(network: bytes) -> tuple[bytes, int]:
    """Return the flatbuffer of a network without its last layer, and the number of features that this returns.

    Operators, weights and scales stay the same, so that the features are those that the last layer of the network gets.
    Raises ConversionFailed if the network does not end with a dense layer of float32 features and a softmax.
    """
    graph = TfliteGraph(network)
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
    assert dense is not None
    graph.graph.outputs = [int(dense.inputs[0])]
    graph.graph.operators = [
        operator for operator in graph.operators if operator is not dense and operator is not softmax
    ]
    graph.model.signatureDefs = []  # they name the scores
    return graph.content, int(features.shape[1])


def _producer(graph: TfliteGraph, producers: dict[int, Any], index: int, kind: str) -> Any:
    """Return the operator of a kind that computes a tensor; None if another or none does."""
    operator = producers.get(index)
    return operator if operator is not None and graph.kind(operator) == kind else None
