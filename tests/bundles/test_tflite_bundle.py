"""The TFLite bundle: its files give the scores of the run, and its scripts run on their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trtpoets
from tests.cli.test_main import call_main
from tests.support.bundle_programs import interrupt, run_without
from tests.support.bundle_run import bundle_run, seal_lineage
from tests.support.errors import raises
from tests.support.tiny import SIDE, tiny_classifier, tiny_photos, tiny_spec
from trtpoets.bundles.pack import BundleResult
from trtpoets.core.errors import BadArtefact, BadInput, ConversionFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.core.manifest import Target, check_manifest
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Precision, Split, TfliteModel
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.device.runners import open_runner
from trtpoets.judge.advice import Recommended
from trtpoets.judge.all_photos import NotCompared
from trtpoets.judge.golden import read_golden
from trtpoets.pipeline import tflite_files
from trtpoets.pipeline.artefacts import dataset_in, writing
from trtpoets.pipeline.golden_photos import golden_in
from trtpoets.pipeline.int8_advice import CHOOSING, tflite_recommendation
from trtpoets.pipeline.lineage import onnx_models_in, opened
from trtpoets.pipeline.result_status import artefacts_in

FP32, FP16, INT8 = Precision


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose classifier is a network that TensorFlow runs, bundled once."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("run")
    space = bundle_run(folder)
    tiny_classifier(space.classifier)
    seal_lineage(space, "classifier")
    bundled(space)
    return folder


@pytest.fixture
def space(run: Path, tmp_path: Path) -> Workspace:
    """A copy of the run that a test may change; its photos stay where they are."""
    shutil.copytree(run / "engines", tmp_path / "engines")
    return Workspace(tmp_path / "engines", "tiny")


@pytest.fixture(scope="module")
def bundle(run: Path) -> Path:
    return run / "engines" / "tiny" / "bundles" / "tiny-tflite"


def bundled(space: Workspace, **options: Any) -> BundleResult:
    return trtpoets.bundle(space.name, Target.TFLITE, engines=space.engines, **options)


_REFUSED = ("tensorflow", "keras", "onnx", "onnxruntime", "typer", "rich", "pycuda")


def script(bundle: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script of the bundle where only ai-edge-litert, numpy and Pillow can be imported, and what they need."""
    return run_without(_REFUSED, bundle / name, *arguments)


def test_contents(bundle: Path) -> None:
    manifest = check_manifest(bundle)
    assert (manifest.target, set(manifest.order)) == ("tflite", {FP32, INT8})
    tops = {path.split("/")[0] for path in manifest.files}
    assert {"README.md", "fp32.tflite", "int8.tflite", "labels.txt", "model.json", "golden", "runtime"} <= tops
    assert not any(path.endswith(".onnx") for path in manifest.files)
    with zipfile.ZipFile(bundle / "int8.tflite") as archive:
        assert archive.read("labels.txt").decode().split() == list(tiny_spec().labels)
    assert set(read_golden(bundle / "golden").expected) == {"fp32", "int8"}
    text = (bundle / "README.md").read_text()
    assert f"uint8 `(1, {SIDE}, {SIDE}, 3)`" in text and f"unzip -p {manifest.order[0].value}.tflite labels.txt" in text
    assert "@" not in text


@pytest.mark.parametrize("precision", [pytest.param(FP32, marks=pytest.mark.slow), INT8])
def test_the_self_test_passes(bundle: Path, precision: Precision) -> None:
    result = script(bundle, "selftest.py", "--precision", precision.value, "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["passed"] is True and document["precision"] == precision.value
    assert document["max_difference"] <= document["tolerance"]
    check_manifest(bundle)  # running left nothing behind


def test_a_folder_is_classified_line_by_line(bundle: Path, tmp_path: Path, space: Workspace) -> None:
    photos = tiny_photos(4, seed=4)
    for number, pixels in enumerate(photos):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_text("no photo")
    shutil.rmtree(tmp_path / "engines")
    result = script(bundle, "classify.py", tmp_path, "--precision", "fp32", "--top", 1)
    assert result.returncode == 1, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(line["photo"]).name for line in lines] == [f"{number}.png" for number in range(4)]
    assert "is not a photo" in lines[2]["error"]
    from trtpoets.core.tflite_file import read_tflite

    with open_runner(read_tflite(bundle / "fp32.tflite")) as runner:
        scores = runner.infer(photos)
    for number in (0, 1, 3):
        assert lines[number]["labels"] == [tiny_spec().labels[scores[number].argmax()]]
        np.testing.assert_allclose(lines[number]["scores"], [scores[number].max()], atol=1e-5)


