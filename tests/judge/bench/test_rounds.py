"""Intervals over rounds: how often they hold where rounds depend on each other, and that they say where they can't."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.judge.bench.rounds import (
    most_beyond,
    percentile_bound,
    ratio_of_rounds,
    ratio_of_runs,
    t_quantile,
    too_few,
)

ROUNDS = 20


def dependent(rng: np.random.Generator, share: float, count: int = ROUNDS) -> np.ndarray:
    """Normal values of which each keeps `share` of the one before, with a standard deviation of 1."""
    fresh = rng.normal(size=count + 100) * math.sqrt(1 - share**2)
    for place in range(1, len(fresh)):
        fresh[place] += share * fresh[place - 1]
    return fresh[100:]


@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [(0.975, 1, 12.7062), (0.975, 4, 2.7764), (0.99, 19, 2.5395), (0.995, 8, 3.3554), (0.975, 1000, 1.9623)],
)
def test_quantiles_of_t(probability: float, degrees: int, expected: float) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(expected, abs=1e-4)
    assert t_quantile(0.5, degrees) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("probability", "degrees"), [(1.0, 4), (0.2, 4), (0.9, 0)])
def test_no_quantiles_of_t(probability: float, degrees: int) -> None:
    with raises(BadInput, "TP5018"):
        t_quantile(probability, degrees)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5])
def test_a_ratio_is_where_another_run_finds_it_though_rounds_depend(share: float) -> None:
    rng = np.random.default_rng(1)
    held = result = 0
    for _ in range(400):
        slow = np.cumsum(rng.normal(0, 0.1, ROUNDS))  # the machine drifts, and both sides of a ratio alike
        first = np.exp(slow + 0.02 * dependent(rng, share))
        ratio = ratio_of_rounds(first, np.exp(slow))
        other = ratio_of_rounds(np.exp(0.02 * dependent(rng, share)), np.ones(ROUNDS)).value
        if ratio.interval is not None:
            result += 1
            held += ratio.interval.low <= other <= ratio.interval.high
        assert (ratio.interval is None) == ratio.drifts
    assert result >= 320
    assert held / result >= 0.9


def test_the_rows_of_a_benchmark_raise_few_false_alarms_together() -> None:
    rng = np.random.default_rng(2)
    alarms = alone = 0
    for _ in range(150):
        base = 0.02 * dependent(rng, 0.3)
        rows = [0.02 * dependent(rng, 0.3) for _ in range(8)]
        ratios = [ratio_of_runs(np.exp(base + row), np.exp(0.02 * dependent(rng, 0.3)), comparisons=8) for row in rows]
        alarms += any(item.interval and not item.interval.low <= 1 <= item.interval.high for item in ratios)
        one = ratio_of_runs(np.exp(rows[0]), np.exp(base))
        alone += bool(one.interval and not one.interval.low <= 1 <= one.interval.high)
    assert alarms <= 15
    assert alone <= 15


def test_a_ratio_that_drifts_has_no_interval() -> None:
    rng = np.random.default_rng(3)
    moving = np.exp(np.linspace(0, 0.1, ROUNDS) + rng.normal(0, 0.01, ROUNDS))
    ratio = ratio_of_rounds(2 * moving, np.ones(ROUNDS))
    assert (ratio.interval, ratio.drifts) == (None, True)
    assert ratio.value == pytest.approx(2.1, rel=0.02)
    for first, second in ((moving, np.ones(ROUNDS)), (np.ones(ROUNDS), moving)):
        assert (ratio_of_runs(first, second).interval, ratio_of_runs(first, second).drifts) == (None, True)
    both = ratio_of_rounds(2 * moving, moving)  # what both sides do cancels out
    assert both.interval is not None
    assert both.interval.low == pytest.approx(2.0)


def test_a_slower_runner_is_reported() -> None:
    rng = np.random.default_rng(4)
    slower = [ratio_of_rounds(np.ones(10), 1.05 * np.exp(rng.normal(0, 0.01, 10))) for _ in range(100)]
    assert sum(item.interval is not None and item.interval.high < 1 for item in slower) >= 95


def test_more_comparisons_make_wider_intervals() -> None:
    values = np.exp(np.random.default_rng(5).normal(0, 0.02, ROUNDS))
    widths = []
    for comparisons in (1, 4, 16):
        interval = ratio_of_rounds(values, np.ones(ROUNDS), comparisons=comparisons).interval
        assert interval is not None
        widths.append(interval.high - interval.low)
    assert widths == sorted(widths)
    assert widths[0] < widths[1]


def test_ratios_of_few_rounds() -> None:
    assert ratio_of_rounds([4.0], [2.0]) == (pytest.approx(2.0), None, False)
    assert ratio_of_runs([4.0] * 4, [2.0] * 9) == (pytest.approx(2.0), None, False)
    for item in (ratio_of_rounds([4.0] * 5, [2.0] * 5), ratio_of_runs([4.0] * 5, [2.0] * 5)):
        assert item == (pytest.approx(2.0), pytest.approx((2.0, 2.0)), False)
    with raises(BadInput, "TP5016", "1 and 2"):
        ratio_of_rounds([1.0], [1.0, 2.0])
    with raises(BadInput, "TP5016", "0 and 0"):
        ratio_of_rounds([], [])
    with raises(BadInput, "TP5017", "0 and 1"):
        ratio_of_runs([], [1.0])


def test_an_interval_is_always_a_number() -> None:
    wild = [1e-9, 1e12] * 5
    for item in (ratio_of_rounds(wild, wild[::-1]), ratio_of_runs(wild[:6], wild[:5])):
        assert item.interval is None or 0 < item.interval.low < item.interval.high < math.inf


def test_the_most_beyond_a_percentile_is_mlperfs() -> None:
    assert [most_beyond(n, 99) for n in (0, 661, 662, 200_000)] == [0, 0, 1, pytest.approx(1896, abs=10)]
    assert most_beyond(63, 90) == 0


def by_rounds(values: np.ndarray) -> list[np.ndarray]:
    return np.array_split(values, ROUNDS)


_WITHIN: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], float]] = {
    "independent": (lambda rng, n: np.exp(0.1 * rng.normal(size=n)), math.exp(0.2326)),
    "dependent": (lambda rng, n: np.exp(0.1 * dependent(rng, 0.9, n)), math.exp(0.2326)),
    "rounds at other levels": (
        lambda rng, n: np.exp(0.03 * rng.normal(size=n) + np.repeat(0.05 * rng.normal(size=ROUNDS), n // ROUNDS)),
        math.exp(2.3263 * math.hypot(0.03, 0.05)),
    ),
    "drifting": (
        lambda rng, n: np.exp(0.01 * rng.normal(size=n) + 0.1 * np.linspace(-1, 1, n)),
        math.exp(0.1),
    ),
}


@pytest.mark.parametrize("kind", _WITHIN)
def test_the_bound_of_a_percentile_holds(kind: str) -> None:
    draw, truth = _WITHIN[kind]
    rng = np.random.default_rng(6)
    bounds = [percentile_bound(by_rounds(draw(rng, 4000)), 99) for _ in range(40)]
    values = [item.value for item in bounds if item.value is not None]
    assert all(value >= truth for value in values)
    assert all(value < 1.5 * truth for value in values)
    if kind != "dependent":  # which takes more inferences than these
        assert len(values) >= 38


def test_no_bound_is_given_where_it_would_be_wrong() -> None:
    rng = np.random.default_rng(7)
    few = percentile_bound(by_rounds(np.exp(0.1 * rng.normal(size=700))), 99)
    assert few.value is None
    assert 0 < few.independent < 662
    assert too_few(700, few.independent) == (
        f"700 inferences count as {few.independent} independent ones, 662 are needed"
    )
    for rounds in ([], [np.ones(5000)], [np.ones(5000)] * 4, [np.ones(900), np.zeros(900)] * 3):
        assert percentile_bound(rounds, 99) == (None, 0)
    assert "fewer than 5 rounds" in too_few(700, 0)
    # A tenth of the rounds is slow as a whole: 4,000 inferences say no more of that than 20 do.
    spells = np.where(np.arange(4000) // 200 % 10 == 3, 2.0, 1.0)
    spells[::2] *= 1.01
    slow = percentile_bound(by_rounds(spells), 99)
    assert slow.value is None or slow.value >= 2.0
    # Slow inferences that come together, within few rounds.
    bursts = np.exp(0.01 * rng.normal(size=4000))
    bursts[1000:1040] *= 2
    assert percentile_bound(by_rounds(bursts), 99).value is None


def test_equal_spans_have_their_own_bound() -> None:
    assert percentile_bound([[2.0] * 100] * ROUNDS, 99).value == pytest.approx(2.0)
    uneven = percentile_bound([[2.0] * count for count in (1, 500, 700, 0, 900, 100)] + [[2.0] * 50] * 4, 99)
    assert uneven.value == pytest.approx(2.0)
