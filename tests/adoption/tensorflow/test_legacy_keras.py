"""Files of Keras 2 are read in a process with tf-keras."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import SIDE, photos
from trtpoets.adoption.contract import RAW
from trtpoets.adoption.tensorflow.network import TensorFlowNetwork
from trtpoets.adoption.tensorflow.reader import read_tensorflow
from trtpoets.core.original import Answers

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

_TEACHABLE_MACHINE = f"""
import os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import numpy as np, tf_keras
layers = tf_keras.layers
tf_keras.utils.set_random_seed(0)
photo = layers.Input(({SIDE}, {SIDE}, 3))
x = layers.Conv2D(4, 3, strides=2, use_bias=False)(photo)
x = layers.BatchNormalization()(x)
x = layers.DepthwiseConv2D(3, use_bias=False)(x)
x = layers.ReLU(6.0)(x)
body = tf_keras.Model(photo, x)
model = tf_keras.Sequential([
    tf_keras.Sequential([body, layers.GlobalAveragePooling2D()]),
    tf_keras.Sequential([layers.Dense(5, "relu"), layers.Dense(3, "softmax", use_bias=False, name="dense_Dense2")]),
])
model.build((None, {SIDE}, {SIDE}, 3))
random = np.random.default_rng(0)
model.set_weights([random.uniform(0.2, 1.5, w.shape) for w in model.get_weights()])
model.save(sys.argv[1] + "/keras_model.h5")
values = np.load(sys.argv[1] + "/values.npy")
np.save(sys.argv[1] + "/answers.npy", model.predict(values, verbose=0))
x = layers.Input(({SIDE}, {SIDE}, 3))
y = layers.Dense(2, "softmax")(layers.Flatten()(__import__("tensorflow").math.subtract(x / 127.5, 1.0)))
tf_keras.Model(x, y).save(sys.argv[1] + "/functions.h5")
"""


@pytest.mark.slow
def test_files_of_keras_2(tmp_path: Path) -> None:
    """As Teachable Machine writes them, with nested Sequentials, and with functions of TensorFlow as layers."""
    if find_spec("tf_keras") is None:
        pytest.skip("needs tf-keras")
    np.save(tmp_path / "values.npy", photos() / np.float32(127.5) - 1)
    subprocess.run([sys.executable, "-c", _TEACHABLE_MACHINE, str(tmp_path)], check=True, capture_output=True)
    loaded = read_tensorflow(tmp_path / "keras_model.h5")
    assert "dense_Dense2" in loaded.model.clues.nodes
    assert loaded.model.output.answers is Answers.PROBABILITIES
    output = TensorFlowNetwork(loaded).infer(np.load(tmp_path / "values.npy"))
    np.testing.assert_allclose(output, np.load(tmp_path / "answers.npy"), atol=1e-5)
    functions = read_tensorflow(tmp_path / "functions.h5").model
    assert functions.fixed is not None
    assert functions.fixed.pixels == RAW
