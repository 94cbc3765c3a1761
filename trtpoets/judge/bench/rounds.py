"""Ratios and percentiles of timed rounds, with confidence intervals that hold for dependent rounds.

Inferences in one round are correlated, and consecutive rounds may be, as the state of a machine changes slowly. Single
inferences are never taken as independent: a round is a block, and the intervals follow from the variation of rounds.
`benchmarks/coverage_speed.py` measures how often the intervals hold. Numpy and math, no state.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple, Sequence

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.judge.statistics import CONFIDENCE, PERCENTILE_CONFIDENCE, Interval, least_count

MIN_ROUNDS = 5
"""With fewer rounds there is no interval."""

_SLOW = 4
"""The number of slow cosine waves whose power estimates the variance of a mean of dependent rounds. More waves give
narrower intervals, which do not include short-term dependence."""

_DRIFT = 2
"""The number of the slowest waves that are tested for a drift."""

_SURE_OF_DRIFT = 0.005
"""A p-value below this is a drift."""

_MEDIAN = math.pi / 2
"""The ratio of the variance of a median to that of a mean, for independent normal values. Dependence makes it smaller,
so this is its maximum."""

_MIN_KEPT, _MAX_KEPT = 0.45, 0.95
"""Autocorrelations below the first are ignored; those above the second are limited to it."""

_CLEARLY = 1.2
"""Standard deviations from which an autocorrelation is significant."""

_WIDEST = 50.0
"""The largest half-width of an interval, as a logarithm, so that its ends are finite numbers."""

_CLUSTERING = (90, 95, 98, 99)
"""Percentiles at which the uneven distribution of the slowest inferences over the rounds is measured."""

_LEVELS = 41
"""Values that stand for the normal distribution of rounds' levels."""


class Ratio(NamedTuple):
    """A ratio and its interval. `interval` is None with too few rounds, or where the ratio drifts."""

    value: float
    interval: Interval | None
    drifts: bool = False


class Bound(NamedTuple):
    """The upper bound of a percentile, None without one.

    `independent` is the effective number of independent observations; `least_count` are needed.
    """

    value: float | None
    independent: int


class _Level(NamedTuple):
    """The median of a series, the variance of that median with its degrees of freedom, and whether it drifts."""

    median: float
    variance: float
    degrees: int
    drifts: bool


def ratio_of_rounds(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    confidence: float = CONFIDENCE,
    comparisons: int = 1,
) -> Ratio:
    """Return the median over rounds of first / second, and the interval of the same ratio in another run.

    Both are (R,) above 0, paired by round, so that an effect on a whole round cancels out. The intervals of
    `comparisons` ratios hold together with `confidence` (Bonferroni). The interval is that of runs under the same
    conditions, and accounts for rounds that depend on those shortly before. It is None for fewer than five rounds, and
    where the ratio drifted. Raises BadInput for different numbers of rounds, or none.
    """
    if len(first) != len(second) or not len(first):
        raise BadInput(
            f"both series must have the same number of rounds, 1 or more, not {len(first)} and {len(second)}",
            hint="give one value of each per round",
            code="TP5016",
        )
    level = _level(np.log(np.asarray(first, np.float64) / np.asarray(second, np.float64)))
    return _ratio(level.median, 2 * level.variance, level.degrees, level.drifts, confidence, comparisons)


def ratio_of_runs(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    confidence: float = CONFIDENCE,
    comparisons: int = 1,
) -> Ratio:
    """Return median(first) / median(second) of the rounds of two runs, above 0, and its interval.

    The rounds are not paired, so that an effect on one run does not cancel out. As with `ratio_of_rounds`,
    `comparisons` intervals hold together, and the interval is None for fewer than five rounds, or where one run
    drifted. Raises BadInput where a run has no rounds.
    """
    if not len(first) or not len(second):
        raise BadInput(
            f"both runs need at least one round, but have {len(first)} and {len(second)}",
            hint="give at least one round of each",
            code="TP5017",
        )
    level, other = (_level(np.log(np.asarray(values, np.float64))) for values in (first, second))
    middle, variance = level.median - other.median, level.variance + other.variance
    drifts = level.drifts or other.drifts
    if not level.degrees or not other.degrees:
        return Ratio(math.exp(middle), None, drifts)
    # Welch and Satterthwaite's degrees of freedom.
    squares = level.variance**2 / level.degrees + other.variance**2 / other.degrees
    degrees = round(variance**2 / squares) if squares > 0 else level.degrees + other.degrees
    return _ratio(middle, variance, max(degrees, 1), drifts, confidence, comparisons)


