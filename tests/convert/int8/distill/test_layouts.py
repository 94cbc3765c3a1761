"""Values with the channels as the second or as the last axis."""

from __future__ import annotations

import numpy as np
import pytest

from trtpoets.convert.int8.distill.layouts import Value, aligned, transposed

PLAIN = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
LAST = Value(np.ascontiguousarray(PLAIN.transpose(0, 2, 3, 1)), channels_last=True)


def test_both_layouts_have_the_same_values() -> None:
    np.testing.assert_array_equal(LAST.plain, PLAIN)
    np.testing.assert_array_equal(Value(PLAIN).maps, LAST.maps)
    assert [LAST.axis(axis) for axis in (0, 1, 2, 3, -1)] == [0, 3, 1, 2, 2]
    assert [Value(PLAIN).axis(axis) for axis in (0, 1, -1)] == [0, 1, 3]


def test_values_are_brought_into_one_layout() -> None:
    scale = np.arange(3, dtype=np.float32).reshape(3, 1, 1)
    (maps, factors), channels_last = aligned([LAST, Value(scale)])
    assert channels_last
    np.testing.assert_array_equal(maps * factors, (PLAIN * scale).transpose(0, 2, 3, 1))
    (first, second), channels_last = aligned([Value(PLAIN), Value(scale)])
    assert not channels_last
    np.testing.assert_array_equal(first * second, PLAIN * scale)


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (0, 3, 1, 2), (1, 0, 2, 3), (0, 1, 3, 2)])
@pytest.mark.parametrize("value", [Value(PLAIN), LAST], ids=["plain", "last"])
def test_a_transposition_gives_the_values_of_numpy(value: Value, order: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(transposed(value, order).plain, PLAIN.transpose(order))
