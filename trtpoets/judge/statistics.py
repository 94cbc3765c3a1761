"""Confidence intervals, paired tests, and percentiles with the number of observations that they need."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Callable, NamedTuple, Sequence

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.core.proportions import wilson_bounds

CONFIDENCE = 0.95
"""The confidence of intervals, unless another one is given."""

PERCENTILE_CONFIDENCE = 0.99
"""The confidence with which a percentile must be bounded to be reported, as in MLPerf."""


class Interval(NamedTuple):
    """An interval from `low` to `high`, both included."""

    low: float
    high: float


def wilson_interval(successes: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's interval of a proportion (1927), which also holds for few observations, for 0 % and for 100 %.

    Counts may be fractions, because effective numbers (`judge.clustered`) are. Without observations the interval is
    (0, 1). Raises BadInput unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise BadInput(
            f"{successes} successes in {n} trials are not possible", hint="give 0 <= successes <= trials", code="TP5049"
        )
    return Interval(*wilson_bounds(successes, n, _deviations(confidence)))


def _deviations(confidence: float) -> float:
    """Return the half-width, in standard deviations, of the central interval of a normal distribution."""
    from statistics import NormalDist  # imports decimal and fractions, which nothing else needs

    return NormalDist().inv_cdf(0.5 + confidence / 2)


def paired_shares(only_first: float, only_second: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of the accuracy of a second classifier minus that of a first one, on the same `n` photos.

    `only_first` photos are answered right by the first classifier only, `only_second` by the second only. The score
    interval (Tango, 1998) also holds for few photos, and is not empty if all answers are equal. Without photos it is
    (-1, 1). Counts may be fractions, because effective numbers (`judge.clustered`) are. Raises BadInput if the counts
    are negative or their sum is more than n.
    """
    if min(only_first, only_second) < 0 or only_first + only_second > n * (1 + 1e-9):
        raise BadInput(
            f"{only_first} and {only_second} photos can't be different ones of {n} photos",
            hint="give counts of at least 0, in total at most the number of photos",
            code="TP5050",
        )
    if n == 0:
        return Interval(-1.0, 1.0)
    z = _deviations(confidence)

    def deviations(change: float) -> float:
        """Return by how many standard deviations the measured change exceeds the true one, if that is `change`."""
        slope = (2 * n - only_second + only_first) * change - only_first - only_second
        spread = change * (1 - change)
        lost = (math.sqrt(max(slope * slope + 8 * n * only_first * spread, 0.0)) - slope) / (4 * n)
        variance = n * max(2 * lost + spread, 0.0)
        return (only_second - only_first - n * change) / math.sqrt(variance) if variance > 0 else math.inf

    measured = (only_second - only_first) / n
    low = _threshold(lambda change: deviations(change) <= z, -1.0, measured)
    return Interval(low, _threshold(lambda change: deviations(change) < -z, measured, 1.0))


