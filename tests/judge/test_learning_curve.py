"""Learning curves: the extrapolation of errors that follow a known curve, and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import from_json, to_json
from trtpoets.judge.learning_curve import (
    ClassCurve,
    LearningCurve,
    class_gains,
    curve_points,
    learning_curve_from_answers,
)

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


def class_answers(recall: list[float], others: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return right answers, bool (P, 4000), of which the first 1,000 are of the class; and which are of the class."""
    own = answers([1 - share for share in recall], 1000, seed=1)
    other = answers([1 - share for share in others], 3000, seed=2)
    return np.concatenate([own, other], axis=1), np.arange(4000) < 1000


def test_more_photos_of_a_class_bring_what_a_larger_share_and_more_knowledge_bring() -> None:
    # 1 - recall at a share s of the photos, which count twice as much as all of them: 0.1 + 0.1 / s
    rows, own = class_answers([0.75, 0.5, 0.7, 0.8], [0.9, 0.87, 0.87, 0.87])
    recall, accuracy = class_gains(rows[0], rows[1:], own, 250, np.arange(4000))
    assert recall.photos == accuracy.photos == 500
    assert recall.gain == pytest.approx(0.05 + 0.05, abs=0.02)
    assert recall.low < 0.1 < recall.high
    assert accuracy.gain == pytest.approx((1000 * 0.1 - 3000 * 0.03) / 4000, abs=0.01)
    assert accuracy.low < accuracy.gain < accuracy.high


def test_the_interval_covers_that_answers_change_by_chance() -> None:
    rows, own = class_answers([0.8] * 4, [0.9] * 4)
    same = class_gains(rows[0], rows[1:], own, 250, np.arange(4000))[1]
    shuffled = np.stack([np.random.default_rng(number).permutation(rows[0]) for number in range(4)])
    changing = class_gains(shuffled[0], shuffled[1:], own, 250, np.arange(4000))[1]
    assert (same.low, same.gain, same.high) == pytest.approx((0, 0, 0), abs=1e-9)
    assert changing.high - changing.low > 0.02


def test_copies_of_a_photo_do_not_narrow_the_interval_of_a_class() -> None:
    random = np.random.default_rng(0)
    few = random.random((4, 100)) > 0.2
    own = np.arange(100) < 50
    alone = class_gains(few[0], few[1:], own, 50, np.arange(100))[1]
    copied = np.repeat(few, 10, axis=1)
    of_copies = class_gains(copied[0], copied[1:], np.repeat(own, 10), 500, np.repeat(np.arange(100), 10))[1]
    assert of_copies.high - of_copies.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_curves_of_classes_survive_json() -> None:
    rows, own = class_answers([0.75, 0.5, 0.7, 0.8], [0.9, 0.87, 0.87, 0.87])
    recall, accuracy = class_gains(rows[0], rows[1:], own, 250, np.arange(4000))
    points = curve_points(rows[1:, own], [60, 125, 250], np.arange(1000))
    curve = LearningCurve(
        points, classes=(ClassCurve("a", 250, points, 250, recall, accuracy), ClassCurve("b", 2, skipped="few"))
    )
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
