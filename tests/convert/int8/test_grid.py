"""Grids of integers: symmetric for TensorRT, unsigned with a zero point for CPUs."""

import numpy as np
import pytest

from trtpoets.convert.int8.grid import SMALLEST_SCALE, SYMMETRIC, UNSIGNED


def test_a_symmetric_grid_has_no_zero_point() -> None:
    quantiser = SYMMETRIC.quantiser(-1.0, 2.54)
    assert quantiser.zero == 0
    assert quantiser.scale == pytest.approx(0.02)
    assert np.allclose(quantiser.limits, (-2.54, 2.54))
    assert SYMMETRIC.quantiser(0.0, 0.0).scale == SMALLEST_SCALE


@pytest.mark.parametrize("span", [(0.0, 6.0), (-1.0, 2.0), (-3.0, -1.0), (0.5, 4.0), (-5.1, 0.0)])
def test_an_unsigned_grid_uses_all_levels_and_represents_0(span: tuple[float, float]) -> None:
    quantiser = UNSIGNED.quantiser(*span)
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    assert quantiser.scale == pytest.approx((high - low) / 255)
    assert np.allclose(quantiser.limits, (low, high), atol=quantiser.scale / 2)
    values = np.linspace(low, high, 1000, dtype=np.float32)
    assert quantiser.nearest(np.zeros(1, np.float32)) == 0
    assert np.abs(quantiser.nearest(values) - values).max() <= quantiser.scale * 1.01


def test_how_many_magnitudes_a_range_has() -> None:
    assert SYMMETRIC.magnitudes(-1.0, 3.0) == 128
    assert UNSIGNED.magnitudes(0.0, 3.0) == 256
    assert UNSIGNED.magnitudes(-3.0, 3.0) == pytest.approx(128, abs=1)
    assert UNSIGNED.magnitudes(0.0, 0.0) == 256
