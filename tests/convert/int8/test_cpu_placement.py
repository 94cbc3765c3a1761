"""What becomes an integer in the form for CPUs."""

from __future__ import annotations

import numpy as np

from trtpoets.convert.int8.cpu_placement import PAIRED_LEVELS, largest_pair


def test_two_products_never_saturate() -> None:
    assert np.iinfo(np.int16).max >= 255 * 2 * PAIRED_LEVELS
    assert largest_pair(np.array([[64, -64, 3], [1, 2, 127]], np.int8), 0) == 129
    assert largest_pair(np.array([[64, -64, 3], [1, 2, 127]], np.int8), 1) == 130
