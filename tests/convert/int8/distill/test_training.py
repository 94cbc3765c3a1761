"""The order of the photos, the learning rate, and impossible settings; test_distilled.py trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.errors import raises
from trtpoets.convert.int8.distill.training import DistillConfig, learning_rate, photo_order
from trtpoets.core.errors import BadInput


def test_each_photo_is_used_once_before_any_is_used_twice() -> None:
    config = DistillConfig(steps=6, batch=4, seed=1)
    order = photo_order(10, config)
    assert order.shape == (6, 4)
    assert sorted(order.reshape(-1)[:10]) == sorted(order.reshape(-1)[10:20]) == list(range(10))
    np.testing.assert_array_equal(order, photo_order(10, config))
    assert (order != photo_order(10, DistillConfig(steps=6, batch=4, seed=2))).any()
    assert photo_order(3, config).shape == (6, 3)


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    config = DistillConfig(steps=100, learning_rate=0.5)
    rates = [learning_rate(step, config) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.5 / 20)
    assert max(rates) == rates[19]
    assert 0 < rates[-1] < 0.001


@pytest.mark.parametrize("settings", [{"steps": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"learning_rate": 2.0}])
def test_impossible_settings(settings: dict[str, Any]) -> None:
    with raises(BadInput, "TP3291"):
        DistillConfig(**settings)
