"""Last layers are read from and written to files of both formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.small_networks import residual_network, saved
from tests.support.tiny import tiny_classifier, tiny_tflite
from trtpoets.core.tflite_file import network_in, read_tflite
from trtpoets.core.types import OnnxModel, Precision, TfliteModel
from trtpoets.pipeline.last_layers import last_layer_of_file, replace_last_layer


def check_replacement(model: OnnxModel | TfliteModel) -> None:
    layer = last_layer_of_file(model)
    weights, bias = 2 * layer.weights, layer.bias + np.float32(1)
    replace_last_layer(model, weights, bias)
    result = last_layer_of_file(model)
    np.testing.assert_array_equal(result.weights, weights)
    np.testing.assert_array_equal(result.bias, bias)


def test_the_last_layer_of_an_onnx_file(tmp_path: Path) -> None:
    check_replacement(saved(residual_network(), tmp_path / "fp32.onnx"))


def test_the_last_layer_of_a_tflite_file(tmp_path: Path) -> None:
    model = tiny_tflite(tmp_path, tiny_classifier(tmp_path / "classifier"), Precision.INT8)
    before = network_in(model.path)
    check_replacement(model)
    assert network_in(model.path) != before
    assert read_tflite(model.path) == model, "labels, precision and spec are as before"
