"""Confidence bounds of a proportion."""

from __future__ import annotations

import math


def wilson_bounds(successes: float, n: float, z: float) -> tuple[float, float]:
    """Return the bounds of a proportion (Wilson, 1927), `z` standard deviations wide on each side.

    `successes` of `n` observations, 0 <= successes <= n; both may be fractions. Without observations: (0, 1).
    """
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the formula gives 0 and 1 exactly; floating point gives almost that.
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == n else (middle + half) / scale
    return low, high
