"""Scales of weights and tensors in Q/DQ pairs."""

from __future__ import annotations

import numpy as np
import pytest

from trtpoets.convert.int8.grid import SMALLEST_SCALE
from trtpoets.convert.int8.qdq import along_axis, channel_scales


def test_scales_of_weights() -> None:
    weights = np.zeros((3, 2, 1, 1), np.float32)
    weights[0, 1] = -2.54
    weights[1] = 1e-12
    scales = channel_scales(weights, 0)
    assert scales.dtype == np.float32
    assert scales == pytest.approx([0.02, SMALLEST_SCALE, SMALLEST_SCALE])
    assert np.float16(SMALLEST_SCALE) > 0
    assert channel_scales(weights, 1) == pytest.approx([SMALLEST_SCALE, 0.02])


def test_scales_are_shaped_for_their_axis() -> None:
    scales = np.array([1, 2, 3], np.float32)
    assert along_axis(scales, 1, 4).shape == (1, 3, 1, 1)
    assert along_axis(scales, 0, 1).shape == (3,)
    assert along_axis(np.float32(2).reshape(()), 1, 4) == 2