def _ratio(middle: float, variance: float, degrees: int, drifts: bool, confidence: float, comparisons: int) -> Ratio:
    if drifts or not degrees:
        return Ratio(math.exp(middle), None, drifts)
    quantile = t_quantile(1 - (1 - confidence) / (2 * max(comparisons, 1)), degrees)
    half = min(quantile * math.sqrt(variance), _WIDEST)
    return Ratio(math.exp(middle), Interval(math.exp(middle - half), math.exp(middle + half)))


def _level(values: np.ndarray) -> _Level:
    """Return the median of values (R,), and its variance, which includes the dependence between values.

    The variance is estimated from the power of the slowest cosine waves in the values (Lazarus, Lewis, Stock and
    Watson, 2018). For independent normal values this power has a chi-square distribution, so that Student's t is exact;
    for dependent values it grows as the variance of their mean does. Where the autocorrelation is significant, the
    variance is at least that of an autoregressive series. A drift is detected by an F-test of the power of the slowest
    two waves against that of all faster ones.
    """
    n, middle = len(values), float(np.median(values))
    if n < MIN_ROUNDS:
        return _Level(middle, 0.0, 0, False)
    count, beside = min(_SLOW, n - 2), values - values.mean()
    waves = math.sqrt(2 / n) * np.cos(math.pi / n * np.outer(np.arange(1, count + 1), np.arange(n) + 0.5))
    power = (waves @ beside) ** 2
    variance = _MEDIAN * max(float(power.mean()), _by_neighbours(beside)) / n
    rest = n - 1 - _DRIFT
    slow = float(power[:_DRIFT].mean())
    quick = max(float((beside**2).sum()) - _DRIFT * slow, 0.0) / rest  # the waves together have the power of the values
    if slow <= (1e-12 * max(abs(middle), 1.0)) ** 2:  # nothing but rounding
        return _Level(middle, variance, count, False)
    chance = (1 + _DRIFT * slow / (rest * quick)) ** (-rest / 2) if quick > 0 else 0.0
    return _Level(middle, variance, count, chance < _SURE_OF_DRIFT)


def _by_neighbours(beside: np.ndarray) -> float:
    """Return n times the variance of the mean of an autoregressive series with the deviations `beside` (n,).

    0 where the autocorrelation is small or not significant: the estimate by waves is then more accurate.
    """
    n, square = len(beside), float((beside**2).sum())
    seen = float((beside[1:] * beside[:-1]).sum()) / square if square else 0.0
    share = min((n * seen + 1) / (n - 4), _MAX_KEPT)  # corrects the bias of few values
    if seen * math.sqrt(n) < _CLEARLY or share < _MIN_KEPT:
        return 0.0
    more = (1 + share) / (1 - share)
    return square / (n - 1) / max(1 - (more - 1) / (n - 1), 0.2) * more


