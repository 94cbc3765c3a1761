"""The user's Keras settings do not affect trtpoets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.errors import raises
from trtpoets.core.errors import MissingDependency
from trtpoets.core.keras_settings import keras_defaults, keras_home, keras_import, require_keras
from trtpoets.core.optional import tensorflow

ROOT = Path(__file__).parents[2]

HOSTILE = {"floatx": "float16", "epsilon": 0.01, "backend": "torch", "image_data_format": "channels_first"}

ENVIRONMENT = {
    "KERAS_BACKEND": "jax",
    "TF_USE_LEGACY_KERAS": "1",
    "KERAS_MAX_EPOCHS": "many",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "PYTHONWARNINGS": "error",
    "TF_CPP_MIN_LOG_LEVEL": "",
}

PROGRAM = """
import json, os
before = dict(os.environ)
from tests.core.test_keras_settings import scores
answers = scores()
print(json.dumps([answers, sorted(name for name in before if before[name] != os.environ.get(name))]))
"""


def scores() -> list[Any]:
    """What a small network of Keras gives, and the settings that it was made with."""
    keras = tensorflow().keras
    with keras_defaults():
        layers = keras.layers
        x = entry = keras.Input((12, 8, 3))
        x = layers.Conv2D(4, 3, kernel_initializer="ones", name="convolution")(x)
        x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
        predict = keras.Model(entry, x).predict(np.arange(4 * 288).reshape(4, 12, 8, 3), batch_size=1, verbose=0)
    return [str(predict.dtype), predict.tolist(), keras.config.backend(), keras.config.image_data_format()]


@pytest.mark.slow  # another program imports TensorFlow
def test_settings_of_keras_change_nothing(tmp_path: Path) -> None:
    settings = tmp_path / "keras.json"
    settings.write_text(json.dumps(HOSTILE))
    environment = {**os.environ, **ENVIRONMENT, "KERAS_HOME": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result, changed = json.loads(done.stdout.splitlines()[-1])
    assert result == scores() and result[0] == "float32" and result[2:] == ["tensorflow", "channels_last"]
    assert changed == [], "the user's variables are as they were"
    assert json.loads(settings.read_text()) == HOSTILE and list(tmp_path.iterdir()) == [settings]


@pytest.mark.parametrize("text", ['{"backend": ', "[]", '{"floatx": "float8"}', '{"epsilon": 1}'])
def test_keras_is_imported_without_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "keras.json").write_text(text)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    with keras_import():
        folder = Path(os.environ["KERAS_HOME"])
        assert folder.is_dir() and list(folder.iterdir()) == []
        assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert os.environ["KERAS_HOME"] == str(tmp_path) and os.environ["KERAS_BACKEND"] == "torch"
    assert not folder.exists()


def test_the_folder_of_downloads_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert keras_home() == str(tmp_path / "keras")
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keras_home() == str(tmp_path / ".keras")
    monkeypatch.setenv("HOME", "/nonexistent")
    assert Path(keras_home()).parent.is_dir()


def test_another_keras_in_this_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    modern = SimpleNamespace(config=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", modern)
    with raises(MissingDependency, "TP1021", "'torch'") as caught:
        require_keras(SimpleNamespace(keras=modern))
    assert "KERAS_BACKEND=tensorflow" in caught.value.hint
    monkeypatch.delitem(sys.modules, "keras")
    with raises(MissingDependency, "TP1022"):
        require_keras(SimpleNamespace(keras=SimpleNamespace()))


def test_settings_of_the_callers_program_are_put_back() -> None:
    keras = pytest.importorskip("keras")
    config = keras.config
    before = config.floatx(), config.image_data_format(), config.dtype_policy()
    try:
        config.set_floatx("float16")
        config.set_image_data_format("channels_first")
        config.set_dtype_policy("mixed_float16")
        with keras_defaults():
            layer = keras.layers.Conv2D(1, 1)
            assert (layer.data_format, layer.dtype_policy.name) == ("channels_last", "float32")
        assert (config.floatx(), config.image_data_format()) == ("float16", "channels_first")
        assert config.dtype_policy().name == "mixed_float16"
    finally:
        config.set_floatx(before[0])
        config.set_image_data_format(before[1])
        config.set_dtype_policy(before[2])
