"""Files that are compared with FP32 on all photos of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.test_int8_head import models, workspace
from tests.support.fine_tuning import fine_tuning_details
from tests.support.photos import photo_folder
from tests.support.small_networks import LABELS, spec
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.graph.last_layer import LastLayer, last_layer, with_last_layer
from trtpoets.convert.int8.calibration import Method, Ranges
from trtpoets.core.errors import ConversionFailed, MissingDependency
from trtpoets.core.onnx_file import check_onnx, write_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.training import HeadConfig, TrainingDetails
from trtpoets.core.types import Int8Form, OnnxModel, Photo, Precision, Split, TfliteModel
from trtpoets.core.workspace import Workspace, card_of, seal_card
from trtpoets.judge.all_photos import AllPhotos, NotCompared
from trtpoets.judge.cross_fit import CrossFitConfig
from trtpoets.judge.gate import GateConfig
from trtpoets.pipeline import cross_fit as module
from trtpoets.pipeline import int8_advice
from trtpoets.pipeline.artefacts import classifier_key, dataset_in, training_in
from trtpoets.pipeline.card_details import TfliteCalibration, TfliteInt8Details
from trtpoets.pipeline.cross_fit import ComparedFile, CrossFit, all_photos_of, calibrated_photos, cross_fit
from trtpoets.pipeline.extractors import features_of_model
from trtpoets.pipeline.int8_advice import judge_of_choices, recommendation
from trtpoets.pipeline.last_layers import last_layer_of_file
from trtpoets.train.head import Head, head_scores

FOUR = CrossFitConfig(4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo_folder(tmp_path_factory.mktemp("photos") / "photos", dict.fromkeys(LABELS, 60), size=(40, 40))


def trained(space: Workspace, learning_rate: float = 0.01) -> None:
    """Write training.json, as if the head had been trained here with few steps."""
    config = HeadConfig(steps=150, learning_rate=learning_rate)
    details = TrainingDetails(config, 150, 1.0, (150,), (1.0,), (0.1,), (1.0,), (0.1,))
    seal_card(space.training, key=classifier_key(space), files=[], details=details)


def calibrated(space: Workspace, photos: int = 30) -> None:
    """Write ranges.json with these many training photos."""
    chosen = tuple(photo.sha256 for photo in dataset_in(space).in_split(Split.TRAIN)[:photos])
    seal_card(space.ranges, key="ranges", files=[], details=Ranges(Method.MINMAX, {}, chosen, {}, "0" * 64))


def fitted(result: CrossFit | AllPhotos) -> CrossFit:
    assert isinstance(result, CrossFit), result
    return result


def run_to_compare(path: Path, photos: Path, noise: float = 0.05) -> tuple[Workspace, OnnxModel, OnnxModel]:
    """Return a run with a trained head and calibration photos, its FP32 file, and its INT8 file with this noise."""
    space = workspace(path, photos)
    wide, narrow = models(space, noise)
    trained(space)
    calibrated(space)
    return space, wide, narrow


def test_each_photo_is_answered_by_a_head_that_has_not_seen_it(tmp_path: Path, photos: Path) -> None:
    space, wide, narrow = run_to_compare(tmp_path, photos)
    result = all_photos_of(space, wide, [narrow], FOUR)
    count = len(dataset_in(space).photos)
    assert (result.skipped, result.folds, result.photos) == (None, 4, count)
    assert result.accuracy is not None and result.accuracy > 0.9
    assert set(result.recall) == set(LABELS)
    (item,) = result.files
    assert (item.file, item.photos, item.head) == ("int8.onnx", count - 30, "that of FP32, for each fold")
    assert item.by_use["calibration"].photos == 30
    assert sum(use.photos for use in item.by_use.values()) == count
    assert set(item.by_use) == {"calibration", "training", "validation", "test"}
    again = all_photos_of(space, wide, [narrow], FOUR)
    assert again == result
    # A file like FP32 has the same answers; the heads are those of the folds, not that of the file.
    narrow.path.write_bytes(wide.path.read_bytes())
    (same,) = all_photos_of(space, wide, [replace(narrow, precision=Precision.INT8)], FOUR).files
    assert same.agreement == 1
    fold = fitted(cross_fit(space, wide, FOUR))
    folds = fold.counted.folds
    assert folds is not None and fold.features is not None
    rows = folds.rows(2)[2]
    assert np.array_equal(fold.reference[rows], head_scores(fold.heads[2], fold.features[rows]))


def test_features_are_computed_once_and_by_the_given_function(tmp_path: Path, photos: Path) -> None:
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0.05)
    trained(space)
    asked: list[tuple[Precision, int]] = []

    def recorded(model: ComparedFile, shown: Sequence[Photo], progress: Progress) -> np.ndarray:
        asked.append((model.precision, len(shown)))
        return features_of_model(model, shown, progress)

    all_photos_of(space, wide, [narrow], FOUR, features_of=recorded)
    assert asked == [(Precision.FP32, 180), (Precision.INT8, 180)]
    calls: list[str] = []
    all_photos_of(space, wide, [narrow], FOUR, lambda what, done, total: calls.append(what))
    assert "bottlenecks" not in calls  # all are stored


def test_a_refitted_last_layer_is_refitted_for_each_fold(tmp_path: Path, photos: Path) -> None:
    space, wide, narrow = run_to_compare(tmp_path, photos, 0.9)
    (plain,) = all_photos_of(space, wide, [narrow], FOUR).files
    layer = last_layer(check_onnx(narrow.path))
    write_onnx(with_last_layer(check_onnx(narrow.path), layer.weights + 0.01, layer.bias), narrow.path)
    (refitted,) = all_photos_of(space, wide, [narrow], FOUR).files
    assert refitted.head == "refitted to its base, for each fold"
    assert refitted.agreement >= plain.agreement
    assert refitted.comparison.max_abs < plain.comparison.max_abs  # closer to FP32's scores


def test_the_shipped_network_answers_where_nothing_was_trained_here(tmp_path: Path, photos: Path) -> None:
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0.05)
    calibrated(space)
    result = all_photos_of(space, wide, [narrow], FOUR)
    assert result.folds == 0
    own = fitted(cross_fit(space, wide, FOUR))
    layer = last_layer(check_onnx(wide.path))
    assert own.features is not None
    assert np.array_equal(own.reference, head_scores(Head(layer.weights, layer.bias), own.features))
    assert result.files[0].head == "its own"
    # Labels that the network does not have: the agreement counts them.
    published = [replace(model, spec=replace(model.spec, labels=("tench", "shark", "ray"))) for model in (wide, narrow)]
    unlabelled = all_photos_of(space, published[0], published[1:], FOUR)
    assert (unlabelled.photos, unlabelled.labelled, unlabelled.accuracy) == (180, 0, None)
    assert unlabelled.files[0].agreement == result.files[0].agreement
    # The photos to which a shipped last layer was refitted do not count: here all training photos.
    write_onnx(with_last_layer(check_onnx(narrow.path), layer.weights + 0.01, layer.bias), narrow.path)
    (refitted,) = all_photos_of(space, wide, [narrow], FOUR).files
    assert refitted.photos == 180 - len(dataset_in(space).in_split(Split.TRAIN))


def test_a_graph_without_a_known_last_layer_is_run_whole(tmp_path: Path, photos: Path) -> None:
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0.05)
    calibrated(space)
    expected = all_photos_of(space, wide, [narrow], FOUR)
    for model in (wide, narrow):
        proto = check_onnx(model.path)
        view = GraphView(proto)
        softmax = view.producer["scores"]
        dense = view.producer[softmax.input[0]]
        softmax.input[0] = "scores before"
        proto.graph.node.add(op_type="Identity", input=[dense.output[0]], output=["scores before"], name="same")
        nodes = sorted(proto.graph.node, key=lambda node: node is softmax or node.output[0] == "scores")
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
        write_onnx(proto, model.path)
    result = all_photos_of(space, wide, [narrow], FOUR)
    assert result.files[0].agreement == expected.files[0].agreement
    assert result.accuracy == expected.accuracy
    trained(space)
    assert "the last layer of fp32.onnx is not a dense layer" in str(all_photos_of(space, wide, [], FOUR).skipped)


def test_a_file_whose_last_layer_is_not_known(tmp_path: Path, photos: Path) -> None:
    """Its features come from the function that is given; without one, the file is left out with the reason."""
    space, wide, narrow = run_to_compare(tmp_path, photos)
    (expected,) = all_photos_of(space, wide, [narrow], FOUR).files
    features = features_of_model(narrow, dataset_in(space).photos)
    proto = check_onnx(narrow.path)
    GraphView(proto).producer["scores"].op_type = "LogSoftmax"
    write_onnx(proto, narrow.path)
    result = all_photos_of(space, wide, [narrow], FOUR)
    assert result.files == ()
    assert result.not_compared == (NotCompared("int8.onnx", "the graph does not end in a dense layer and a softmax"),)
    assert result.notes == ()

    def known(model: ComparedFile, shown: Sequence[Photo], progress: Progress) -> np.ndarray:
        return features if model.path == narrow.path else features_of_model(model, shown, progress)

    (item,) = all_photos_of(space, wide, [narrow], FOUR, features_of=known).files
    assert (item.agreement, item.head) == (expected.agreement, expected.head)


def test_reasons_why_nothing_is_measured(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0.05)
    trained(space, learning_rate=1e30)
    with np.errstate(all="ignore"):
        assert "diverged" in str(all_photos_of(space, wide, [narrow], FOUR).skipped)
    assert "run: trtpoets export small" in str(all_photos_of(space, None, [], FOUR).skipped)
    monkeypatch.setattr(module, "MIN_PHOTOS", 181)
    assert all_photos_of(space, wide, [narrow], FOUR).skipped == (
        "180 photos are too few for cross-fitting, which needs 181"
    )
    monkeypatch.setattr(module, "MIN_PHOTOS", 30)
    monkeypatch.setattr(module, "groups_of", lambda shown, _: tuple(index // 90 for index in range(len(shown))))
    assert "no class has 3 independent groups" in str(all_photos_of(space, wide, [narrow], FOUR).skipped)
    dataset = dataset_in(space)
    renamed = dataset.photos.with_labels({label: f"no {label}" for label in dataset.labels})
    monkeypatch.setattr(module, "dataset_in", lambda _: replace(dataset, photos=renamed))
    assert all_photos_of(space, wide, [narrow], FOUR).skipped == (
        "some photos have labels that the classifier does not have"
    )
    assert all_photos_of(Workspace(tmp_path, "empty"), None, [], FOUR).skipped == "the run has no photos"


def test_heads_on_a_fine_tuned_backbone_are_not_cross_fitted(tmp_path: Path, photos: Path) -> None:
    """Its features depend on the labels of the training photos: heads would be too good on photos left out."""
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0.05)
    trained(space)
    head = training_in(space)
    assert head is not None
    details = replace(head, fine_tuning=fine_tuning_details())
    seal_card(space.training, key=classifier_key(space), files=[], details=details)
    result = all_photos_of(space, wide, [narrow], FOUR)
    assert "fine-tuned on the labels of the training photos" in str(result.skipped)
    assert (result.photos, result.learning_curve) == (0, None)
    advice = recommendation(space, wide, narrow)  # on validation photos
    assert advice.photos == len(dataset_in(space).in_split(Split.VALIDATION))
    kept_frozen = replace(details, fine_tuning=fine_tuning_details(kept=False))
    seal_card(space.training, key=classifier_key(space), files=[], details=kept_frozen)
    assert all_photos_of(space, wide, [narrow], FOUR).skipped is None


def test_files_are_compared_on_enough_photos_only(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, wide, narrow = run_to_compare(tmp_path, photos)
    monkeypatch.setattr(module, "MAX_COMPARED", 100)
    result = all_photos_of(space, wide, [narrow], FOUR)
    (item,) = result.files
    assert result.photos == 180
    calibration, others = item.excluded
    assert (item.photos + calibration.photos, others.photos) == (100, 80)


def test_without_ranges_all_training_photos_are_calibration_photos(tmp_path: Path, photos: Path) -> None:
    space = workspace(tmp_path, photos)
    dataset = dataset_in(space)
    assert calibrated_photos(space, dataset) == {photo.sha256 for photo in dataset.in_split(Split.TRAIN)}
    calibrated(space, 3)
    assert len(calibrated_photos(space, dataset)) == 3


def test_a_tflite_file_has_calibration_photos_of_its_own(tmp_path: Path, photos: Path) -> None:
    space = workspace(tmp_path, photos)
    dataset = dataset_in(space)
    calibrated(space, 3)
    model = TfliteModel(space.tflite(Precision.INT8), Precision.INT8, spec())
    assert calibrated_photos(space, dataset, model) == {photo.sha256 for photo in dataset.in_split(Split.TRAIN)}
    details = TfliteInt8Details("", "", TfliteCalibration(2, 0), calibrated=("a", "b"))
    seal_card(card_of(model.path), key="int8", files=[], details=details)
    assert calibrated_photos(space, dataset, model) == {"a", "b"}


def test_a_tflite_file_is_compared_by_the_same_heads(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, wide, narrow = run_to_compare(tmp_path, photos)
    model = TfliteModel(space.tflite(Precision.INT8), Precision.INT8, narrow.spec)
    model.path.write_bytes(b"a network")
    details = TfliteInt8Details(
        "", "", TfliteCalibration(2, 0), calibrated=tuple(calibrated_photos(space, dataset_in(space)))
    )
    seal_card(card_of(model.path), key="int8", files=[model.path], details=details)

    def known(file: ComparedFile, shown: Sequence[Photo], progress: Progress) -> np.ndarray:
        return features_of_model(narrow if file == model else file, shown, progress)

    def layer_of(file: ComparedFile) -> LastLayer:
        return last_layer_of_file(narrow if file == model else file)

    monkeypatch.setattr(module, "last_layer_of_file", layer_of)
    result = all_photos_of(space, wide, [narrow, model], FOUR, features_of=known)
    onnx, tflite = result.files
    assert replace(tflite, file=onnx.file, sha256=onnx.sha256, excluded=onnx.excluded) == onnx
    assert (tflite.file, tflite.head) == ("int8.tflite", "that of FP32, for each fold")
    assert tflite.runner == RunnerId(Library.TFLITE, Precision.INT8)
    assert result.of_runner(tflite.runner) is tflite

    def missing(*_: object) -> np.ndarray:
        raise MissingDependency("running TFLite files needs ai-edge-litert")

    monkeypatch.setattr("trtpoets.pipeline.extractors.features_of_tflite", missing)
    without = all_photos_of(space, wide, [narrow, model], FOUR)
    assert without.files == (onnx,)
    assert without.not_compared == (NotCompared("int8.tflite", "running TFLite files needs ai-edge-litert"),)


def test_a_tflite_file_of_an_adopted_network_answers_as_it_is(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = workspace(tmp_path, photos)
    wide, _ = models(space, 0.05)
    calibrated(space)
    # Labels that the network does not have: only the agreement is known.
    spec_of = replace(wide.spec, labels=("tench", "shark", "ray"))
    fp32 = replace(wide, spec=spec_of)
    model = TfliteModel(space.tflite(Precision.INT8), Precision.INT8, spec_of)
    model.path.write_bytes(b"a network")
    own = tuple(calibrated_photos(space, dataset_in(space)))

    def unknown(file: ComparedFile) -> LastLayer:
        raise ConversionFailed("the network ends in another way", code="TP3266")

    details = TfliteInt8Details("", "", TfliteCalibration(2, 0), calibrated=own)
    seal_card(card_of(model.path), key="int8", files=[model.path], details=details)
    answers = fitted(cross_fit(space, fp32, FOUR)).reference
    monkeypatch.setattr(module, "scores_of_model", lambda file, shown, progress: answers)
    monkeypatch.setattr(module, "last_layer_of_file", unknown)
    result = all_photos_of(space, fp32, [model], FOUR)
    (item,) = result.files
    assert (item.head, item.photos, item.labelled) == ("its own", 180 - len(own), 0)
    assert item.agreement == 1


def test_the_advice_uses_no_test_photos(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space, wide, narrow = run_to_compare(tmp_path, photos)
    shown: set[str] = set()
    real = features_of_model

    def watched(model: ComparedFile, used: Sequence[Photo], progress: Progress = silent) -> np.ndarray:
        shown.update(photo.sha256 for photo in used)
        return real(model, used, progress)

    monkeypatch.setattr(cross_fit, "__defaults__", (*(cross_fit.__defaults__ or ())[:-1], watched))
    result = recommendation(space, wide, narrow)
    test = {photo.sha256 for photo in dataset_in(space).in_split(Split.TEST)}
    assert shown and not shown & test
    assert result.photos == 180 - len(test) - 30
    assert "training and validation photos outside calibration it agrees on" in result.why
    assert result.gate is not None
    assert result.gate.runners[0].checks[0].file == "int8.onnx"


def test_a_version_is_judged_on_the_photos_of_the_advice(tmp_path: Path, photos: Path) -> None:
    space, wide, narrow = run_to_compare(tmp_path, photos)
    choices = fitted(cross_fit(space, wide, FOUR, (Split.TRAIN, Split.VALIDATION)))
    judge = judge_of_choices(space, wide, Int8Form.TENSORRT, choices)
    assert judge is not None
    answers = judge(check_onnx(narrow.path))
    assert answers is not None
    (file,) = choices.result([choices.scored(narrow, calibrated_photos(space, choices.dataset))]).files
    assert answers.photos == answers.labelled == file.photos
    assert answers.different == round((1 - file.agreement) * file.photos)
    assert answers.lost == file.comparison.only_reference - file.comparison.only_runner
    assert judge_of_choices(space, wide, Int8Form.TENSORRT, AllPhotos(FOUR, "", skipped="a test")) is None


def test_fewer_calibration_photos_may_leave_enough(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0)
    narrow.path.write_bytes(wide.path.read_bytes())
    trained(space)
    limits = GateConfig(min_agreement=97)  # 125 photos without a change show that, and a ninth more by cross-fitting
    calibrated(space, 90)
    result = recommendation(space, wide, narrow, limits)
    assert result.precision is Precision.FP16
    assert "calibrating with fewer photos" not in result.why
    monkeypatch.setattr(int8_advice, "_FEW_CALIBRATION", 10)
    result = recommendation(space, wide, narrow, limits)
    assert result.why.endswith(
        "; calibrating with fewer photos leaves enough of them: trtpoets quantize small --photos 10 --engines "
        f"{tmp_path}"
    )
    calibrated(space, 10)
    assert recommendation(space, wide, narrow, limits).precision is Precision.INT8
