"""Errors of the export name commands that work for the kind of classifier: trained, or adopted from a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.adoption.onnx.networks import plain
from tests.adoption.onnx.wrapping import spec_for
from tests.support.errors import raises
from tests.support.tiny import tiny_spec
from tests.test_hints import commands_in, parsed
from trtpoets.adoption.loaded import Fp32File
from trtpoets.adoption.onnx import read_onnx_classifier
from trtpoets.convert.onnx_export import ExportConfig, onnx_from_classifier, serve_signature
from trtpoets.core.errors import ConversionFailed, MissingArtefact
from trtpoets.core.model_json import write_model_json
from trtpoets.core.original import Format
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.types import Classifier, ModelSpec, OnnxModel, Precision
from trtpoets.core.workspace import Workspace
from trtpoets.device.runners.tf import TensorFlowRunner
from trtpoets.pipeline import export
from trtpoets.pipeline.artefacts import writing
from trtpoets.pipeline.extractors import Device, base_in_cache, extractor_from_network
from trtpoets.train.backbones import backbone_named
from trtpoets.train.classifier import classifier_from_head, load_classifier
from trtpoets.train.networks import network_from_backbone


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """Descriptions of a trained and of two adopted classifiers."""
    adopted = spec_for(read_onnx_classifier(plain(tmp_path_factory.mktemp("foreign") / "net.onnx")))
    assert adopted.original is not None
    keras = replace(adopted, original=replace(adopted.original, format=Format.KERAS, file="net.keras"))
    return {"trained": tiny_spec(), "onnx": adopted, "keras": keras}


@pytest.mark.parametrize(
    ("kind", "verbs"), [("trained", ["export", "doctor"]), ("keras", ["adopt", "doctor"]), ("onnx", ["doctor"])]
)
def test_scores_that_differ(
    kind: str, verbs: list[str], specs: dict[str, ModelSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = specs[kind]
    model = OnnxModel(tmp_path / "fp32.onnx", Precision.FP32, spec)
    scores = iter(np.full((2, 8, len(spec.labels)), [[[0.2]], [[0.9]]], np.float32))

    @contextmanager
    def runner(_: object) -> Iterator[Any]:
        answer = next(scores)
        yield SimpleNamespace(infer=lambda _: answer, identity=RunnerId(Library.TENSORFLOW))

    monkeypatch.setattr(export, "open_runner", runner)
    monkeypatch.setattr(export, "fp32_from_classifier", lambda *_: Fp32File(model))
    with pytest.raises(ConversionFailed) as caught, writing(Workspace(tmp_path, "a b")):
        export.compared_export(Classifier(tmp_path, spec), model.path, (), ExportConfig())
    assert caught.value.code == "TP3055"
    commands = commands_in(caught.value.hint)
    assert [words[0] for words in commands] == verbs
    for words in commands[:-1]:
        assert parsed(words)["name"] == "a b"
        assert "--opset" not in words or kind == "trained"


@pytest.mark.parametrize(("dtype", "verbs"), [("float32", ["adopt"]), ("int8", ["doctor"])])
def test_scores_of_a_tflite_file_that_differ(
    dtype: str, verbs: list[str], specs: dict[str, ModelSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float output with integer weights: TFLite quantises values while it runs, with each kernel otherwise."""
    original = specs["onnx"].original
    assert original is not None
    original = replace(original, format=Format.TFLITE, output=replace(original.output, dtype=dtype))
    spec = replace(specs["onnx"], original=original)
    model = OnnxModel(tmp_path / "fp32.onnx", Precision.FP32, spec)
    monkeypatch.setattr(export, "fp32_from_classifier", lambda *_: Fp32File(model, rounding=model.path))
    hints: list[str] = []

    def parity(*arguments: Any) -> None:
        hints.extend(arguments[4:])

    monkeypatch.setattr(export, "parity_of", parity)
    export.compared_export(Classifier(tmp_path, spec), model.path, (), ExportConfig())
    (hint,) = hints
    assert ("quantises values while it runs" in hint) is (dtype == "float32")
    assert [words[0] for words in commands_in(hint)] == verbs


@pytest.mark.parametrize(("kind", "verb"), [("trained", "retrain"), ("keras", "adopt")])
def test_a_missing_saved_model(kind: str, verb: str, specs: dict[str, ModelSpec], tmp_path: Path) -> None:
    classifier = Classifier(tmp_path, specs[kind])
    for code, opened in (
        ("TP3044", lambda: serve_signature(classifier)),
        ("TP4086", lambda: TensorFlowRunner(classifier).__enter__()),
    ):
        with pytest.raises(MissingArtefact) as caught:
            opened()
        assert caught.value.code == code
        assert [words[0] for words in commands_in(caught.value.hint)] == [verb]


def test_an_adopted_classifier_without_its_original(specs: dict[str, ModelSpec], tmp_path: Path) -> None:
    (tmp_path / "original").mkdir()
    write_model_json(specs["onnx"], tmp_path)
    with raises(MissingArtefact, "TP2008", "net.onnx") as caught:
        load_classifier(tmp_path)
    (words,) = commands_in(caught.value.hint)
    assert words[0] == "adopt"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
def test_the_export_from_the_base_is_that_of_the_whole_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    backbone = backbone_named(name)
    network = network_from_backbone(backbone)
    spec = ModelSpec("insects", name, backbone.preprocess, ("ant", "bee", "cow"), network.weights_id)
    random = np.random.default_rng(0)
    weights, bias = random.normal(0, 0.05, (backbone.feature_width, 3)), random.normal(0, 1, 3)
    classifier = classifier_from_head(network, weights, bias, spec, tmp_path / "classifier")
    assert base_in_cache(spec) is None
    extractor_from_network(network, Device.CPU)
    with monkeypatch.context() as patched:
        patched.setattr(export, "fp32_from_classifier", lambda *_: pytest.fail("the whole network was exported"))
        model, compared = export.compared_export(classifier, tmp_path / "fp32.onnx", (), ExportConfig())
    assert compared.parity.max_abs < 1e-4
    whole = onnx_from_classifier(classifier, tmp_path / "whole.onnx")
    assert model == replace(whole, path=model.path)
    assert model.path.read_bytes() == whole.path.read_bytes()
    other = replace(spec, weights_id="0" * 64)
    assert base_in_cache(other) is None
