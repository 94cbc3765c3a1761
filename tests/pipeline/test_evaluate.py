"""Which runners `evaluate` runs, and that it reads each file once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trtpoets
from tests.pipeline.test_int8_head import workspace
from tests.support.all_photos import all_photos
from tests.support.benchmarks import QUICK, benchmark_document, typed
from tests.support.photos import photo_folder
from tests.support.small_networks import LABELS
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import RunFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Classifier, OnnxModel, Photo, Precision, Split, TfliteModel
from trtpoets.device.runners import Way, open_runner
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.judge.all_photos import AllPhotos, NotCompared
from trtpoets.judge.cross_fit import CrossFitConfig
from trtpoets.pipeline import result_status
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.pipeline.evaluate import _is_other


class Named(FakeRunner):
    """Named after what it stands for; TensorRT's provider does not load."""

    def __init__(self, artefact: Any, way: Way) -> None:
        super().__init__(artefact.spec, identity=open_runner(artefact, way=way).identity)

    def __enter__(self) -> Named:
        if self.identity.way == "tensorrt":
            raise RunFailed("TensorrtExecutionProvider does not load here", hint="")
        super().__enter__()
        return self


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A run of a classifier and an ONNX file, with three photos."""
    folder = photo_folder(tmp_path / "photos", {"ant": 1, "bee": 1, "cow": 1})
    photos = tuple(
        Photo(path, path.parent.name, Split.TEST, sha256_of_file(path)) for path in sorted(folder.rglob("*.jpg"))
    )
    model = OnnxModel(tmp_path / "fp32.onnx", Precision.FP32, tiny_spec())
    model.path.write_bytes(b"a network")
    monkeypatch.setattr(
        "trtpoets.pipeline.evaluate.artefacts_in", lambda space: (Classifier(tmp_path, tiny_spec()), model)
    )
    monkeypatch.setattr(
        "trtpoets.pipeline.bench.artefacts_in", lambda space: (Classifier(tmp_path, tiny_spec()), model)
    )
    monkeypatch.setattr("trtpoets.pipeline.evaluate.photos_to_judge", lambda space: photos)
    monkeypatch.setattr("trtpoets.pipeline.bench.photos_to_judge", lambda space: photos)
    monkeypatch.setattr(result_status, "classifier_identity", lambda space: "a classifier")
    monkeypatch.setattr("trtpoets.pipeline.bench.fixed_batch", lambda path: 0)
    return tmp_path


def test_gpu_providers_are_evaluated_or_skipped(monkeypatch: pytest.MonkeyPatch, space: Path) -> None:
    monkeypatch.setattr("trtpoets.pipeline.runner_access.gpu_providers", lambda: ["cuda", "tensorrt"])
    monkeypatch.setattr("trtpoets.pipeline.runner_access.open_runner", Named)
    details = to_json(trtpoets.evaluate("x", engines=space))
    assert [evaluation["runner"] for evaluation in details["evaluations"]] == [
        "tensorflow",
        "onnxruntime-fp32",
        "onnxruntime-cuda-fp32",
    ]
    assert details["skipped"] == [
        {"what": "running onnxruntime-tensorrt-fp32", "why": "TensorrtExecutionProvider does not load here"}
    ]


def test_a_benchmark_reads_each_file_once(monkeypatch: pytest.MonkeyPatch, space: Path) -> None:
    read: list[Path] = []
    monkeypatch.setattr(result_status, "sha256_of_file", lambda path: read.append(path) or "ab")
    monkeypatch.setattr(
        "trtpoets.pipeline.bench.benchmark_from_artefacts", lambda *_: typed(benchmark_document(1, 5.0))
    )
    details = trtpoets.bench("x", QUICK, engines=space)
    assert read == [space / "fp32.onnx"]
    assert details.artefacts == {space.name: "a classifier", "fp32.onnx": "ab"}


def test_all_photos_are_evaluated_again_for_a_file_that_is_new(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", dict.fromkeys(LABELS, 60), size=(40, 40))
    space = workspace(tmp_path, photos)
    result = replace(all_photos(60), dataset=dataset_in(space).hash)
    wide, narrow = (OnnxModel(space.onnx(each), each, tiny_spec()) for each in (Precision.FP32, Precision.INT8))
    tflite = TfliteModel(space.tflite(Precision.INT8), Precision.INT8, tiny_spec())

    def stale(current: AllPhotos, *files: OnnxModel | TfliteModel) -> bool:
        return _is_other(space, current, CrossFitConfig(), files)

    assert not stale(result, wide, narrow)
    assert stale(result, wide, narrow, tflite)
    assert not stale(replace(result, not_compared=(NotCompared("int8.tflite", "why"),)), wide, narrow, tflite)
    # Not a statement about a file, whatever the text of a note begins with.
    assert stale(replace(result, notes=("int8.tflite was not compared: why.",)), wide, narrow, tflite)
    # Earlier versions did not record these files.
    earlier = to_json(result)
    del earlier["not_compared"]
    assert from_json(AllPhotos, earlier, "evaluation.json") == result
