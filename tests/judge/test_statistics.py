"""Intervals against published values, percentiles against their definition, bounds against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.judge.statistics import (
    coefficient_of_variation,
    least_count,
    mcnemar_exact,
    paired_difference,
    paired_shares,
    percentile,
    supported_percentile,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    interval = wilson_interval(successes, n)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_wilson_holds_the_share_and_stays_a_share(a: int, b: int) -> None:
    successes, n = min(a, b), max(a, b)
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= high <= 1
    if n:
        assert low <= successes / n <= high
        other = wilson_interval(n - successes, n)
        assert (low, high) == pytest.approx((1 - other.high, 1 - other.low))


def test_wilson_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = [low <= 0.9 <= high for low, high in (wilson_interval(int(k), 200) for k in rng.binomial(200, 0.9, 4000))]
    assert 0.93 < np.mean(hits) < 0.975


def test_without_observations_nothing_is_known() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 5)])
def test_impossible_counts(successes: int, n: int) -> None:
    with raises(BadInput, "TP5049", successes, n):
        wilson_interval(successes, n)


@pytest.mark.parametrize(
    ("b", "c", "p"), [(0, 0, 1.0), (5, 5, 1.0), (1, 8, 20 / 512), (8, 1, 20 / 512), (0, 6, 2 / 64), (0, 10, 2 / 1024)]
)
def test_mcnemar_is_two_sided_and_exact(b: int, c: int, p: float) -> None:
    assert mcnemar_exact(b, c) == pytest.approx(p)


def test_mcnemar_of_thousands_of_photos() -> None:
    assert mcnemar_exact(2000, 2000) == 1.0
    assert 0 < mcnemar_exact(1900, 2100) < 0.01
    with raises(BadInput, "TP5051", "-1", "2"):
        mcnemar_exact(-1, 2)


def test_paired_shares() -> None:
    low, high = paired_shares(2, 12, 50)
    assert (low, high) == pytest.approx((0.0611, 0.3447), abs=1e-4)
    assert paired_shares(12, 2, 50) == pytest.approx((-high, -low))
    # At its ends the likeliest shares that differ by so much, looked for one by one, are 1.96 deviations away.
    for change in (low, high):
        lost = np.linspace(1e-6, (1 - change) / 2 - 1e-6, 200_001)
        likely = 2 * np.log(lost) + 12 * np.log(lost + change) + 36 * np.log1p(-2 * lost - change)
        variance = 50 * (2 * lost[likely.argmax()] + change - change**2)
        assert abs(10 - 50 * change) / variance**0.5 == pytest.approx(1.96, abs=0.001)
    # Answers that never differ prove as much as none of n can.
    assert paired_shares(0, 0, 765).high == pytest.approx(wilson_interval(0, 765).high)
    assert paired_shares(0, 0, 765).low == pytest.approx(-wilson_interval(0, 765).high)
    assert paired_shares(0, 0, 0) == (-1, 1)
    assert paired_shares(5, 0, 5).low == -1.0
    for counts in ((-1, 0, 5), (3, 3, 5)):
        with raises(BadInput, "TP5050", "5"):
            paired_shares(*counts)


@pytest.mark.parametrize(("lost", "won"), [(0.0, 0.0), (0.02, 0.0), (0.05, 0.03), (0.3, 0.1)])
def test_paired_shares_cover_as_often_as_they_say(lost: float, won: float) -> None:
    rng = np.random.default_rng(4)
    draws = rng.multinomial(100, [lost, won, 1 - lost - won], size=400)
    hits = sum(low <= won - lost <= high for low, high in (paired_shares(b, c, 100) for b, c, _ in draws.tolist()))
    assert hits >= 370


def test_paired_difference_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        first = rng.random(300) < 0.9
        second = np.where(rng.random(300) < 0.1, rng.random(300) < 0.5, first)
        low, high = paired_difference(first, second, draws=500)
        hits += low <= -0.04 <= high
    assert hits >= 180


def test_paired_difference_of_equal_answers_is_nothing() -> None:
    same = np.array([1, 0, 1, 1])
    assert paired_difference(same, same) == (0.0, 0.0)
    with raises(BadInput, "TP5052"):
        paired_difference(same, same[:2])
    with raises(BadInput, "TP5052"):
        paired_difference(same[:0], same[:0])


def test_least_counts_are_mlperfs() -> None:
    assert [least_count(p) for p in (50, 90, 99)] == [11, 64, 662]
    with raises(BadInput, "TP5053", "100"):
        least_count(100)


@given(st.floats(1, 99.5), st.floats(0.5, 0.999))
def test_least_count_is_the_least(percent: float, confidence: float) -> None:
    n, share = least_count(percent, confidence), percent / 100

    def at_most_one_beyond(count: int) -> float:
        return sum(math.comb(count, k) * (1 - share) ** k * share ** (count - k) for k in (0, 1))

    assert at_most_one_beyond(n) <= 1 - confidence + 1e-12
    assert n == 2 or at_most_one_beyond(n - 1) > 1 - confidence - 1e-12


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=300), st.integers(1, 99))
def test_percentile_is_nearest_rank(values: list[float], percent: int) -> None:
    ordered = sorted(values)
    if percent == 50:
        assert percentile(ordered, 50) == pytest.approx(np.median(ordered))
    else:
        # The least value that at least this share of all values does not exceed.
        rank = -(-percent * len(ordered) // 100)
        assert percentile(ordered, percent) == ordered[rank - 1]


def test_a_percentile_needs_enough_observations() -> None:
    assert supported_percentile(np.arange(63.0), 90) is None
    assert supported_percentile(np.arange(64.0), 90) == 57.0
    assert supported_percentile(np.arange(661.0), 99) is None
    assert supported_percentile(np.arange(662.0), 99) == 655.0
    with raises(BadInput, "TP5054"):
        percentile([], 50)


def test_coefficient_of_variation() -> None:
    assert coefficient_of_variation(np.array([])) == 0
    assert coefficient_of_variation(np.array([5.0])) == 0
    assert coefficient_of_variation(np.array([9.0, 11.0])) == pytest.approx(0.1)
