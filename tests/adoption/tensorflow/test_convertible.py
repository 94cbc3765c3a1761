"""Graphs with functions and operators that tf2onnx does not have are converted."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import keras_model, photos, spec_of
from tests.adoption.tensorflow.reading import expected_scores
from trtpoets.adoption.contract import UNIT
from trtpoets.adoption.tensorflow.reader import read_tensorflow
from trtpoets.adoption.tensorflow.wrapping import classifier_from_tensorflow
from trtpoets.convert.onnx_export import onnx_from_classifier
from trtpoets.core.optional import onnxruntime, tensorflow

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def test_grouped_convolutions_and_activations_with_gradients_of_their_own(tmp_path: Path) -> None:
    """Keras compiles grouped convolutions as functions; GELU uses Erfc, which tf2onnx does not have."""
    layers = tensorflow().keras.layers
    model = keras_model(
        layers.Conv2D(6, 3, groups=3, activation="gelu"),
        layers.LayerNormalization(),
        layers.Conv2D(4, 3, groups=2, activation="silu"),
        layers.Conv2D(4, 1, activation="hard_silu"),
    )
    model.save(tmp_path / "model.keras")
    loaded = read_tensorflow(tmp_path / "model.keras")
    expected = expected_scores(loaded, UNIT)
    np.testing.assert_allclose(expected, model(photos() / np.float32(255)), atol=1e-5)
    classifier = classifier_from_tensorflow(loaded, spec_of(loaded, UNIT), tmp_path / "classifier")
    path = onnx_from_classifier(classifier, tmp_path / "fp32.onnx").path
    session = onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"photos": photos()})[0], expected, atol=1e-5)
