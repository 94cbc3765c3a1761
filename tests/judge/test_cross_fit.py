"""The assignment of all photos to folds."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.judge.cross_fit import (
    ACCURACY_PART,
    AGREEMENT_PART,
    MIN_PHOTOS,
    CrossFitConfig,
    Folds,
    affordable_folds,
    folds_of_photos,
    variance_factor,
)


def sha256s(count: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


def folds_of(truth: list[int], groups: list[int] | None = None, folds: int = 10, seed: int = 0) -> Folds:
    assigned = folds_of_photos(
        np.array(truth), groups or list(range(len(truth))), sha256s(len(truth)), CrossFitConfig(folds, seed)
    )
    assert assigned is not None
    return assigned


PHOTOS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=MIN_PHOTOS, max_size=90)
"""Photos as (label, group); a group may have several labels."""


@settings(max_examples=25, deadline=None)
@given(PHOTOS, st.integers(3, 12), st.integers(0, 3), st.randoms(use_true_random=False))
def test_every_assignment_can_be_trained_and_keeps_groups_together(
    photos: list[tuple[int, int]], asked: int, seed: int, chance: random.Random
) -> None:
    truth, groups = np.array([label for label, _ in photos]), np.array([group for _, group in photos])
    names, config = sha256s(len(photos)), CrossFitConfig(asked, seed)
    folds = folds_of_photos(truth, groups, names, config)
    if folds is None:
        # No class has three independent groups of its own, in folds that other classes leave.
        assert min(len(np.unique(groups[truth == label])) for label in np.unique(truth)) < 3
        return
    assert 3 <= folds.count <= min(asked, len(np.unique(groups)))
    for group in np.unique(groups):
        assert len(set(folds.fold_of[groups == group].tolist())) == 1
    answered = [folds.rows(number)[2] for number in range(folds.count)]
    assert all(len(rows) for rows in answered)
    assert sorted(np.concatenate(answered).tolist()) == np.flatnonzero(folds.fold_of >= 0).tolist()
    for number in range(folds.count):
        trained, chooses, left_out = folds.rows(number)
        assert set(truth[trained].tolist()) == set(truth.tolist())  # every class has a training photo
        assert len(chooses)
        assert not set(groups[left_out].tolist()) & set(groups[np.concatenate([trained, chooses])].tolist())
    # The order of the photos and the numbers of the groups do not matter.
    order = list(range(len(photos)))
    chance.shuffle(order)
    again = folds_of_photos(truth[order], 1000 - groups[order], [names[row] for row in order], config)
    assert again is not None
    assert again.fold_of.tolist() == folds.fold_of[order].tolist()
    assert (again.count, again.always_trained, again.partial) == (folds.count, folds.always_trained, folds.partial)


def test_classes_and_photos_are_spread_evenly() -> None:
    truth = [0] * 50 + [1] * 33 + [2] * 17
    folds = folds_of(truth)
    assert folds.count == 10
    sizes = np.bincount(folds.fold_of)
    assert sizes.sum() == 100 and np.ptp(sizes) <= 2
    for label, photos in enumerate((50, 33, 17)):
        counts = np.bincount(folds.fold_of[np.array(truth) == label], minlength=10)
        assert counts.sum() == photos
        assert np.ptp(counts) <= 1
    assert folds_of(truth, seed=1).fold_of.tolist() != folds.fold_of.tolist()
    assert not folds.always_trained
    assert not folds.partial


def test_a_class_smaller_than_the_number_of_folds() -> None:
    truth = [0] * 40 + [1] * 4 + [2] * 2
    folds = folds_of(truth)
    assert folds.partial == ((1, 4),)
    assert folds.always_trained == (2,)
    assert folds.fold_of[44:].tolist() == [-1, -1]
    for number in range(folds.count):
        assert {0, 1, 2} <= set(np.array(truth)[folds.rows(number)[0]].tolist())


def test_fewer_groups_than_folds() -> None:
    truth, groups = [0, 1] * 20, [row // 10 for row in range(40)]
    assert folds_of(truth, groups).count == 4
    few = folds_of_photos(np.array(truth), [row // 20 for row in range(40)], sha256s(40), CrossFitConfig())
    assert few is None  # two groups


def test_too_few_photos() -> None:
    few = MIN_PHOTOS - 1
    assert folds_of_photos(np.arange(few) % 2, np.arange(few), sha256s(few), CrossFitConfig()) is None


def test_a_large_group_of_two_classes_is_left_to_training_with_the_small_one() -> None:
    """Class 1 is in two groups, one of which it shares with class 0: the whole group is trained on."""
    truth = [0] * 38 + [1] * 2
    groups = [*range(37), 50, 50, 51]
    folds = folds_of(truth, groups)
    assert folds.always_trained == (1,)
    assert folds.fold_of[37:].tolist() == [-1, -1, -1]
    assert (folds.fold_of[:37] >= 0).all()


@pytest.mark.parametrize("folds", [-1, 1, 2])
def test_impossible_numbers_of_folds(folds: int) -> None:
    with raises(BadInput, "TP5150", "3") as error:
        CrossFitConfig(folds)
    assert "--folds 0" in error.value.hint
    assert CrossFitConfig(0).folds == 0


def test_labels_groups_and_photos_must_match() -> None:
    with raises(BadInput, "TP5151", "30", "29"):
        folds_of_photos(np.zeros(30, int), range(29), sha256s(30), CrossFitConfig())


def test_the_correction_of_the_variance() -> None:
    assert variance_factor(0, 0.35) == 1
    assert variance_factor(10, 0) == 1
    assert variance_factor(10, 1) == pytest.approx(1 + 10 / 9 * 0.8)  # Nadeau's and Bengio's, times the trained share
    assert variance_factor(3, 0.5) == 1.25
    assert variance_factor(10, ACCURACY_PART) == 1.5
    assert variance_factor(10, AGREEMENT_PART) == pytest.approx(1.11, abs=0.002)


def test_many_classes_have_fewer_folds() -> None:
    assert [affordable_folds(10, classes) for classes in (2, 40, 50, 100, 1000)] == [10, 10, 8, 4, 3]
    assert affordable_folds(5, 2) == 5
    assert folds_of([label for label in range(100) for _ in range(5)]).count == 4
