"""TFLite networks without their last layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tiny import tiny_classifier, tiny_photos, tiny_tflite
from trtpoets.convert.tflite_base import (
    base_of_tflite,
    last_layer_of_tflite,
    with_features_of_tflite,
    with_last_layer_of_tflite,
)
from trtpoets.convert.tflite_graph import TfliteGraph
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.optional import loaded_interpreter
from trtpoets.core.tflite_file import network_in
from trtpoets.core.types import Precision


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The network of an INT8 file."""
    folder = tmp_path_factory.mktemp("tflite")
    return network_in(tiny_tflite(folder, tiny_classifier(folder / "classifier"), Precision.INT8).path)


def all_outputs(network: bytes, photos: np.ndarray) -> list[np.ndarray]:
    interpreter = loaded_interpreter(network, 1)
    (source,), results = interpreter.get_input_details(), interpreter.get_output_details()
    rows: list[list[np.ndarray]] = [[] for _ in results]
    for photo in photos:
        interpreter.set_tensor(source["index"], photo[None])
        interpreter.invoke()
        for own, result in zip(rows, results, strict=True):
            own.append(interpreter.get_tensor(result["index"])[0])
    return [np.array(own) for own in rows]


def outputs(network: bytes, photos: np.ndarray) -> np.ndarray:
    (only,) = all_outputs(network, photos)
    return only


def test_the_last_layer_gets_these_features(network: bytes) -> None:
    base, width = base_of_tflite(network)
    photos = tiny_photos(3)
    features = outputs(base, photos)
    assert features.shape == (3, width) and features.dtype == np.float32
    graph = TfliteGraph(network)
    (dense,) = [operator for operator in graph.operators if graph.kind(operator) == "FULLY_CONNECTED"]
    weights = graph.constant(int(dense.inputs[1]))
    assert weights is not None
    logits = features @ weights.T  # without a bias
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(scores / scores.sum(axis=1, keepdims=True), outputs(network, photos), atol=1e-6)


def test_one_network_returns_scores_and_features(network: bytes) -> None:
    photos = tiny_photos(3)
    scores, features = all_outputs(with_features_of_tflite(network), photos)
    assert np.array_equal(scores, outputs(network, photos))
    assert np.array_equal(features, outputs(base_of_tflite(network)[0], photos))


def test_a_network_that_ends_in_another_way(network: bytes, tmp_path: Path) -> None:
    base, _ = base_of_tflite(network)
    for function in (base_of_tflite, with_features_of_tflite):
        with raises(ConversionFailed, "TP3266"):
            function(base)


def test_the_last_layer_is_read_and_replaced(network: bytes) -> None:
    base, width = base_of_tflite(network)
    layer = last_layer_of_tflite(network)
    assert layer.weights.shape == (width, 3)
    assert not layer.bias.any() and layer.bias_name == "", "this network has no bias"
    photos = tiny_photos(3)
    features = outputs(base, photos)
    weights = np.random.default_rng(0).normal(size=layer.weights.shape).astype(np.float32)
    bias = np.array([0.5, -1.0, 0.25], np.float32)
    changed = with_last_layer_of_tflite(network, weights, bias)
    logits = features @ weights + bias
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(outputs(changed, photos), scores / scores.sum(axis=1, keepdims=True), atol=1e-6)
    assert base_of_tflite(changed)[1] == width
    again = with_last_layer_of_tflite(changed, -weights, bias)  # now with a bias in the file
    np.testing.assert_array_equal(last_layer_of_tflite(again).weights, -weights)
    np.testing.assert_array_equal(last_layer_of_tflite(again).bias, bias)


def test_a_last_layer_of_another_shape_is_refused(network: bytes) -> None:
    layer = last_layer_of_tflite(network)
    with raises(ConversionFailed, "TP3006", layer.weights.shape):
        with_last_layer_of_tflite(network, layer.weights[:-1], layer.bias)


def test_a_last_layer_without_float32_weights_is_not_read(network: bytes) -> None:
    graph = TfliteGraph(network)
    (dense,) = [operator for operator in graph.operators if graph.kind(operator) == "FULLY_CONNECTED"]
    graph.graph.tensors[int(dense.inputs[1])].type = graph.schema.TensorType.FLOAT16
    with raises(ConversionFailed, "TP3267"):
        last_layer_of_tflite(graph.content)
