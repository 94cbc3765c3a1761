"""Extractors of features: their keys, what they compute, and which device runs them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tiny import tiny_onnx, tiny_photo_files, tiny_photos, tiny_spec
from trtpoets.convert.int8.integer_reference import integer_reference
from trtpoets.core.errors import BadInput, StorageFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, Precision
from trtpoets.core.workspace import card_of, seal_card
from trtpoets.pipeline import extractors
from trtpoets.pipeline.extractors import (
    Device,
    FrozenBase,
    OnnxExtractor,
    base_in_cache,
    extractor_from_backbone,
    extractor_from_network,
    extractor_key,
    features_key,
    frozen_base,
    scores_of_model,
)
from trtpoets.train.backbones import backbone_named


@pytest.fixture(autouse=True)
def _a_cache_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))


def test_the_key_depends_on_weights_and_preprocessing() -> None:
    preprocess = tiny_spec().preprocess
    key = features_key("tiny", "weights", preprocess)
    assert key.startswith("tiny-")
    assert key == features_key("tiny", "weights", preprocess)
    others = {
        features_key("tiny", "other", preprocess),
        features_key("tiny", "weights", tiny_spec(offset=0).preprocess),
    }
    assert len({key, *others}) == 3
    backbone = SimpleNamespace(name="tiny", preprocess=preprocess)
    network: Any = SimpleNamespace(backbone=backbone, weights_id="weights")
    assert extractor_key(network) == key


def test_an_onnx_file_is_run_on_photos(tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "fp32.onnx")
    extractor = OnnxExtractor(model.path, "key", 3, tiny_spec().preprocess, OUTPUT_NAME)
    assert (extractor.key, extractor.width, extractor.preprocess) == ("key", 3, tiny_spec().preprocess)
    photos = tiny_photos(3)
    scores = extractor(photos)
    assert (scores.shape, scores.dtype) == ((3, 3), np.float32)
    np.testing.assert_array_equal(scores, open_session(model.path).run([OUTPUT_NAME], {INPUT_NAME: photos})[0])


def test_scores_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, photos = tiny_onnx(tmp_path / "fp32.onnx"), tiny_photo_files(tmp_path / "photos", 6)
    scores = scores_of_model(model, photos)
    pixels = tiny_photos(6, seed=11)
    np.testing.assert_allclose(scores, open_session(model.path).run(None, {INPUT_NAME: pixels})[0], atol=1e-6)
    monkeypatch.setattr(OnnxExtractor, "__call__", lambda *_: pytest.fail("the scores are stored"))
    np.testing.assert_array_equal(scores_of_model(model, photos), scores)


def test_int8_is_computed_in_integers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, photos = tiny_onnx(tmp_path / "int8.onnx", Precision.INT8), tiny_photo_files(tmp_path / "photos", 4)
    computed: list[str] = []
    real = integer_reference

    def recorded(proto: Any) -> Any:
        computed.append(proto.graph.name)
        return real(proto)

    monkeypatch.setattr(extractors, "integer_reference", recorded)
    scores = scores_of_model(model, photos)
    assert computed == ["tiny"]
    fp32 = scores_of_model(tiny_onnx(tmp_path / "fp32.onnx"), photos)
    assert computed == ["tiny"], "FP32 is run as it is"
    assert 0 < abs(scores - fp32).max() < 0.2


def network_with(monkeypatch: pytest.MonkeyPatch, gpus: list[str]) -> Any:
    """A network, and a TensorFlow that finds these GPUs."""
    monkeypatch.setattr(extractors, "tensorflow", lambda: SimpleNamespace(function=lambda function: function))
    monkeypatch.setattr(extractors, "tensorflow_gpus", lambda: len(gpus))
    backbone = SimpleNamespace(name="tiny", preprocess=tiny_spec().preprocess, feature_width=8)
    model = lambda photos, training: np.full((len(photos), 8), 7.0)  # noqa: E731
    return SimpleNamespace(backbone=backbone, weights_id="weights", model=model)


@pytest.mark.parametrize(("device", "gpus"), [(Device.GPU, ["gpu"]), (Device.AUTO, ["gpu"])])
def test_tensorflow_runs_the_base_on_a_gpu(device: Device, gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_with(monkeypatch, gpus)
    extractor = extractor_from_network(network, device)
    features = extractor(tiny_photos(2))
    assert (features.shape, features.dtype, features.max()) == ((2, 8), np.float32, 7)
    assert (extractor.key, extractor.width, extractor.parallel) == (extractor_key(network), 8, 1)


def test_a_gpu_that_tensorflow_does_not_find(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput) as caught:
        extractor_from_network(network_with(monkeypatch, []), Device.GPU)
    assert caught.value.code == "TP8016"


@pytest.mark.parametrize(("device", "gpus"), [(Device.CPU, ["gpu"]), (Device.AUTO, [])])
def test_the_base_is_exported_once_for_the_cpu(
    device: Device, gpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_with(monkeypatch, gpus)
    exports: list[str] = []

    def export(model: object, path: Path, output_name: str) -> None:
        exports.append(output_name)
        path.parent.mkdir(parents=True, exist_ok=True)
        tiny_onnx(path)

    monkeypatch.setattr(extractors, "onnx_from_network", export)
    for _ in range(2):
        extractor = extractor_from_network(network, device)
        assert isinstance(extractor, OnnxExtractor)
        assert extractor.width == 8
    assert exports == ["features"]


def exported(weights_id: str) -> Path:
    """The base of MobileNetV2 with these weights, exported before."""
    backbone = backbone_named("mobilenet_v2")
    key = features_key(backbone.name, weights_id, backbone.preprocess)
    path = extractors._path_in_cache(backbone.name, key)
    tiny_onnx(path)
    seal_card(card_of(path), key=key, files=[path], details={})
    return path


def test_a_base_that_was_exported_is_not_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, loaded = backbone_named("mobilenet_v2"), list[Any]()
    network = SimpleNamespace(backbone=backbone, weights_id="loaded", model=None)
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"weights")
    monkeypatch.setattr(extractors, "network_from_backbone", lambda *given: loaded.append(given) or network)
    monkeypatch.setattr(extractors, "extractor_from_network", lambda *_: "extractor")
    monkeypatch.setattr(extractors, "onnx_in_cache", lambda *_: Path("exported now"))
    now = FrozenBase("extractor", Path("exported now"), "loaded")  # type: ignore[arg-type]
    assert frozen_base(backbone, weights, Device.CPU) == now
    identity = sha256_of_file(weights)
    path = exported(identity)
    base = frozen_base(backbone, weights, Device.CPU)
    assert (base.onnx, base.weights_id) == (path, identity)
    assert isinstance(base.extractor, OnnxExtractor) and base.extractor.width == backbone.feature_width
    assert frozen_base(backbone, None, Device.CPU) == now, "its own weights are others"
    monkeypatch.setattr(extractors, "detect", lambda: SimpleNamespace(gpus=["gpu"]))
    assert frozen_base(backbone, weights, Device.AUTO) == now, "TensorFlow may run it on the GPU"
    monkeypatch.setattr(extractors, "detect", lambda: SimpleNamespace(gpus=[]))
    assert frozen_base(backbone, weights, Device.AUTO).onnx == path
    assert loaded == [(backbone, weights), (backbone, None), (backbone, weights)]


def test_an_extractor_needs_no_network_if_its_base_was_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbone_named("mobilenet_v2")
    network = SimpleNamespace(backbone=backbone, weights_id="loaded", model=None)
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"weights")
    path = exported(sha256_of_file(weights))
    with monkeypatch.context() as patch:
        patch.setattr(extractors, "network_from_backbone", lambda *_: pytest.fail("it was exported"))
        extractor, identity = extractor_from_backbone(backbone, weights, Device.CPU)
        assert isinstance(extractor, OnnxExtractor)
        assert identity == sha256_of_file(weights)
        assert extractor.key == frozen_base(backbone, weights, Device.CPU).extractor.key
    monkeypatch.setattr(extractors, "network_from_backbone", lambda *_: network)
    monkeypatch.setattr(extractors, "extractor_from_network", lambda *_: "extractor")
    monkeypatch.setattr(extractors, "onnx_in_cache", lambda *_: pytest.fail("a GPU needs no ONNX file"))
    monkeypatch.setattr(extractors, "detect", lambda: SimpleNamespace(gpus=["gpu"]))
    assert extractor_from_backbone(backbone, weights, Device.AUTO) == ("extractor", "loaded")
    path.write_bytes(b"damaged")
    assert extractor_from_backbone(backbone, weights, Device.CPU) == ("extractor", "loaded")


def test_a_cache_that_is_a_link_is_refused_before_a_base_is_read(tmp_path: Path) -> None:
    backbone = backbone_named("mobilenet_v2")
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"weights")
    folder = exported(sha256_of_file(weights)).parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with raises(StorageFailed, "TP1053", str(folder)):
        frozen_base(backbone, weights, Device.CPU)


def test_the_base_of_a_classifier_in_the_cache(tmp_path: Path) -> None:
    assert base_in_cache(tiny_spec()) is None, "its backbone is unknown"
    backbone = backbone_named("mobilenet_v2")
    spec = replace(tiny_spec(), backbone="mobilenet_v2", preprocess=backbone.preprocess)
    assert base_in_cache(spec) is None
    path = exported(spec.weights_id)
    assert base_in_cache(spec) == path
    assert base_in_cache(replace(spec, weights_id="other")) is None
    path.write_bytes(b"changed")
    assert base_in_cache(spec) is None


@pytest.mark.parametrize("as_bytes", [True, False])
def test_an_extractor_travels_to_another_process_with_its_network(as_bytes: bool, tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "fp32.onnx").path
    extractor = OnnxExtractor(path.read_bytes() if as_bytes else path, "key", 3, tiny_spec().preprocess, OUTPUT_NAME)
    pickled = pickle.dumps(extractor)
    path.unlink()
    there = pickle.loads(pickled)
    assert (there.key, there.width, there.preprocess) == ("key", 3, tiny_spec().preprocess)
    np.testing.assert_array_equal(there(tiny_photos(3)), extractor(tiny_photos(3)))
