"""The evaluation over all photos, from scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.support.all_photos import LABELS, all_photos, counted, scored, scores
from tests.support.errors import raises
from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Precision
from trtpoets.judge.all_photos import AgreedOn, AllPhotos, Excluded, all_photos_from_scores
from trtpoets.judge.clustered import difference_interval, share_interval
from trtpoets.judge.cross_fit import AGREEMENT_PART, CrossFitConfig, variance_factor


def test_calibration_photos_do_not_count() -> None:
    result = all_photos(300, calibration=100, changed=3, changed_in_calibration=20)
    assert (result.folds, result.photos, result.groups, result.labelled) == (10, 300, 300, 300)
    assert result.accuracy == pytest.approx(1.0)
    (item,) = result.files
    assert (item.file, item.precision, item.photos) == ("int8.onnx", Precision.INT8, 200)
    assert item.excluded == (Excluded(100, "int8.onnx was calibrated with them"),)
    assert item.agreement == 197 / 200
    assert item.by_use == {"calibration": AgreedOn(100, 80), "test": AgreedOn(100, 100), "training": AgreedOn(100, 97)}
    assert (item.comparison.agreed, item.comparison.only_reference, item.comparison.only_runner) == (197, 3, 0)
    assert item.comparison.accuracy_change == -3 / 200
    agrees = np.arange(200) >= 3
    expected = share_interval(agrees, None, variance_factor=variance_factor(10, AGREEMENT_PART))
    assert (item.agreement_low, item.agreement_high) == expected
    change = difference_interval(np.ones(200, bool), agrees)
    assert (item.comparison.change_low, item.comparison.change_high) == change
    # One right answer of each class, of 66 or 67, is lost.
    assert item.recall_change == pytest.approx({"bee": -1 / 67, "cow": -1 / 67, "ant": -1 / 66}, rel=1e-6)


def test_photos_of_a_group_count_once() -> None:
    alone, together = all_photos(300, changed=3), all_photos(300, changed=3, copies=3)
    assert together.groups == 100
    for result in (alone, together):
        (item,) = result.files
        assert item.agreement == 297 / 300
    assert together.files[0].agreement_low < alone.files[0].agreement_low


def test_the_shipped_network_answers_photos_without_folds_and_labels() -> None:
    photos = counted(120, folds=False, unlabelled=20)
    result = all_photos_from_scores(
        scores(photos.truth), [scored(photos, changed=2)], photos, CrossFitConfig(), "photos"
    )
    assert (result.folds, result.photos, result.labelled) == (0, 120, 100)
    assert result.agreement_factor == 1
    assert result.notes == ()
    (item,) = result.files
    assert (item.photos, item.labelled) == (120, 100)
    assert (item.agreement_low, item.agreement_high) == share_interval(np.arange(120) >= 2)


def test_without_labels_only_the_agreement_is_known() -> None:
    photos = counted(60, folds=False, unlabelled=60)
    result = all_photos_from_scores(scores(photos.truth), [scored(photos)], photos, CrossFitConfig(), "photos")
    assert result.accuracy is None
    (item,) = result.files
    assert (item.agreement, item.accuracy, item.comparison.accuracy_change) == (1, None, None)


def test_notes_say_what_is_not_known() -> None:
    result = all_photos(60, class_sizes=(50, 8, 2))
    assert result.photos == 58
    assert result.excluded == (
        Excluded(2, "all heads are trained on them, as their classes have fewer than three independent groups"),
    )
    assert result.recall[LABELS[2]] is None
    assert result.notes == (
        "Nothing is known about 'cow': a class needs three independent groups.",
        "'bee' has photos in 8 of 10 folds.",
    )
    assert all_photos(72, copies=8).notes == (
        "9 folds instead of 10: there are no more independent groups to divide.",
        "'ant' has photos in 3 of 9 folds, and 2 more classes have photos in less than all.",
    )


def test_a_file_that_all_photos_calibrated_decides_nothing() -> None:
    result = all_photos(60, calibration=60)
    (item,) = result.files
    assert (item.photos, item.agreement_low, item.agreement_high) == (0, 0.0, 1.0)
    assert result.of_runner(RunnerId(Library.ONNXRUNTIME, Precision.INT8)) is None


def test_the_file_of_a_runner() -> None:
    result = all_photos(60)
    for library in (Library.ONNXRUNTIME, Library.RTX, Library.TENSORRT):
        assert result.of_runner(RunnerId(library, Precision.INT8)) is result.files[0]
    for runner in (
        RunnerId(Library.TFLITE, Precision.INT8),
        RunnerId(Library.ONNXRUNTIME, Precision.FP16),
        RunnerId(Library.TENSORFLOW),
    ):
        assert result.of_runner(runner) is None


def test_it_is_stored_as_json() -> None:
    for result in (all_photos(60), AllPhotos(CrossFitConfig(5), "photos", skipped="too few")):
        assert from_json(AllPhotos, json.loads(json.dumps(to_json(result))), "x") == result


def test_invalid_scores() -> None:
    photos = counted(60)
    good = scores(photos.truth)
    with raises(BadInput, "TP5152", "fp32.onnx", "(60, 3)"):
        all_photos_from_scores(good[:59], [], photos, CrossFitConfig(), "photos")
    bad = good.copy()
    bad[7, 1] = np.nan
    with raises(RunFailed, "TP5153", "fp32.onnx", "7"):
        all_photos_from_scores(bad, [], photos, CrossFitConfig(), "photos")


def test_the_number_of_classes_that_lack_folds_agrees_with_its_verb() -> None:
    (note,) = all_photos(90, class_sizes=(72, 9, 9)).notes
    assert note == "'bee' has photos in 9 of 10 folds, and 1 more class has photos in less than all."
