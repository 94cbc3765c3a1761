"""Learning rates of fine-tuning, and when it is evaluated."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from trtpoets.train.finetune_schedule import evaluated_steps, first_choosable, layer_rates, number_of_steps, rate_at


def test_the_rate_grows_and_then_falls_to_nothing() -> None:
    rates = [rate_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1
    assert all(before >= after for before, after in itertools.pairwise(rates[9:]))
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_short_trainings_have_rates(steps: int) -> None:
    assert all(0 < rate_at(step, steps) <= 1 for step in range(steps))


def test_lower_layers_learn_slower_by_their_place_in_the_whole_network() -> None:
    every = layer_rates(52, 52, 0.1)
    assert every[0] == pytest.approx(0.1)
    assert every[-1] == 1
    np.testing.assert_allclose(layer_rates(52, 10, 0.1), every[-10:])
    assert layer_rates(1, 1, 0.1).tolist() == [1.0]


def test_steps_cover_the_passes() -> None:
    assert number_of_steps(100, 32, 8, 10) == 25
    assert number_of_steps(20, 20, 8, 120) == 120


def test_a_step_of_the_last_third_is_shipped() -> None:
    assert first_choosable(tuple(range(0, 241, 20)), 240) == 8
    assert first_choosable((0, 20, 40), 240) == 3  # the training has ended before


def test_the_start_and_the_end_are_evaluated() -> None:
    assert evaluated_steps(240) == tuple(range(0, 241, 20))
    assert evaluated_steps(3) == (0, 1, 2, 3)
