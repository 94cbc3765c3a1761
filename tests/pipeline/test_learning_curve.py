"""The learning curve of heads that are trained on shares of the photos."""

from __future__ import annotations

import numpy as np
import pytest

from trtpoets.core.training import HeadConfig
from trtpoets.judge.cross_fit import CrossFitConfig, Folds, folds_of_photos
from trtpoets.pipeline import learning_curve
from trtpoets.pipeline.learning_curve import by_group, class_weights, learning_curve_of
from trtpoets.train.joint_heads import heads_from_parts, scores_by_fold

LABELS = ("red", "green", "blue")
CONFIG = HeadConfig(steps=150, batch_size=50, learning_rate=0.01)


def photos(count: int, width: int = 24, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    means = random.normal(size=(classes, width))
    return (0.6 * means[labels] + random.normal(size=(count, width))).astype(np.float32), labels


def folds_of(labels: np.ndarray) -> Folds:
    count = len(labels)
    folds = folds_of_photos(labels, np.arange(count), [f"{row:04d}" for row in range(count)], CrossFitConfig(5))
    assert folds is not None
    return folds


def test_more_training_photos_are_better_and_the_last_point_is_the_accuracy_on_all_photos() -> None:
    features, labels = photos(360)
    folds = folds_of(labels)
    right = right_of_folds(features, labels, folds)
    shown: list[tuple[str, int, int]] = []
    curve = learning_curve_of(
        features, labels, np.arange(len(labels)), folds, right, LABELS, CONFIG, lambda *state: shown.append(state)
    )
    sizes = [point.photos for point in curve.points]
    assert sizes == [27, 54, 108, 216]
    assert curve.points[0].accuracy < curve.points[-1].accuracy == pytest.approx(right.mean())
    assert curve.skipped is None
    assert {what for what, *_ in shown} == {
        *(f"learning curve at {share} %" for share in ("12.5", "25", "50")),
        "learning curves of classes",
    }
    assert [(of_class.label, of_class.photos, of_class.more) for of_class in curve.classes] == [
        (label, 120, 120) for label in LABELS
    ]
    for number, of_class in enumerate(curve.classes):
        assert [point.photos for point in of_class.points] == [9, 18, 36, 72]
        assert of_class.points[-1].accuracy == pytest.approx(right[labels == number].mean())
        recall, accuracy = of_class.recall_gain, of_class.accuracy_gain
        assert recall is not None and accuracy is not None
        assert recall.low < recall.gain < recall.high
        assert recall.gain > accuracy.gain  # the other classes lose answers to the larger one


def right_of_folds(features: np.ndarray, labels: np.ndarray, folds: Folds) -> np.ndarray:
    heads = heads_from_parts(features, labels, [folds.rows(number)[:2] for number in range(folds.count)], 3, CONFIG)
    trained = [head for head in heads if head is not None]
    assert len(trained) == len(heads)
    return np.asarray(scores_by_fold(trained, features, folds.fold_of, 3).argmax(axis=1) == labels)


def test_copies_of_photos_do_not_bring_more_groups_to_a_share_of_them() -> None:
    groups = np.arange(120) // 12
    order = by_group(np.arange(120), groups, np.random.default_rng(0))
    assert sorted(order) == list(range(120))
    assert len(np.unique(groups[order[:60]])) == 5
    assert len(np.unique(groups[order[:10]])) == 1


def test_with_class_weights_more_photos_of_a_class_do_not_count_more() -> None:
    labels = np.repeat([0, 1], [10, 30])
    plain = class_weights(labels, np.arange(40), HeadConfig(), 0, 0.5)
    assert plain[:5] == pytest.approx(4.0) and not plain[5:10].any() and (plain[10:] == 1).all()
    balanced = class_weights(labels, np.arange(40), HeadConfig(class_weights=True), 0, 0.5)
    assert balanced[:10].sum() == pytest.approx(balanced[10:].sum())


def test_only_classes_with_most_errors_are_examined_if_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = photos(240)
    folds = folds_of(labels)
    right = np.ones(240, bool)
    right[labels == 1] = False
    monkeypatch.setattr(learning_curve, "_MAX_CLASS_WORK", 240 * 5 * 3 * 3)
    curve = learning_curve_of(features, labels, np.arange(240), folds, right, LABELS, CONFIG)
    assert [of_class.recall_gain is not None for of_class in curve.classes] == [False, True, False]
    assert "only classes with more errors" in str(curve.classes[0].skipped)
    assert curve.classes[0].points


def test_nothing_is_expected_for_classes_without_enough_groups() -> None:
    features, labels = photos(240)
    groups = np.where(labels == 2, np.arange(240) % 2, np.arange(240) + 2)  # two objects of the last class
    folds = folds_of_photos(labels, groups, [f"{row:04d}" for row in range(240)], CrossFitConfig(5))
    assert folds is not None and folds.always_trained == (2,)
    curve = learning_curve_of(features, labels, groups, folds, np.ones(240, bool), LABELS, CONFIG)
    assert curve.classes[2].skipped == "it has fewer than three independent groups of photos"
    assert curve.classes[0].recall_gain is not None


def test_a_class_with_few_photos_gives_no_curve() -> None:
    features, labels = photos(45)
    curve = learning_curve_of(features, labels, np.arange(45), folds_of(labels), np.ones(45, bool), LABELS, CONFIG)
    assert curve.skipped == "the smallest class has 9 training photos in a fold, which is too few"
    assert not curve.points


def test_very_many_classes_give_no_curve() -> None:
    labels = np.arange(900) % 300
    curve = learning_curve_of(
        np.zeros((900, 2), np.float32),
        labels,
        np.arange(900),
        Folds(5, np.arange(900) // 300 % 5),
        np.ones(900, bool),
        [str(label) for label in range(300)],
        CONFIG,
    )
    assert curve.skipped == "300 classes would take too long"