def test_an_unavailable_precision(bundle: Path, tmp_path: Path) -> None:
    result = script(bundle, "classify.py", tmp_path, "--precision", "fp16")
    assert (result.returncode, result.stdout) == (1, "")
    assert "this bundle has no fp16" in result.stderr


def test_files_are_created_once(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def recorded(run: Workspace) -> Recommended | None:
        read.append(run.folder)
        return tflite_recommendation(run)

    monkeypatch.setattr(tflite_files, "tflite_recommendation", recorded)
    before = [sha256_of_file(space.tflite(item)) for item in (FP32, INT8)]
    times = [space.tflite(item).stat().st_mtime_ns for item in (FP32, INT8)]
    result = bundled(space)
    assert [sha256_of_file(space.tflite(item)) for item in (FP32, INT8)] == before
    assert [space.tflite(item).stat().st_mtime_ns for item in (FP32, INT8)] == times
    assert read == [space.folder]  # the bundle and its README have one recommendation
    again = bundled(space)
    assert again.archive_sha256 == result.archive_sha256


def test_a_damaged_file_is_created_again(space: Workspace) -> None:
    before = sha256_of_file(space.tflite(FP32))
    space.tflite(FP32).write_bytes(b"damaged")
    assert [item.precision for item in opened(space).tflite] == [INT8]
    bundled(space)
    assert sha256_of_file(space.tflite(FP32)) == before


def test_evaluate_and_bench_use_the_files(space: Workspace) -> None:
    results = [getattr(item, "path", None) for item in artefacts_in(space)]
    assert {space.tflite(FP32), space.tflite(INT8)} <= set(results)
    evaluated = trtpoets.evaluate("tiny", engines=space.engines)
    by_name = {one.runner.name: one for one in evaluated.evaluations}
    assert {"tensorflow", "tflite-fp32", "tflite-int8"} <= set(by_name)
    comparison = by_name["tflite-fp32"].comparison
    assert comparison is not None and comparison.changed == ()
    assert evaluated.all_photos is not None
    assert [item.file for item in evaluated.all_photos.files] == ["int8.onnx", "int8.tflite"]
    # An evaluation of an earlier version did not compare TFLite files.
    earlier = replace(evaluated, all_photos=replace(evaluated.all_photos, files=evaluated.all_photos.files[:1]))
    card = json.loads(space.evaluation.read_text())
    seal_card(space.evaluation, key=card["key"], files=[], details=to_json(earlier))
    assert trtpoets.evaluate("tiny", engines=space.engines).all_photos == evaluated.all_photos


def test_files_of_an_older_classifier_are_not_used(space: Workspace) -> None:
    assert len(opened(space).tflite) == 2
    seal_lineage(space, "trained again")
    assert opened(space).tflite == ()
    with writing(space):
        assert [tflite_model.precision for tflite_model in tflite_files.tflite_models(space, (FP32,))] == [FP32]
    assert [tflite_model.precision for tflite_model in opened(space).tflite] == [FP32]


def test_evaluate_skips_tflite_without_an_interpreter(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from trtpoets.core.errors import MissingDependency

    def none() -> Any:
        raise MissingDependency("running TFLite files needs ai-edge-litert")

    for module in ("device.runners.tflite", "pipeline.tflite_extractor"):
        monkeypatch.setattr(f"trtpoets.{module}.tflite_interpreter", none)
    evaluated = trtpoets.evaluate("tiny", engines=space.engines, force=True)
    assert {one.runner.name for one in evaluated.evaluations}.isdisjoint({"tflite-fp32", "tflite-int8"})
    values = {one.what: one.why for one in evaluated.skipped}
    assert values["running tflite-int8"] == "running TFLite files needs ai-edge-litert"
    assert evaluated.all_photos is not None
    why = "running TFLite files needs ai-edge-litert"
    assert evaluated.all_photos.not_compared == (NotCompared("int8.tflite", why),)


@pytest.mark.slow  # writes another bundle
def test_one_precision_alone(space: Workspace) -> None:
    smaller = bundled(space, precisions=(FP32,), force=True)
    assert smaller.manifest.order == (FP32,)
    assert not (smaller.folder / "int8.tflite").exists()
    assert set(read_golden(smaller.folder / "golden").expected) == {"fp32"}
    result = script(smaller.folder, "selftest.py")
    assert result.returncode == 0, result.stderr


def test_unsupported_options_are_rejected(space: Workspace) -> None:
    with raises(BadInput, "TP8042", "fp16"):
        bundled(space, precisions=(FP16,))
    with raises(BadInput, "TP8011", "tflite"):
        bundled(space, board="orin-nano")


@pytest.mark.parametrize(
    ("recommended", "first", "warning"),
    [
        ({"precision": "fp32", "why": "it agrees on 80 %"}, FP32, "int8.tflite comes last: it agrees on 80 %"),
        ({"precision": "int8", "why": "it agrees on 99 %"}, INT8, ""),
    ],
)
def test_the_recommendation_decides_the_order(
    space: Workspace, recommended: dict[str, Any], first: Precision, warning: str
) -> None:
    path = space.tflite(INT8)
    card = json.loads(card_of(path).read_text())
    seal_card(card_of(path), key=card["key"], files=[path], details={**card["details"], "recommended": recommended})
    result = bundled(space)
    assert result.manifest.order[0] is first
    values = [text for text in result.warnings if "evaluated" not in text and "vary between builds" not in text]
    assert values == ([warning] if warning else [])
    readme = (result.folder / "README.md").read_text()
    assert f"sum to 1. Compared with FP32: {recommended['why']} |" in readme
    assert f"`{first.value}.tflite` unless" in readme


def test_a_large_int8_tolerance_is_a_warning(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflite_files, "_MAX_TOLERANCE", 1e-9)
    assert any(
        "int8.tflite vary between builds of the interpreter: computed in another way here" in text
        for text in bundled(space).warnings
    )


def test_golden_scores_are_compared_with_the_onnx_file(space: Workspace) -> None:
    onnx = golden_in(space, onnx_models_in(space))
    onnx.expected["fp32"].scores[0] = [0.0, 0.0, 1.0]
    with raises(ConversionFailed, "TP8043", "000"):
        tflite_files.golden_of(opened(space).tflite, onnx)


def test_the_card_records_the_inputs(space: Workspace) -> None:
    fp32, int8 = (open_card(card_of(space.tflite(item))) for item in (FP32, INT8))
    assert fp32 is not None and int8 is not None
    assert fp32["parity"]["max_abs"] < 1e-4
    assert int8["calibration"]["photos"] > 0
    photos = dataset_in(space).in_split(*CHOOSING)
    assert int8["calibrated"] == sorted(photo.sha256 for photo in photos if photo.split is Split.TRAIN)
    assert int8["recommended"]["photos"] == len(photos) - len(int8["calibrated"])
    assert int8["recommended"]["precision"] == "fp32"
    assert "too" not in int8["recommended"]["why"] and "can't tell" in int8["recommended"]["why"]


def test_inspect_reads_them(
    space: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = space.tflite(INT8)
    inspection = trtpoets.inspect(path)
    assert (inspection.kind, inspection.facts) == ("tflite", TfliteModel(path, INT8, tiny_spec()))
    assert call_main(monkeypatch, "inspect", str(path)) == 0
    shown = capsys.readouterr().out
    assert "a TFLite file" in shown and "ant, bee, cow" in shown and "int8" in shown
    path.write_bytes(path.read_bytes()[:-1])
    with raises(BadArtefact, "TP1092"):
        trtpoets.inspect(path)


@pytest.mark.slow  # that of ONNX Runtime's bundle shares the code
def test_ctrl_c_ends_the_classifier_without_a_traceback(bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "black.png")
    code, error = interrupt(bundle / "classify.py", tmp_path / "black.png", tmp_path / "photos")
    assert code == 130
    assert error == "Error: interrupted [TP1071]\n  try: run the same command again\n"
