"""Learning curves: the extrapolation of errors that follow a known curve, and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import from_json, to_json
from trtpoets.judge.learning_curve import LearningCurve, learning_curve_from_answers

SIZES = (100.0, 200.0, 400.0, 800.0)


def answers(errors: list[float], photos: int = 4000, seed: int = 0) -> np.ndarray:
    """Return right answers, bool (P, N): a photo that is difficult for one head is difficult for the others."""
    difficulty = np.random.default_rng(seed).random(photos)
    return np.stack([difficulty >= error for error in errors])


def power_law(a: float, b: float, c: float) -> list[float]:
    return [a + b * (size / SIZES[0]) ** -c for size in SIZES]


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_the_gain_of_a_power_law_is_in_the_interval_and_near_the_value(exponent: float) -> None:
    errors = power_law(0.05, 0.2, exponent)
    curve = learning_curve_from_answers(answers(errors), SIZES, 1000, np.arange(4000))
    for gain in curve.gains:
        true = errors[-1] - (0.05 + 0.2 * (gain.factor * 8) ** -exponent)
        assert gain.low <= true <= gain.high
        assert gain.gain == pytest.approx(true, abs=0.02)
        assert gain.photos == 1000 * gain.factor
    assert [point.photos for point in curve.points] == [100, 200, 400, 800]
    for point, error in zip(curve.points, errors, strict=True):
        assert point.low <= point.accuracy <= point.high
        assert point.accuracy == pytest.approx(1 - error, abs=0.02)


def test_a_flat_curve_promises_nothing() -> None:
    curve = learning_curve_from_answers(answers([0.1, 0.1, 0.1, 0.1]), SIZES, 1000, np.arange(4000))
    assert all(gain.low <= gain.gain < 0.001 for gain in curve.gains)


def test_an_error_of_zero_cannot_fall() -> None:
    curve = learning_curve_from_answers(np.ones((4, 50), bool), SIZES, 50, np.arange(50))
    assert [(gain.gain, gain.high) for gain in curve.gains] == [(0.0, 0.0)] * 2


def test_copies_of_a_photo_do_not_narrow_the_interval() -> None:
    few = answers([0.3, 0.2, 0.16, 0.12], photos=60)
    alone = learning_curve_from_answers(few, SIZES, 60, np.arange(60))
    copied = learning_curve_from_answers(np.repeat(few, 20, axis=1), SIZES, 1200, np.repeat(np.arange(60), 20))
    width = [curve.gains[0].high - curve.gains[0].low for curve in (alone, copied)]
    assert width[1] == pytest.approx(width[0], rel=0.2)
    assert copied.groups == 60
    assert copied.points[0].low < alone.points[0].low + 0.03


def test_scatter_around_the_curve_widens_the_interval() -> None:
    smooth = learning_curve_from_answers(answers([0.3, 0.22, 0.17, 0.13]), SIZES, 1000, np.arange(4000))
    rough = learning_curve_from_answers(answers([0.3, 0.18, 0.21, 0.13]), SIZES, 1000, np.arange(4000))
    assert rough.gains[0].high - rough.gains[0].low > 2 * (smooth.gains[0].high - smooth.gains[0].low)


def test_the_same_answers_give_the_same_curve_and_survive_json() -> None:
    right = answers([0.3, 0.2, 0.15, 0.12], photos=200)
    curve = learning_curve_from_answers(right, SIZES, 200, np.arange(200))
    assert learning_curve_from_answers(right, SIZES, 200, np.arange(200)) == curve
    assert from_json(LearningCurve, to_json(curve), "curve") == curve


@pytest.mark.parametrize(
    ("rows", "sizes", "code"),
    [
        (4, SIZES[:3], "TP5190"),
        (2, SIZES[:2], "TP5191"),
        (3, (200.0, 100.0, 400.0), "TP5191"),
        (3, (0, 1, 2), "TP5191"),
    ],
)
def test_points_that_are_no_curve_are_refused(rows: int, sizes: tuple[float, ...], code: str) -> None:
    with pytest.raises(BadInput) as error:
        learning_curve_from_answers(np.ones((rows, 5), bool), sizes, 5, np.arange(5))
    assert error.value.code == code
