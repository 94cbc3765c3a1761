"""Operators that tf2onnx lacks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

from trtpoets.convert.onnx_export import onnx_from_network
from trtpoets.core.onnx_file import open_session
from trtpoets.core.optional import tensorflow


def test_gelu_is_exported(tmp_path: Path) -> None:
    """TensorFlow computes it with Erfc."""
    keras = tensorflow().keras
    photos = keras.Input((2, 2, 3), dtype="uint8", name="photos")
    x = keras.layers.Activation("gelu")(keras.layers.Rescaling(1 / 16, -8)(photos))
    model = keras.Model(photos, keras.layers.Flatten()(x))
    onnx_from_network(model, tmp_path / "net.onnx")
    pixels = np.arange(252, dtype=np.uint8).reshape(-1, 2, 2, 3)
    features = open_session(tmp_path / "net.onnx").run(None, {"photos": pixels})[0]
    np.testing.assert_allclose(features, np.asarray(model(pixels)), atol=2e-6)
