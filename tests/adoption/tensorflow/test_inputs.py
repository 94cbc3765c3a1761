"""Tests that the input with the photo is found if a network has other inputs."""

from __future__ import annotations

import gc
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import SIDE, features, graph, photos, spec_of, weights
from tests.adoption.tensorflow.reading import classifier, read
from trtpoets.adoption.contract import UNIT
from trtpoets.adoption.tensorflow.network import TensorFlowNetwork
from trtpoets.adoption.tensorflow.wrapping import classifier_from_tensorflow
from trtpoets.core.optional import tensorflow
from trtpoets.core.original import Channels, values_from_photos

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def test_inputs_of_training_get_their_values_at_inference(tmp_path: Path) -> None:
    def build(v1: Any) -> None:
        pixels = v1.placeholder("float32", [None, SIDE, SIDE, 3], name="x")
        keep = v1.placeholder("float32", [], name="keep_prob")
        phase = v1.placeholder("bool", [], name="phase_train")
        value = v1.squeeze(features(v1, pixels), [1, 2]) / keep
        chosen = v1.cond(phase, lambda: value * 0, lambda: value)
        v1.nn.softmax(v1.matmul(chosen, weights(6, 3)), name="prob")

    definition = graph(build)
    gc.collect()  # TensorFlow keeps the branches of a graph as global functions; the reader must get them from the file
    model = read(definition, tmp_path).model
    assert (model.input.name, model.output.name) == ("x", "prob")


def test_an_input_without_a_shape_gets_its_channels_from_the_weights(tmp_path: Path) -> None:
    definition = classifier(shape=None)
    for node in definition.node:
        if node.op == "Placeholder":
            del node.attr["shape"]
        if node.op == "Conv2D":
            del node.attr["data_format"]
    loaded = read(definition, tmp_path)
    assert (loaded.model.height, loaded.model.width, loaded.model.channels) == (0, 0, 3)
    spec = spec_of(loaded, UNIT)
    classifier_from_tensorflow(loaded, spec, tmp_path)
    serve = tensorflow().saved_model.load(str(tmp_path / "saved_model")).signatures["serve"]
    output = TensorFlowNetwork(loaded).infer(values_from_photos(photos(), spec.preprocess, Channels.RGB))
    np.testing.assert_allclose(serve(photos=photos())["scores"], output, atol=1e-5)
