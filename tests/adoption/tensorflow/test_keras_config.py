"""The configuration of a Keras file is checked before Keras builds its layers."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import keras_model, photos
from tests.adoption.tensorflow.reading import expected_scores
from tests.support.errors import raises
from trtpoets.adoption.contract import UNIT
from trtpoets.adoption.tensorflow.reader import read_tensorflow
from trtpoets.core.errors import BadArtefact
from trtpoets.core.optional import tensorflow

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)
h5py = pytest.importorskip("h5py")


def test_lambda_layers_are_run_only_if_the_user_allows_it(tmp_path: Path) -> None:
    model = keras_model(tensorflow().keras.layers.Lambda(lambda x: x * 0.5 + 0.1, name="own"))
    for name in ("lambda.keras", "lambda.h5"):
        model.save(tmp_path / name)
        with raises(BadArtefact, "TP9121", "Lambda", "own") as caught:
            read_tensorflow(tmp_path / name)
        assert "--allow-code" in caught.value.hint
    expected = model.predict(photos() / np.float32(255), verbose=0)
    loaded = read_tensorflow(tmp_path / "lambda.keras", allow_code=True)
    np.testing.assert_allclose(expected_scores(loaded, UNIT), expected, atol=1e-5)


def test_layers_of_other_programs(tmp_path: Path) -> None:
    keras = tensorflow().keras

    base: Any = keras.layers.Layer

    @keras.utils.register_keras_serializable("mine")
    class Doubled(base):
        def call(self, x: Any) -> Any:
            return x * 2

    keras_model(Doubled()).save(tmp_path / "own.keras")
    keras.utils.get_custom_objects().clear()
    with raises(BadArtefact, "TP9123", "mine>Doubled") as caught:
        read_tensorflow(tmp_path / "own.keras", allow_code=True)
    assert "model.export" in caught.value.hint


def test_functions_of_tensorflow_that_reach_files(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "functions.h5")
    with h5py.File(tmp_path / "functions.h5", "r+") as stored:
        config = json.loads(stored.attrs["model_config"])
        config["config"]["layers"][1] = {
            "class_name": "TFOpLambda",
            "config": {"name": "tf.io.write_file", "function": "io.write_file"},
        }
        stored.attrs["model_config"] = json.dumps(config)
    with raises(BadArtefact, "TP9122", "io.write_file"):
        read_tensorflow(tmp_path / "functions.h5")