def percentile_bound(rounds: Sequence[Sequence[float] | np.ndarray], percent: float) -> Bound:
    """Return the upper bound of a percentile of all values, with PERCENTILE_CONFIDENCE. `rounds` has the values by
    round.

    All values are above 0. The bound combines two variations. Between rounds, the medians are taken as lognormal, with
    the upper confidence limits of their mean and spread. Within rounds, MLPerf's rule is applied to the values relative
    to their medians: at most t of n values beyond the percentile are too improbable. Here n is the effective number of
    independent values, which is smaller the more unevenly the slowest values are spread over the rounds. The bound is
    None for fewer than five rounds, or fewer than `least_count` independent values. It does not include slow phases
    that did not occur during the measurement.
    """
    filled = [np.asarray(values, np.float64) for values in rounds if len(values)]
    count, total = sum(map(len, filled)), len(filled)
    if total < MIN_ROUNDS or min(float(np.min(values)) for values in filled) <= 0:
        return Bound(None, 0)
    logs = [np.log(values) for values in filled]
    medians = np.array([np.median(values) for values in logs])
    deviations = [values - middle for values, middle in zip(logs, medians)]
    ordered = np.sort(np.concatenate(deviations))
    lengths = np.array([len(values) for values in deviations])
    clustered = max(
        _clustered(deviations, lengths, float(ordered[count * percent_ // 100])) for percent_ in _CLUSTERING
    )
    wide, normal = t_quantile(PERCENTILE_CONFIDENCE, total - 1), _normal(PERCENTILE_CONFIDENCE)
    independent = int(count / (max(clustered, 1.0) * (wide / normal) ** 2))
    beyond = most_beyond(independent, percent)
    if not beyond:
        return Bound(None, independent)
    spread = float(medians.std(ddof=1))
    middle = float(medians.mean()) + wide * spread / math.sqrt(total)
    spread *= math.sqrt((total - 1) / _chi_square(1 - PERCENTILE_CONFIDENCE, total - 1))
    return Bound(math.exp(_upper(ordered, middle + spread * _normal_levels(), beyond / independent)), independent)


def too_few(count: int, independent: int, what: str = "inference", percent: float = 99) -> str:
    """Return why a percentile has no bound."""
    if not independent:
        return f"{count:,} {what}s in fewer than {MIN_ROUNDS} rounds, or timed by an older version"
    return f"{count:,} {what}s count as {independent:,} independent ones, {least_count(percent):,} are needed"


def _clustered(rounds: Sequence[np.ndarray], lengths: np.ndarray, limit: float) -> float:
    """Return the variance between rounds of the share of values above `limit`, relative to independent values."""
    above = np.array([(values > limit).sum() for values in rounds])
    count, total = int(lengths.sum()), len(rounds)
    share = float(above.sum()) / count
    if share in (0.0, 1.0):
        return 1.0
    variance = total / (total - 1) * float(((above - share * lengths) ** 2).sum()) / count**2
    return variance * count / (share * (1 - share))


def _upper(ordered: np.ndarray, levels: np.ndarray, share: float) -> float:
    """Return the value that the share `share` of all sums of a value of `ordered` and one of `levels` exceeds."""
    low, high = float(levels[0] + ordered[0]), float(levels[-1] + ordered[-1])
    for _ in range(60):
        middle = (low + high) / 2
        within = np.searchsorted(ordered, middle - levels, side="right").mean() / len(ordered)
        low, high = (middle, high) if 1 - within > share else (low, middle)
    return high


@lru_cache(maxsize=None)
def _normal_levels() -> np.ndarray:
    """Ascending values whose middle is 0 and whose standard deviation is 1."""
    levels = np.array([_normal((place + 0.5) / _LEVELS) for place in range(_LEVELS)])
    return np.asarray(levels / levels.std())


@lru_cache(maxsize=256)
def most_beyond(n: int, percent: float) -> int:
    """Return the largest number of n independent values beyond a percentile that is still improbably small.

    That is MLPerf's t: the probability of at most t is at most 1 - PERCENTILE_CONFIDENCE (MLPerf inference rules, early
    stopping, as its LoadGen computes it). 0 where n is less than `least_count`.
    """
    if n < least_count(percent):
        return 0
    share = 1 - percent / 100
    likely, beyond = 0.0, 0
    for k in range(n + 1):
        ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        likely += math.exp(ways + k * math.log(share) + (n - k) * math.log1p(-share))
        if likely > 1 - PERCENTILE_CONFIDENCE:
            break
        beyond = k
    return beyond


@lru_cache(maxsize=256)
def t_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t. Raises BadInput unless 0.5 <= probability < 1 and degrees >= 1."""
    if not 0.5 <= probability < 1 or degrees < 1:
        raise BadInput(
            f"the quantile {probability} of Student's t with {degrees} degrees of freedom is not supported",
            hint="give a probability of 0.5 to 1, and at least 1 degree of freedom",
            code="TP5018",
        )
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, degrees) < probability else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _t_below(angle: float, degrees: int) -> float:
    """Return the share of Student's t below sqrt(degrees) tan(angle) (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = total = cosine if odd else 1.0
    for k in range(3 if odd else 2, degrees, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    if not odd:
        return 0.5 + sine * total / 2
    return 0.5 + (angle + (sine * total if degrees > 1 else 0.0)) / math.pi


def _chi_square(probability: float, degrees: int) -> float:
    """Return the quantile of chi-square (Wilson and Hilferty, 1931)."""
    part = 2 / (9 * degrees)
    return float(degrees * max(1 - part + _normal(probability) * math.sqrt(part), 0.05) ** 3)


def _normal(probability: float) -> float:
    """Return the quantile of the normal distribution."""
    from statistics import NormalDist  # imports decimal and fractions, which nothing else needs

    return NormalDist().inv_cdf(probability)