def _threshold(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return the value between `low` and `high` from which a condition holds, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def mcnemar_exact(b: int, c: int) -> float:
    """Return the p-value of McNemar's test (1947) that two classifiers are equally accurate: exact and two-sided.

    `b` photos are answered right by the first classifier only, `c` by the second only. If the classifiers are equally
    accurate, each of the b + c photos belongs to either with probability 1/2. Raises BadInput for negative counts.
    """
    if b < 0 or c < 0:
        raise BadInput(
            f"counts must not be negative, but they are {b} and {c} photos",
            hint="give counts of at least 0",
            code="TP5051",
        )
    n, smaller = b + c, min(b, c)
    tail: int = sum(math.comb(n, k) for k in range(smaller + 1))
    return float(min(1.0, 2 * tail / 2**n))


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray | None = None,
    confidence: float = CONFIDENCE,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the interval of mean(second) - mean(first) over the same photos, by a paired bootstrap of groups.

    `first` and `second` are the results of each photo, (N,); `groups` has the group of each photo, int (N,), or is None
    if each photo is a group. Groups, not photos, are drawn with replacement (Efron, 1979; Field and Welsh, 2007). The
    percentiles are widened by the ratio of the quantiles of Student's t, with one degree of freedom less than there are
    groups, and of the normal distribution (the expanded percentile interval; Hesterberg, 2015). Raises BadInput if the
    results have different shapes, or are empty.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise BadInput(
            f"results of shapes {first.shape} and {second.shape} are not paired",
            hint="give one result of each per photo",
            code="TP5052",
        )
    group_of = np.arange(len(first)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(group_of, weights=second.astype(np.float64) - first.astype(np.float64))
    kinds, counts = np.unique(np.stack([sums, np.bincount(group_of)], axis=1), axis=0, return_counts=True)
    redrawn = redrawn_means(kinds, counts, np.random.default_rng(seed), draws)
    low, high = np.quantile(redrawn[:, 0], _expanded(int(counts.sum()), confidence))
    return Interval(float(low), float(high))


def redrawn_means(kinds: np.ndarray, counts: np.ndarray, random: np.random.Generator, draws: int) -> np.ndarray:
    """Return the means over photos for draws of groups with replacement (the cluster bootstrap): float64 (draws, P).

    Equal groups are one row of `kinds`, (K, P + 1): the sums of P results over the group, and its number of photos.
    `counts`, (K,), is the number of such groups.
    """
    n = int(counts.sum())
    totals = random.multinomial(n, counts / n, size=draws) @ kinds
    return np.asarray(totals[:, :-1] / totals[:, -1:])


def _expanded(n: int, confidence: float) -> list[float]:
    """Return the lower and upper percentile, 0..1, of the expanded percentile interval of n observations."""
    from statistics import NormalDist

    if n < 2:
        return [0.0, 1.0]
    z, freedom = _deviations(confidence), n - 1
    # Student's quantile, by the expansion of Cornish and Fisher: exact to 0.3 % from 4 degrees of freedom on.
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    lower = NormalDist().cdf(-t * math.sqrt(n / freedom))
    return [lower, 1 - lower]


@lru_cache(maxsize=None)
def least_count(percent: float, confidence: float = PERCENTILE_CONFIDENCE) -> int:
    """Return the fewest observations that support a percentile: 11 for p50, 64 for p90, 662 for p99.

    By MLPerf's rule (inference rules, early stopping), the probability that at most one of n observations is above the
    percentile must be at most 1 - confidence. Raises BadInput unless 0 < percent < 100.
    """
    if not 0 < percent < 100:
        raise BadInput(
            f"a percentile must be between 0 and 100, not {percent}",
            hint="give a percentile between 0 and 100",
            code="TP5053",
        )
    share = percent / 100
    n = 2
    while share**n + n * (1 - share) * share ** (n - 1) > 1 - confidence:
        n += 1
    return n


def percentile(ordered: Sequence[float] | np.ndarray, percent: float) -> float:
    """Return the nearest-rank percentile of sorted values, as trtexec does; the median is the mean of the middle two.

    `supported_percentile` checks that there are enough values; this function does not. Raises BadInput without values.
    """
    n = len(ordered)
    if not n:
        raise BadInput("a percentile needs at least one value", hint="measure at least once", code="TP5054")
    if percent == 50:
        return float(ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return float(ordered[max(n - 1 - int((100 - percent) * n / 100), 0)])


def supported_percentile(ordered: Sequence[float] | np.ndarray, percent: float) -> float | None:
    """Return the percentile of sorted values; None if there are fewer than `least_count`."""
    return percentile(ordered, percent) if len(ordered) >= least_count(percent) else None


def coefficient_of_variation(values: np.ndarray) -> float:
    """Return the standard deviation divided by the mean; 0 for fewer than two values."""
    mean = float(np.mean(values)) if len(values) else 0.0
    return float(np.std(values)) / mean if mean > 0 else 0.0
