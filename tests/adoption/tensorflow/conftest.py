"""Fixtures for the tests of this folder: a small Keras network, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.adoption.tensorflow.networks import keras_model
from trtpoets.core.optional import tensorflow


@pytest.fixture(scope="package")
def model() -> Any:
    """A Keras network that begins with a Rescaling layer to 0..1."""
    return keras_model(tensorflow().keras.layers.Rescaling(1 / 255, name="to_unit"))


@pytest.fixture(scope="package")
def file(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .keras file of `model`."""
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    model.save(path)
    return path
