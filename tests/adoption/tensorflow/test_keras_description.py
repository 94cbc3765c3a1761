"""Keras files are described by their configuration: layers, weights, scaling, and what is refused."""

from __future__ import annotations

import json
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.adoption.tensorflow.networks import SIDE, keras_model
from tests.support.errors import raises
from trtpoets.adoption.tensorflow.keras_description import facts_of_keras
from trtpoets.convert.graph.onnx_facts import TensorFacts
from trtpoets.core.errors import BadArtefact
from trtpoets.core.optional import tensorflow

if find_spec("tensorflow") is None:  # importing it takes seconds of each worker of the tests
    pytest.skip("needs TensorFlow", allow_module_level=True)
h5py = pytest.importorskip("h5py")


def test_a_file_of_keras_3(file: Path, model: Any) -> None:
    facts = facts_of_keras(file)
    assert facts.producer.startswith("keras 3.")
    assert facts.inputs == (TensorFacts("photo", "fp32", (None, SIDE, SIDE, 3)),)
    assert facts.outputs == (TensorFacts("classes", "fp32", (None, 3)),)
    assert facts.operators["Conv2D"] == facts.operators["Rescaling"] == facts.operators["Dense"] == 1
    assert facts.weights == {"fp32": model.count_params()}
    assert facts.preprocessing[0] == "the layer to_unit computes x * 0.00392157 + 0"
    assert (facts.labels, facts.refused) == ((), "")


def test_hdf5_with_labels_and_an_optimizer(model: Any, tmp_path: Path) -> None:
    model.compile("adam", "mse")
    model.save(tmp_path / "model.h5")
    (tmp_path / "labels.txt").write_text("0 ant\n1 bee\n2 cow\n")
    facts = facts_of_keras(tmp_path / "model.h5")
    assert facts.weights == {"fp32": model.count_params()}
    assert (facts.labels, facts.labels_from) == (("ant", "bee", "cow"), "labels.txt beside the file")


def test_networks_inside_a_network(tmp_path: Path) -> None:
    keras = tensorflow().keras
    outer = keras.Sequential([keras.layers.Input((SIDE, SIDE, 3)), keras_model(), keras.layers.Softmax(name="last")])
    outer.save(tmp_path / "outer.keras")
    facts = facts_of_keras(tmp_path / "outer.keras")
    assert facts.operators["Conv2D"] == 1 and facts.outputs[0] == TensorFacts("last", "fp32", (None, 3))


def test_what_is_refused(tmp_path: Path) -> None:
    layers = tensorflow().keras.layers
    photo = layers.Input((SIDE, SIDE, 3))
    two = tensorflow().keras.Model(photo, [layers.Flatten(name="a")(photo), layers.Flatten(name="b")(photo)])
    two.save(tmp_path / "two.keras")
    assert facts_of_keras(tmp_path / "two.keras").refused == "it has 2 outputs (a, b); a classifier has one"
    sound = layers.Input((100, 1), name="sound")
    tensorflow().keras.Model(sound, layers.Flatten()(sound)).save(tmp_path / "sound.keras")
    assert "its input sound has 3 axes" in facts_of_keras(tmp_path / "sound.keras").refused
    code = [{"class_name": "Lambda", "config": {"name": "code"}}]
    with_code = {"class_name": "Sequential", "config": {"layers": code}}
    with zipfile.ZipFile(tmp_path / "two.keras") as source, zipfile.ZipFile(tmp_path / "code.keras", "w") as target:
        target.writestr("config.json", json.dumps(with_code))
        target.writestr("model.weights.h5", source.read("model.weights.h5"))
    assert "contains a Lambda layer (code)" in facts_of_keras(tmp_path / "code.keras").refused
    keras_model().save_weights(tmp_path / "only.weights.h5")
    with raises(BadArtefact, "TP9130", tmp_path / "only.weights.h5"):
        facts_of_keras(tmp_path / "only.weights.h5")


@pytest.mark.parametrize("config", [[], {}, {"class_name": "Sequential", "config": {"layers": [1, {}, None]}}, 3])
def test_odd_configurations(config: object, file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(tmp_path / "odd.keras", "w") as target:
        target.writestr("config.json", json.dumps(config))
        target.writestr("model.weights.h5", source.read("model.weights.h5"))
    facts = facts_of_keras(tmp_path / "odd.keras")
    assert (facts.inputs, facts.outputs, facts.operators) == ((), (), {})
