"""Stale artefacts of an earlier classifier, and interrupted trainings."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trtpoets
from tests.conftest import SMALL, small_config
from tests.support.bundle_run import bundle_run
from tests.support.errors import raises
from tests.support.tiny import tiny_onnx
from trtpoets.convert.int8.calibration import CalibrationConfig
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact, TrtPoetsError
from trtpoets.core.serialization import to_json
from trtpoets.core.types import OnnxModel, Precision, Split
from trtpoets.core.workspace import Workspace, card_of, open_card, read_card, seal_card
from trtpoets.pipeline import artefacts, publish
from trtpoets.pipeline.artefacts import classifier_in, dataset_in
from trtpoets.pipeline.calibration_cache_export import calibration_cache
from trtpoets.pipeline.lineage import engines_in, onnx_in, onnx_models_in, stale_in
from trtpoets.pipeline.photos import require_photos
from trtpoets.pipeline.retrain import RetrainConfig
from trtpoets.train.photo_table import table_of

FP32, FP16, INT8 = Precision


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return bundle_run(tmp_path)


def trained_anew(space: Workspace, **details: Any) -> None:
    """Another training of the same photos and options that gave other weights."""
    (space.classifier / "classifier.keras").write_bytes(b"other weights")
    card = read_card(card_of(space.classifier))
    seal_card(card_of(space.classifier), key=card.key, files=[space.classifier], details={**card.details, **details})


def test_other_weights_make_every_file_stale(space: Workspace) -> None:
    assert [model.precision for model in onnx_models_in(space)] == [FP32, FP16, INT8]
    assert stale_in(space) == ()
    trained_anew(space)
    assert onnx_models_in(space) == ()
    assert {item.path.name for item in stale_in(space)} == {"fp32.onnx", "fp16.onnx", "int8.onnx"}
    for precision in Precision:
        with raises(MissingArtefact, "TP8057" if precision is FP32 else "TP8058", "was made from an earlier") as caught:
            onnx_in(space, precision)
        assert caught.value.hint == space.command("export")


def test_stages_refuse_stale_files(space: Workspace, tmp_path: Path) -> None:
    trained_anew(space)
    for command, code in (
        (lambda: trtpoets.quantize("tiny", engines=space.engines), "TP8057"),
        (lambda: trtpoets.bundle("tiny", "triton", engines=space.engines), "TP8057"),
        (lambda: calibration_cache("tiny", tmp_path / "cache.txt", engines=space.engines), "TP8057"),
        (lambda: onnx_in(space, INT8), "TP8058"),
    ):
        with raises(MissingArtefact, code, ".onnx", "was made from") as caught:
            command()
        assert caught.value.hint == space.command("export")


def test_files_of_another_fp32_are_stale(space: Workspace) -> None:
    card = read_card(card_of(space.onnx(FP32)))
    tiny_onnx(space.onnx(FP32), batch="other")
    seal_card(card_of(space.onnx(FP32)), key=card.key, files=[space.onnx(FP32)], details=card.details)
    assert [model.precision for model in onnx_models_in(space)] == [FP32]
    with raises(MissingArtefact, "TP8058", "fp16.onnx", "earlier fp32.onnx") as caught:
        onnx_in(space, FP16)
    assert caught.value.hint == space.command("quantize")


@pytest.mark.parametrize("precision", list(Precision))
def test_a_card_without_made_from_is_stale(precision: Precision, space: Workspace) -> None:
    path = space.onnx(precision)
    details = {word: value for word, value in (open_card(card_of(path)) or {}).items() if word != "made_from"}
    seal_card(card_of(path), key="k", files=[path], details=details)
    assert precision not in {model.precision for model in onnx_models_in(space)}
    assert path in {item.path for item in stale_in(space)}


def test_a_damaged_file_is_listed_and_a_missing_one_is_not(space: Workspace) -> None:
    space.onnx(INT8).write_bytes(b"half")
    space.onnx(FP16).unlink()
    (stale,) = stale_in(space)
    assert to_json(stale.skipped) == {
        "what": "using int8.onnx",
        "why": f"was changed after it was created, or is damaged: {space.command('quantize')}",
    }


def test_labels_of_another_training_are_stale(space: Workspace) -> None:
    path = space.classifier / "model.json"
    path.write_text(path.read_text().replace('"ant"', '"bee "'))
    trained_anew(space)
    card = read_card(card_of(space.onnx(FP32)))
    details = {**card.details, "made_from": artefacts.classifier_identity(space)}
    seal_card(card_of(space.onnx(FP32)), key=card.key, files=[space.onnx(FP32)], details=details)
    assert {"fp32.onnx has labels or preprocessing"} <= {
        f"{item.path.name} {item.why[:27]}" for item in stale_in(space)
    }


def test_a_classifier_of_other_weights_than_its_card_is_refused(space: Workspace) -> None:
    trained_anew(space, weights_id="others")
    with raises(BadArtefact, "TP8002"):
        classifier_in(space)


def test_the_dataset_must_be_the_one_trained_on(space: Workspace) -> None:
    dataset = dataset_in(space)
    trained_anew(space, dataset=dataset.hash)
    assert dataset_in(space) == dataset
    moved = replace(dataset, photos=dataset.photos.with_splits([Split.TEST] * len(dataset.photos)))
    publish.seal_dataset(space, moved, "")
    for judge in (lambda: dataset_in(space), lambda: trtpoets.evaluate("tiny", engines=space.engines)):
        with raises(MissingArtefact, "TP8004") as caught:
            judge()
        assert caught.value.hint == space.command("retrain", dataset.folder)
    card = read_card(card_of(space.classifier))
    seal_card(card_of(space.classifier), key=card.key, files=[space.classifier], details={"weights_id": "weights"})
    with raises(MissingArtefact, "TP8004"):
        dataset_in(space)


def test_files_calibrated_on_other_photos_are_stale(space: Workspace) -> None:
    """A published classifier may be given other photos, of which some calibrated before and are to judge now."""
    dataset = dataset_in(space)
    swapped = {Split.TRAIN: Split.TEST, Split.TEST: Split.TRAIN, Split.VALIDATION: Split.VALIDATION}
    photos = tuple(replace(photo, split=swapped[photo.split]) for photo in dataset.photos)
    publish.seal_dataset(space, replace(dataset, photos=table_of(photos, dataset.folder)), "")
    assert [model.precision for model in onnx_models_in(space)] == [FP32]
    with raises(MissingArtefact, "TP8059", "int8.onnx", "other photos") as caught:
        onnx_in(space, INT8)
    assert caught.value.hint == space.command("quantize")


def test_a_damaged_engine_is_listed_and_does_not_stop_the_rest(space: Workspace) -> None:
    path = space.folder / "fp32.rtx.engine"
    path.write_bytes(b"an engine")
    seal_card(card_of(path), key="k", files=[path], details={})
    path.write_bytes(b"half an")
    assert engines_in(space) == ()
    (stale,) = stale_in(space)
    assert stale.path == path
    assert stale.remedy == space.command("build")


def test_missing_or_changed_photos_are_reported(space: Workspace) -> None:
    dataset = dataset_in(space)
    photos = dataset.in_split(Split.TEST)
    require_photos(space, photos)
    photos[0].path.write_bytes(photos[1].path.read_bytes())
    with raises(BadInput, "TP8030", "1", len(photos)) as caught:
        require_photos(space, photos)
    assert caught.value.hint == space.command("pretrained", "none", "--photos", dataset.folder)
    photos[0].path.unlink()
    with raises(BadInput, "TP8029", 1, len(photos), photos[0].path) as caught:
        require_photos(space, photos)
    assert caught.value.hint.endswith(space.command("pretrained", "none", "--photos", dataset.folder))
    shutil.move(dataset.folder, dataset.folder.with_name("elsewhere"))
    with raises(BadInput, "TP8029", len(photos)) as caught:
        require_photos(space, photos)
    assert space.command("pretrained", "none", "--photos", "NEWPLACE") in caught.value.hint


def config_of(weights: Path) -> RetrainConfig:
    return small_config(weights).retrain


@pytest.fixture(scope="module")
def two_folders(tmp_path_factory: pytest.TempPathFactory, small_photos: Path) -> tuple[Path, Path]:
    """The photos that were trained on, and some of them under other labels."""
    two = tmp_path_factory.mktemp("two")
    for label, other in (("ant", "bee"), ("bée 🐝", "cow")):
        shutil.copytree(small_photos / label, two / other)
    return small_photos, two


@pytest.fixture
def engines(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "engines"))


@pytest.fixture(scope="module")
def second(
    tmp_path_factory: pytest.TempPathFactory, exported: Path, two_folders: tuple[Path, Path], small_weights: Path
) -> Path:
    """The engines folder after the first run was evaluated, and its name trained again with the other labels."""
    engines = Path(shutil.copytree(exported, tmp_path_factory.mktemp("second") / "engines"))
    trtpoets.evaluate("small", engines=engines)
    trtpoets.retrain(two_folders[1], "small", config_of(small_weights), engines=engines)
    return engines


@pytest.mark.slow  # test_other_weights_make_every_file_stale is the fast one
def test_retraining_makes_all_earlier_files_stale(
    second: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engines = Path(shutil.copytree(second, tmp_path / "engines"))
    space = Workspace(engines, "small")
    report = trtpoets.report("small", engines=engines)
    assert report.accuracy == {}
    assert any(evaluation.what == "using evaluation.json" for evaluation in report.skipped)
    photo = dataset_in(space).in_split(Split.TEST)[0]
    (answer,) = trtpoets.label("small", [photo.path], engines=engines)
    assert (answer.runner, set(answer.labels)) == ("tensorflow", {"bee", "cow"})
    assert "fp32.onnx is not used: it was made from an earlier classifier" in caplog.text
    details = to_json(trtpoets.evaluate("small", engines=engines))
    assert [evaluation["runner"] for evaluation in details["evaluations"]] == ["tensorflow"]
    assert {"what": "using fp32.onnx", "why": f"was made from an earlier classifier: {space.command('export')}"} in (
        details["skipped"]
    )
    with pytest.raises(MissingArtefact) as caught:
        trtpoets.quantize("small", calibration=CalibrationConfig(photos=4), engines=engines)
    assert caught.value.hint == space.command("export")
    assert isinstance(trtpoets.export("small", engines=engines), OnnxModel)
    assert stale_in(space) == ()
    report = trtpoets.report("small", engines=engines)
    assert list(report.accuracy) == ["tensorflow"]


@pytest.mark.slow
def test_an_interrupted_training_can_be_repeated(
    engines: Path, two_folders: tuple[Path, Path], small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: Any, **words: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(publish, "seal_dataset", stopped)
        with pytest.raises(KeyboardInterrupt):
            trtpoets.retrain(two_folders[1], "small", config_of(small_weights), engines=engines)
    with raises(TrtPoetsError, "TP8001", Workspace(engines, "small").classifier):
        dataset_in(Workspace(engines, "small"))
    trtpoets.retrain(two_folders[1], "small", config_of(small_weights), engines=engines)
    assert set(dataset_in(Workspace(engines, "small")).labels) == {"bee", "cow"}


def test_photos_that_moved_are_read_again_without_training(
    engines: Path, two_folders: tuple[Path, Path], small_weights: Path, tmp_path: Path
) -> None:
    space = Workspace(engines, "small")
    card, moved = card_of(space.classifier).read_bytes(), tmp_path / "moved photos"
    shutil.copytree(two_folders[0], moved)
    trtpoets.retrain(moved, "small", config_of(small_weights), engines=engines)
    assert card_of(space.classifier).read_bytes() == card
    assert dataset_in(space).folder == moved
    shutil.move(moved, tmp_path / "new place")
    with raises(BadInput, "TP8029") as caught:
        trtpoets.evaluate("small", engines=engines)
    assert space.command("retrain", "NEWPLACE", "--backbone", SMALL) in caught.value.hint


def test_splits_changed_by_training_are_kept(
    engines: Path, two_folders: tuple[Path, Path], small_weights: Path
) -> None:
    """As where copies were kept in one split: the recorded splits are those that were trained with."""
    space = Workspace(engines, "small")
    dataset, card = dataset_in(space), read_card(card_of(space.classifier))
    photo = dataset.in_split(Split.TRAIN)[0]
    photos = tuple(replace(item, split=Split.TEST) if item == photo else item for item in dataset.photos)
    changed = replace(dataset, photos=table_of(photos, dataset.folder))
    publish.seal_dataset(space, changed, "")
    details = {**card.details, "dataset": changed.hash}
    seal_card(card_of(space.classifier), key=card.key, files=[space.classifier], details=details)
    trtpoets.retrain(two_folders[0], "small", config_of(small_weights), engines=engines)
    assert dataset_in(space).hash == changed.hash
    assert read_card(card_of(space.classifier)).details["dataset"] == changed.hash
