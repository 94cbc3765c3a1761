"""Confidence bounds of a proportion."""

from __future__ import annotations

import numpy as np
import pytest

from trtpoets.core.proportions import wilson_bounds

Z = 1.959964


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_published_bounds(successes: int, n: int, low: float, high: float) -> None:
    """The last row is the example of Newcombe (1998)."""
    assert wilson_bounds(successes, n, Z) == pytest.approx((low, high), abs=1e-4)


def test_without_observations_everything_is_possible() -> None:
    assert wilson_bounds(0, 0, Z) == (0.0, 1.0)


def test_the_bounds_are_roots_of_the_score_test() -> None:
    for successes, n in ((1, 7), (3.5, 20), (180, 189)):
        share = successes / n
        for bound in wilson_bounds(successes, n, Z):
            assert abs(share - bound) == pytest.approx(Z * np.sqrt(bound * (1 - bound) / n))
