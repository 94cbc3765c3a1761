"""Photos in groups: intervals and tests that count copies of a photo once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.judge.test_evaluation import LABELS, scores_for
from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.core.runner_id import TENSORFLOW
from trtpoets.core.types import Photo, Split
from trtpoets.judge.clustered import count_of_groups, difference_interval, equality_test, share_interval
from trtpoets.judge.evaluation import evaluation_from_scores
from trtpoets.judge.statistics import mcnemar_exact, paired_difference, paired_shares, wilson_interval


@given(st.integers(1, 60), st.integers(0, 9999))
def test_without_copies_the_methods_are_wilson_tango_and_mcnemar(photos: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, photos)) < 0.8
    lost, won = int((first & ~second).sum()), int((second & ~first).sum())
    for groups in (None, rng.permutation(photos)):
        assert share_interval(first, groups) == wilson_interval(int(first.sum()), photos)
        assert difference_interval(first, second, groups) == paired_shares(lost, won, photos)
        assert equality_test(first, second, groups) == mcnemar_exact(lost, won)


@given(st.integers(1, 20), st.integers(2, 30), st.integers(0, 9999))
def test_copies_of_everything_add_nothing(photos: int, copies: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, photos)) < 0.7
    groups = np.repeat(np.arange(photos), copies)
    many = (np.repeat(first, copies), np.repeat(second, copies))
    assert share_interval(many[0], groups) == pytest.approx(wilson_interval(int(first.sum()), photos))
    expected = difference_interval(first, second)
    assert difference_interval(*many, groups=groups) == pytest.approx(expected, abs=1e-6)
    assert equality_test(*many, groups) == pytest.approx(equality_test(first, second))
    assert paired_difference(*many, groups) == pytest.approx(paired_difference(first, second))
    assert count_of_groups(groups, len(groups)) == photos


@given(st.integers(0, 9999))
@settings(max_examples=50)
def test_the_interval_lies_between_photos_and_groups(seed: int) -> None:
    """No narrower than for as many independent photos, no wider than for photos that equal one of their group."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 12, 20)
    groups = np.repeat(np.arange(20), sizes)
    hits = rng.random(len(groups)) < 0.8
    low, high = share_interval(hits, groups)
    photos = wilson_interval(int(hits.sum()), len(hits))
    effective = len(hits) ** 2 / float((sizes**2).sum())
    equal = wilson_interval(hits.mean() * effective, effective)
    assert equal.low - 1e-9 <= low <= photos.low + 1e-9
    assert photos.high - 1e-9 <= high <= equal.high + 1e-9


def test_groups_that_differ_within_count_for_more_than_one_photo() -> None:
    groups = np.repeat(np.arange(40), 5)
    mixed = np.tile([True, True, True, True, False], 40)
    alike = np.repeat(np.arange(40) % 5 > 0, 5)
    width = [np.subtract(*share_interval(item, groups)[::-1]) for item in (mixed, alike)]
    assert width[0] < 0.6 * width[1]
    assert share_interval(alike, groups) == pytest.approx(wilson_interval(32, 40))


def test_the_exact_test_over_groups_counts_every_sign() -> None:
    """Groups of differences -2, 1 and 3: of the 8 equally probable signs, 6 give a sum at least as far from 0 as 2."""
    groups = np.repeat([0, 1, 2], [2, 1, 3])
    first = np.array([True, True, False, False, False, False])
    assert equality_test(first, ~first, groups) == pytest.approx(6 / 8)
    # All in one direction: 2 of the 8.
    assert equality_test(np.zeros(6, bool), np.ones(6, bool), groups) == pytest.approx(2 / 8)
    # A group that loses as much as it wins says nothing.
    assert equality_test(np.array([True, False]), np.array([False, True]), [0, 0]) == 1.0


@pytest.mark.parametrize("rho", [0.3, 1.0])
def test_it_covers_as_often_as_it_says(rho: float) -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    covered = 0
    for share in np.linspace(0.7, 0.95, 400):
        alike = rng.random(len(groups)) < np.sqrt(rho)
        hits = np.where(alike, rng.random(40)[groups], rng.random(len(groups))) < share
        low, high = share_interval(hits, groups)
        covered += bool(low <= share <= high)
    assert 0.92 <= covered / 400 <= 0.985


def test_wrong_groups_are_named() -> None:
    hits = np.ones(3, bool)
    with raises(BadInput, "TP5031", "3", "(2,)"):
        share_interval(hits, [0, 1])
    with raises(BadInput, "TP5029"):
        difference_interval(hits, hits[:2])
    with raises(BadInput, "TP5030"):
        equality_test(hits, hits[:2])
    assert share_interval(hits[:0], []) == (0, 1)
    assert difference_interval(hits[:0], hits[:0], []) == (-1, 1)


def test_every_number_of_an_evaluation_counts_groups() -> None:
    photos = [Photo(Path(f"{i}.jpg"), LABELS[i % 2], Split.TEST, f"{i:064}") for i in range(40)]
    groups = np.repeat(np.arange(4), 10)
    truth = np.arange(40) % 2
    reference, scores = scores_for(*truth), scores_for(*np.where(groups == 0, 2, truth))
    alone = evaluation_from_scores(TENSORFLOW, scores, photos, LABELS, reference)
    got = evaluation_from_scores(TENSORFLOW, scores, photos, LABELS, reference, groups.tolist())
    assert (got.photos, got.groups, got.labelled_groups, alone.groups) == (40, 4, 4, 40)
    assert (got.accuracy, got.agreement) == (alone.accuracy, alone.agreement) == (0.75, 0.75)
    assert (got.accuracy_low, got.accuracy_high) == pytest.approx(wilson_interval(3, 4))
    assert (got.agreement_low, got.agreement_high) == pytest.approx(wilson_interval(3, 4))
    assert got.recall_intervals["ant"] == pytest.approx(wilson_interval(3, 4))
    assert alone.recall_intervals["ant"] == pytest.approx(wilson_interval(15, 20))
    assert got.recall_intervals["cow"] is None
    assert got.comparison is not None and alone.comparison is not None
    assert got.comparison.change_low == pytest.approx(paired_shares(1, 0, 4).low, abs=1e-6)
    assert (got.comparison.p_value, alone.comparison.p_value) == (1.0, pytest.approx(2 / 2**10))
    assert alone.comparison.change_low == paired_shares(10, 0, 40).low
