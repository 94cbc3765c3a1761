"""Functions that XLA compiles, in the graphs that converters see."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

from trtpoets.convert.inlining import with_compiled_calls_inlined
from trtpoets.convert.onnx_export import onnx_from_network
from trtpoets.core.onnx_file import check_onnx, open_session
from trtpoets.core.optional import tensorflow


def test_convolutions_with_groups_are_exported(tmp_path: Path) -> None:
    """Keras compiles them, because TensorFlow has no other kernel for them on a CPU."""
    keras = tensorflow().keras
    keras.utils.set_random_seed(2)
    photos = keras.Input((6, 6, 3), dtype="uint8", name="photos")
    x = keras.layers.Conv2D(8, 3)(keras.layers.Rescaling(1 / 255)(photos))
    x = keras.layers.Conv2D(8, 3, groups=4, name="grouped")(x)
    model = keras.Model(photos, keras.layers.Flatten()(x))
    onnx_from_network(model, tmp_path / "net.onnx")
    attributes = [
        attribute.i
        for node in check_onnx(tmp_path / "net.onnx").graph.node
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "group"
    ]
    assert 4 in attributes
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), np.uint8)
    features = open_session(tmp_path / "net.onnx").run(None, {"photos": pixels})[0]
    np.testing.assert_allclose(features, np.asarray(model(pixels)), atol=1e-5)


def test_a_function_that_compiles_nothing_is_returned_as_it_is() -> None:
    tf = tensorflow()
    function = tf.function(lambda value: value + 1)
    assert with_compiled_calls_inlined(function, tf.TensorSpec((None, 2), tf.float32)) is function
