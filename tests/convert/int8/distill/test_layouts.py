"""The order of the axes of values in the differentiable network."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from trtpoets.convert.int8.distill.layouts import NetworkValue, aligned, transposed

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

MAPS = np.arange(120.0).reshape(2, 3, 4, 5)
LAST = NetworkValue(MAPS.transpose(0, 2, 3, 1), channels_last=True)


def test_both_orders_are_the_same_value() -> None:
    plain = NetworkValue(MAPS)
    np.testing.assert_array_equal(LAST.plain, MAPS)
    np.testing.assert_array_equal(plain.maps, LAST.tensor)
    assert [LAST.axis(axis) for axis in (0, 1, 2, 3, -1, -3)] == [0, 3, 1, 2, 2, 3]
    assert [plain.axis(axis) for axis in (0, 1, -1)] == [0, 1, 3]


@pytest.mark.parametrize("shape", [(), (5,), (4, 5), (3, 1, 1), (1, 3, 1, 1), (2, 3, 4, 5)])
def test_constants_are_broadcast_as_in_onnx(shape: tuple[int, ...]) -> None:
    constant = np.random.default_rng(0).normal(size=shape)
    (first, second), channels_last = aligned([LAST, NetworkValue(constant)])
    assert channels_last
    np.testing.assert_allclose(NetworkValue(first + second, channels_last).plain, MAPS + constant)


def test_moving_the_channels_moves_no_data() -> None:
    photos = NetworkValue(MAPS.transpose(0, 2, 3, 1))
    moved = transposed(photos, (0, 3, 1, 2))
    assert moved.channels_last and moved.tensor is photos.tensor
    back = transposed(moved, (0, 2, 3, 1))
    assert not back.channels_last and back.tensor is photos.tensor
    np.testing.assert_array_equal(transposed(LAST, (0, 1, 3, 2)).plain, MAPS.transpose(0, 1, 3, 2))
