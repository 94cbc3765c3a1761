"""Computes confidence bounds of a proportion."""

from __future__ import annotations

import math


def wilson_bounds(successes: float, n: float, z: float) -> tuple[float, float]:
    """Return the lower and upper bound of a proportion (Wilson, 1927), 0..1.

    The proportion was observed as `successes` of `n`, 0 <= successes <= n; both may be fractions. `z` is the normal
    quantile of the confidence on each side, 1.96 for 95 %. Without observations the bounds are (0, 1).
    """
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # For 0 and n successes the bounds are exactly 0 and 1; floating-point arithmetic would give nearly these.
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == n else (middle + half) / scale
    return low, high
