"""Computes how many independent photos decide a limit of the gate, from the share of answers that change."""

from __future__ import annotations

import math

from trtpoets.judge.statistics import CONFIDENCE, wilson_interval

POWER = 0.8
"""The probability with which the computed number of photos is to decide."""

_MAX_PHOTOS = 10**9
"""A larger number of photos is not reported."""


def photos_for_share(limit: float) -> int | None:
    """Return the fewest photos that prove a share to be at most `limit`, if none of them counts (Wilson's interval).

    None for a limit of 0, which no number of photos can prove.
    """
    if limit <= 0:
        return None
    low, high = 1, 2
    while wilson_interval(0, high).high > limit:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if wilson_interval(0, middle).high <= limit else (middle, high)
    return high


def photos_for_drop(limit: float, changed: float, loss: float = 0.0, confidence: float = CONFIDENCE) -> int | None:
    """Return the number of photos that decides, with probability POWER, whether a loss of accuracy is at most `limit`.

    `changed` is the share of photos that only one of the two classifiers gets right, `loss` the true loss of accuracy,
    `confidence` that of the interval. The formula is Lachin's (1992) for McNemar's test, with a margin. The result is
    never smaller than for `changed` 0: a limit of 0.005 needs 6,280 photos if 2 % change, and 765 if none do. None if
    `loss` is equal to the limit, or if more than a billion photos are needed.
    """
    least = photos_for_share(limit) if loss <= limit else 1
    if least is None or math.isclose(loss, limit, rel_tol=1e-9):
        return None
    needed = (_deviations(confidence=confidence) / (limit - loss)) ** 2 * max(changed - loss**2, 0.0)
    return max(least, math.ceil(needed)) if needed < _MAX_PHOTOS else None


def photos_for_agreement(limit: float, agreement: float) -> int | None:
    """Return the number of photos that decides, with probability POWER, whether the agreement is at least `limit`.

    `agreement` is the true agreement. None if it is equal to the limit, or if the limit is 1, which no number of photos
    can prove.
    """
    allowed, changed = 1 - limit, 1 - agreement
    least = photos_for_share(round(allowed, 12)) if changed <= allowed else 1
    if least is None or math.isclose(changed, allowed, rel_tol=1e-9):
        return None
    half_width, for_power = _deviations(0.0), _deviations() - _deviations(0.0)
    spread = half_width * math.sqrt(allowed * (1 - allowed)) + for_power * math.sqrt(changed * (1 - changed))
    needed = (spread / (allowed - changed)) ** 2
    return max(least, math.ceil(needed)) if needed < _MAX_PHOTOS else None


def _deviations(power: float = POWER, confidence: float = CONFIDENCE) -> float:
    """Return the number of standard deviations that the true value must be away from a limit.

    It is half the width of the interval, plus the quantile of `power`, unless that is 0.
    """
    from statistics import NormalDist  # imports decimal and fractions, which nothing else needs

    normal = NormalDist()
    return normal.inv_cdf(0.5 + confidence / 2) + (normal.inv_cdf(power) if power else 0.0)
