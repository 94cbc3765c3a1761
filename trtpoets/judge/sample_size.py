"""The number of independent photos that decides a limit of the gate, from the share of answers that change."""

from __future__ import annotations

import math

from trtpoets.judge.statistics import CONFIDENCE, wilson_interval

POWER = 0.8
"""The probability that this number of photos decides."""

_MAX_PHOTOS = 10**9
"""A larger number of photos is not reported."""


def photos_for_share(limit: float) -> int | None:
    """Return the fewest photos that show a share to be at most `limit`, if it is 0 in all of them (Wilson's interval).

    None for a limit of 0, which no number of photos can show.
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

    `changed` is the share of photos that only one of the two classifiers gets right, `loss` the true loss: none, unless
    given (Lachin, 1992, for McNemar's test, with a margin). At least as many as no changes at all would need: 6,280 for
    a limit of 0.005 where 2 % change, 765 where none do. None where `loss` is at the limit. `confidence` is that of the
    interval.
    """
    least = photos_for_share(limit) if loss <= limit else 1
    if least is None or math.isclose(loss, limit, rel_tol=1e-9):
        return None
    needed = (_deviations(confidence=confidence) / (limit - loss)) ** 2 * max(changed - loss**2, 0.0)
    return max(least, math.ceil(needed)) if needed < _MAX_PHOTOS else None


def photos_for_agreement(limit: float, agreement: float) -> int | None:
    """Return the number of photos that decides, with probability POWER, whether the share `limit` of answers agrees.

    `agreement` is the true share. None where it is at the limit, or 1 is asked for: no number of photos can show that.
    """
    allowed, changed = 1 - limit, 1 - agreement
    least = photos_for_share(round(allowed, 12)) if changed <= allowed else 1
    if least is None or math.isclose(changed, allowed, rel_tol=1e-9):
        return None
    sure, likely = _deviations(0.0), _deviations() - _deviations(0.0)
    spread = sure * math.sqrt(allowed * (1 - allowed)) + likely * math.sqrt(changed * (1 - changed))
    needed = (spread / (allowed - changed)) ** 2
    return max(least, math.ceil(needed)) if needed < _MAX_PHOTOS else None


def _deviations(power: float = POWER, confidence: float = CONFIDENCE) -> float:
    """Return the standard deviations from a limit to the true value: half of the interval, plus `power` if not 0."""
    from statistics import NormalDist  # imports decimal and fractions, which nothing else needs

    normal = NormalDist()
    return normal.inv_cdf(0.5 + confidence / 2) + (normal.inv_cdf(power) if power else 0.0)
