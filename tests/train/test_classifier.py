"""A classifier on disk: its three forms answer alike, and nothing that does not belong together is put together."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.errors import raises
from tests.support.photos import make_photo
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact, StorageFailed
from trtpoets.core.optional import tensorflow
from trtpoets.core.types import Classifier, ModelSpec, Resize
from trtpoets.train.backbones import backbone_named
from trtpoets.train.classifier import classifier_from_head, imagenet_classifier, load_classifier
from trtpoets.train.networks import Network, graphs_of, with_scaling

LABELS = ("mono ok", 'say "no"', "🌼")


@pytest.fixture(scope="module")
def network() -> Network:
    """A small network with random weights, and a 1,000-class head as random."""
    tensorflow().keras.utils.set_random_seed(1)
    backbone = backbone_named("mobilenet_0.25_128")
    rng = np.random.default_rng(1)
    head = rng.normal(0, 1, (256, 1000)).astype(np.float32), rng.normal(0, 1, 1000).astype(np.float32)
    return Network(backbone, with_scaling(backbone, graphs_of(backbone)[0]().base), "1" * 64, head)


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return np.stack([np.array(make_photo(i, i, (128, 128))) for i in range(3)])


@pytest.fixture(scope="module")
def head(network: Network, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spread = np.asarray(network.model(photos, training=False)).std()
    rng = np.random.default_rng(0)
    return (rng.normal(0, 0.1 / spread, (256, 3))).astype(np.float32), np.array([0.1, -0.2, 0.3], np.float32)


def spec_of(network: Network, labels: tuple[str, ...] = LABELS) -> ModelSpec:
    return ModelSpec("cells", network.backbone.name, network.backbone.preprocess, labels, network.weights_id)


@pytest.fixture(scope="module")
def classifier(
    network: Network, head: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Classifier:
    return classifier_from_head(network, *head, spec_of(network), tmp_path_factory.mktemp("run") / "classifier")


@pytest.fixture(scope="module")
def scores(network: Network, head: tuple[np.ndarray, np.ndarray], photos: np.ndarray) -> np.ndarray:
    logits = np.asarray(network.model(photos, training=False)) @ head[0] + head[1]
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_the_keras_file_answers(classifier: Classifier, photos: np.ndarray, scores: np.ndarray) -> None:
    model = tensorflow().keras.models.load_model(classifier.folder / "classifier.keras", compile=False)
    assert (model.input.name, model.input.dtype, model.output.dtype) == ("photos", "uint8", "float32")
    np.testing.assert_allclose(np.asarray(model(photos, training=False)), scores, atol=1e-6)


def test_the_saved_model_answers_by_name(classifier: Classifier, photos: np.ndarray, scores: np.ndarray) -> None:
    tf = tensorflow()
    loaded = tf.saved_model.load(str(classifier.saved_model))
    serve = loaded.signatures["serve"]
    wanted = serve.structured_input_signature[1]["photos"]
    assert (wanted.shape.as_list(), wanted.dtype) == ([None, 128, 128, 3], tf.uint8)
    answer = serve(photos=tf.constant(photos))
    assert list(answer) == ["scores"]
    np.testing.assert_allclose(answer["scores"].numpy(), scores, atol=1e-6)
    assert answer["scores"].shape == (3, len(LABELS))
    np.testing.assert_allclose(loaded.signatures["serving_default"](photos=photos[:1])["scores"], scores[:1], atol=1e-6)


def test_a_classifier_is_read_without_tensorflow(classifier: Classifier) -> None:
    code = (
        "import sys; from pathlib import Path; from trtpoets.train.classifier import load_classifier; "
        "c = load_classifier(Path(sys.argv[1])); "
        "print(c.spec.to_json()); print({'tensorflow', 'keras', 'safetensors'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(classifier.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result, _, loaded = done.stdout.strip().rpartition("\n")
    assert loaded == "set()"
    assert ModelSpec.from_json(result, "stdout") == classifier.spec == load_classifier(classifier.folder).spec


def test_writing_a_classifier_replaces_the_old_one(
    network: Network, head: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    folder = tmp_path / "classifier"
    folder.mkdir()
    (folder / "left over").write_text("x")
    crop = dataclasses.replace(network.backbone.preprocess, resize=Resize.CROP, crop_fraction=0.9)
    spec = dataclasses.replace(spec_of(network), preprocess=crop)  # how photos are cut is not in the graph, and free
    classifier_from_head(network, *head, spec, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["classifier.keras", "model.json", "saved_model"]
    assert [path.name for path in tmp_path.iterdir()] == ["classifier"]
    assert load_classifier(folder).spec == spec


@pytest.mark.parametrize(
    ("weights", "bias", "code", "values"),
    [
        (np.zeros((256, 2)), np.zeros(3), "TP2005", ("mobilenet_0.25_128", "(256, 2)", "(256, 3)", "(3,)")),
        (np.zeros((3, 256)), np.zeros(3), "TP2005", ("(3, 256)", "(256, 3)", "(3,)")),
        (np.zeros((256, 3)), np.zeros((1, 3)), "TP2005", ("(256, 3)", "(1, 3)")),
        (np.full((256, 3), np.nan), np.zeros(3), "TP2006", ()),
        (np.zeros((256, 3)), np.array([0, np.inf, 0]), "TP2006", ()),
    ],
)
def test_a_head_of_another_shape_is_refused(
    network: Network, weights: np.ndarray, bias: np.ndarray, code: str, values: tuple[str, ...], tmp_path: Path
) -> None:
    with raises(BadInput, code, *values):
        classifier_from_head(network, weights, bias, spec_of(network), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "resnet50"},
        {"weights_id": "0" * 64},
        {"preprocess": backbone_named("efficientnet_lite0").preprocess},
        {"preprocess": backbone_named("mobilenet_1.0_192").preprocess},
    ],
)
def test_a_spec_of_another_network_is_refused(
    network: Network, head: tuple[np.ndarray, np.ndarray], change: dict[str, Any], tmp_path: Path
) -> None:
    with raises(BadInput, "TP2010", "cells", "mobilenet_0.25_128", "128"):
        classifier_from_head(network, *head, dataclasses.replace(spec_of(network), **change), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_pretrained_classifier_has_its_1000_classes(network: Network, photos: np.ndarray, tmp_path: Path) -> None:
    classifier = imagenet_classifier(network, "stock", tmp_path / "out")
    assert len(classifier.spec.labels) == 1000
    assert classifier.spec.preprocess == network.backbone.published_preprocess
    assert classifier.spec.weights_id == network.weights_id
    serve = tensorflow().saved_model.load(str(classifier.saved_model)).signatures["serve"]
    assert network.imagenet_head is not None
    kernel, bias = network.imagenet_head
    logits = np.asarray(network.model(photos, training=False)) @ kernel + bias
    scores = serve(photos=tensorflow().constant(photos))["scores"].numpy()
    np.testing.assert_array_equal(scores.argmax(1), logits.argmax(1))
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)


def test_weights_without_the_last_layer_give_no_pretrained_classifier(network: Network, tmp_path: Path) -> None:
    headless = dataclasses.replace(network, imagenet_head=None)
    with raises(BadInput, "TP2007", "mobilenet_0.25_128") as caught:
        imagenet_classifier(headless, "stock", tmp_path / "out")
    assert "include_top=True" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_a_full_disk_while_tensorflow_writes(
    network: Network, head: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf = tensorflow()

    def full(*arguments: Any, **options: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, f"{tmp_path}/variables; No space left on device")

    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier" / "model.json").write_text("the old one")
    monkeypatch.setattr(tf.saved_model, "save", full)
    with raises(StorageFailed, "TP1085", "write", "classifier", "No space left on device"):
        classifier_from_head(network, *head, spec_of(network), tmp_path / "classifier")
    assert [path.name for path in tmp_path.iterdir()] == ["classifier"]
    assert (tmp_path / "classifier" / "model.json").read_text() == "the old one"


@pytest.mark.parametrize("name", ["model.json", "classifier.keras", "saved_model/saved_model.pb"])
def test_a_classifier_with_a_missing_file_is_refused(name: str, tmp_path: Path) -> None:
    _hollow(tmp_path, "{}")
    (tmp_path / name).unlink()
    with raises(MissingArtefact, "TP2008", name) as caught:
        load_classifier(tmp_path)
    assert "trtpoets run PHOTOS --name NAME" in caught.value.hint


def test_a_model_json_that_was_edited(classifier: Classifier, tmp_path: Path) -> None:
    value = json.loads((classifier.folder / "model.json").read_text())
    value["preprocess"]["width"] = 192
    _hollow(tmp_path, json.dumps(value))
    with raises(BadArtefact, "TP1095"):
        load_classifier(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with raises(BadArtefact, "TP1094"):
        load_classifier(tmp_path)


def _hollow(folder: Path, spec: str) -> None:
    """A folder with the names of a classifier and nothing in it."""
    (folder / "saved_model").mkdir()
    (folder / "model.json").write_text(spec)
    (folder / "classifier.keras").touch()
    (folder / "saved_model" / "saved_model.pb").touch()
