"""The learning curve of heads that are trained on shares of the photos."""

from __future__ import annotations

import numpy as np
import pytest

from trtpoets.core.training import HeadConfig
from trtpoets.judge.cross_fit import CrossFitConfig, Folds, folds_of_photos
from trtpoets.pipeline.learning_curve import learning_curve_of
from trtpoets.train.joint_heads import heads_from_parts, scores_by_fold

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
    heads = heads_from_parts(features, labels, [folds.rows(number)[:2] for number in range(folds.count)], 3, CONFIG)
    trained = [head for head in heads if head is not None]
    assert len(trained) == len(heads)
    right = scores_by_fold(trained, features, folds.fold_of, 3).argmax(axis=1) == labels
    shown: list[tuple[str, int, int]] = []
    curve = learning_curve_of(
        features, labels, np.arange(len(labels)), folds, right, CONFIG, lambda *state: shown.append(state)
    )
    sizes = [point.photos for point in curve.points]
    assert sizes == [27, 54, 108, 216]
    assert curve.points[0].accuracy < curve.points[-1].accuracy == pytest.approx(right.mean())
    assert curve.skipped is None
    assert {what for what, *_ in shown} == {f"learning curve at {share} %" for share in ("12.5", "25", "50")}


def test_a_class_with_few_photos_gives_no_curve() -> None:
    features, labels = photos(45)
    curve = learning_curve_of(features, labels, np.arange(45), folds_of(labels), np.ones(45, bool), CONFIG)
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
        CONFIG,
    )
    assert curve.skipped == "300 classes would take too long"
