"""Learning curve: the accuracy that more training photos would bring, extrapolated from heads trained on fewer.

The error of a classifier falls with the number n of its training photos about as a + b * n^-c (Hestness et al., 2017,
"Deep learning scaling is predictable, empirically"; Viering and Loog, 2022, "The shape of learning curves: a review",
who compare such models). The error is measured for several n, with the same cross-fitting as in `judge.cross_fit`;
a and b, at least 0, are fitted by least squares for several exponents c. Nothing in a handful of points decides between
the exponents, so that the prediction is the mean over all of them, and its interval covers them.

More photos of one class only change two things: the heads know more about the class, and they answer it more often,
because it has a larger share of the training photos. The second takes answers from the other classes. It needs no
extrapolation: heads are trained in which the photos of the class count as if there were twice as many. Of these photos
shares are left out, and the remaining ones count for them, so that the classes keep their shares. What is fitted is
the effect of the number of photos alone. The other classes limit what more photos of one class can bring, so that its
curve is steeper: the exponents are larger.

The interval of a gain has three sources: the photos that the answers were counted on (a bootstrap over independent
groups), the exponent (drawn anew in each repetition), and the photos that happened to be in the smaller training sets
(the deviations of the points from the fitted curve). That for more photos of a class has a fourth one: a head that is
trained on other photos gives other answers, of which some are right and some wrong by chance. As many are assumed to
change, at present and with more photos, as between the measured heads. `benchmarks/learning_curve.py` measures how
often the intervals hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Sequence

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import OPTIONAL
from trtpoets.judge.clustered import share_interval
from trtpoets.judge.statistics import redrawn_means

SHARES = (0.125, 0.25, 0.5, 1.0)
"""The shares of the training photos that heads are trained on."""

CLASS_SHARES = (0.25, 0.5, 1.0)
"""The shares of the training photos of a class that heads are trained on."""

CLASS_FACTOR = 2.0
"""How many times as many photos of a class the expected changes are for."""

_EXPONENTS = np.array([0.15, 0.25, 0.35, 0.5, 0.7, 1.0])

_CLASS_EXPONENTS = np.array([0.5, 1.0, 1.5])

_REPETITIONS = 1000


@dataclass(frozen=True)
class CurvePoint:
    """The cross-fitted accuracy, 0..1, of heads trained on `photos` photos on average, with its 95 % interval."""

    photos: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class ExpectedGain:
    """The change of accuracy, as a share, expected from `factor` times as many photos, with its 95 % interval.

    `photos` is the number of all photos that would then be needed.
    """

    factor: float
    photos: int
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassCurve:
    """The learning curve of a class, and what more photos of this class only are expected to bring.

    `photos` is the number of its photos in the run, `more` that of the additional ones. The `accuracy` of a point is
    the recall of the class by heads that are trained on a share of all photos, and its `photos` are those of the class.
    `recall_gain` is the expected change of its recall, `accuracy_gain` that of the accuracy on the photos of the run.
    `skipped` is the reason why nothing is expected; both are then None.
    """

    label: str
    photos: int
    points: tuple[CurvePoint, ...] = ()
    more: int = 0
    recall_gain: ExpectedGain | None = field(default=None, metadata=OPTIONAL)
    accuracy_gain: ExpectedGain | None = field(default=None, metadata=OPTIONAL)
    skipped: str | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class LearningCurve:
    """The points of a learning curve by ascending number of photos, and what more photos are expected to bring.

    `groups` is the number of independent groups that the answers were counted on. `classes` are the curves of the
    classes. `skipped` is the reason why there is no curve; there are then no points.
    """

    points: tuple[CurvePoint, ...] = ()
    gains: tuple[ExpectedGain, ...] = ()
    groups: int = 0
    classes: tuple[ClassCurve, ...] = ()
    skipped: str | None = field(default=None, metadata=OPTIONAL)


def learning_curve_from_answers(
    right: np.ndarray,
    trained_on: Sequence[float],
    photos: int,
    groups: Sequence[int] | np.ndarray,
    factors: Sequence[float] = (2.0, 4.0),
    seed: int = 0,
) -> LearningCurve:
    """Return the curve of right answers, bool (P, N), for P numbers of training photos and the same N photos.

    `trained_on` are these P numbers, ascending: how many photos the heads were trained on, on average. `photos` is the
    number of photos of the run, which `factors` multiply. `groups`, int (N,), are the independent groups. Raises
    BadInput where the arguments do not match, or there are fewer than three points.
    """
    answers = np.asarray(right, bool)
    sizes = np.asarray(trained_on, np.float64)
    group_of = np.asarray(groups)
    if answers.ndim != 2 or answers.shape != (len(sizes), len(group_of)):
        raise BadInput(
            f"answers of shape {answers.shape} do not match {len(sizes)} sizes and {len(group_of)} photos",
            hint="give one row for each size and one group for each photo",
            code="TP5190",
        )
    if len(sizes) < 3 or not len(group_of) or sizes[0] <= 0 or (np.diff(sizes) <= 0).any():
        raise BadInput(
            f"a learning curve needs photos and at least three ascending sizes, not {[float(size) for size in sizes]}",
            hint="measure the accuracy with at least three numbers of training photos",
            code="TP5191",
        )
    points = curve_points(answers, trained_on, group_of)
    random = np.random.default_rng(seed)
    repeated = _repeated_errors(answers, group_of, random)
    measured = 1 - answers.mean(axis=1)
    scatter = math.sqrt(2) * _scatter(sizes, measured, _EXPONENTS)  # of the last point, and of the predicted one
    gains = []
    for factor in factors:
        expected = float(_gains(sizes, measured[None], factor, _EXPONENTS).mean())
        drawn = _one_each(_gains(sizes, repeated, factor, _EXPONENTS), random)
        drawn = drawn + scatter * random.standard_normal(len(drawn))
        low, high = np.quantile(drawn, [0.025, 0.975])
        gains.append(ExpectedGain(factor, round(factor * photos), expected, float(low), float(high)))
    return LearningCurve(points, tuple(gains), len(np.unique(group_of)))


def curve_points(
    right: np.ndarray, trained_on: Sequence[float], groups: Sequence[int] | np.ndarray
) -> tuple[CurvePoint, ...]:
    """Return a point for each row of right answers, bool (P, N), of heads trained on `trained_on` photos on average."""
    return tuple(
        CurvePoint(round(float(size)), float(row.mean()), *share_interval(row, groups))
        for size, row in zip(trained_on, right)
    )


def class_gains(
    before: np.ndarray, right: np.ndarray, own: np.ndarray, photos: int, groups: np.ndarray, seed: int = 0
) -> tuple[ExpectedGain, ExpectedGain]:
    """Return the changes of recall and of accuracy that CLASS_FACTOR times as many photos of a class would bring.

    `before`, bool (N,), are the right answers of heads trained on the photos as they are. `right`, bool (P, N), are
    those of heads in which the photos of the class count CLASS_FACTOR times, trained on CLASS_SHARES of them. `own`,
    bool (N,), marks the photos of the class, of which there are `photos` in the run; `groups`, int (N,), are the
    independent groups.
    """
    return (
        _class_gain(before[own], right[:, own], photos, groups[own], seed),
        _class_gain(before, right, photos, groups, seed),
    )


def _class_gain(before: np.ndarray, right: np.ndarray, photos: int, groups: np.ndarray, seed: int) -> ExpectedGain:
    """Return the change of the share of right answers: by the larger share of the class, and by its new photos."""
    random, shares = np.random.default_rng(seed), np.array(CLASS_SHARES)

    def changes(errors: np.ndarray) -> np.ndarray:
        of_counting = errors[:, :1] - errors[:, -1:]
        return np.asarray(of_counting + _gains(shares, errors[:, 1:], CLASS_FACTOR, _CLASS_EXPONENTS))

    answers = np.concatenate([before[None], right])
    measured = 1 - answers.mean(axis=1)
    changed = float((before != right[-1]).mean())
    deviation = math.hypot(
        math.sqrt(2) * _scatter(shares, measured[1:], _CLASS_EXPONENTS), math.sqrt(2 * changed / len(np.unique(groups)))
    )
    drawn = _one_each(changes(_repeated_errors(answers, groups, random)), random)
    drawn = drawn + deviation * random.standard_normal(len(drawn))
    low, high = np.quantile(drawn, [0.025, 0.975])
    expected = float(changes(measured[None]).mean())
    return ExpectedGain(CLASS_FACTOR, round(CLASS_FACTOR * photos), expected, float(low), float(high))


def _one_each(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a value of each row of `values`, (R, C), drawn at random: (R,)."""
    return np.asarray(values[np.arange(len(values)), random.integers(values.shape[1], size=len(values))])


def _repeated_errors(answers: np.ndarray, groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the errors at each point for resampled groups (the cluster bootstrap): float64 (repetitions, P)."""
    _, place = np.unique(groups, return_inverse=True)
    sizes = np.bincount(place).astype(np.float64)
    wrong = [np.bincount(place, weights=~row) for row in answers]
    kinds, counts = np.unique(np.stack([*wrong, sizes], axis=1), axis=0, return_counts=True)
    return redrawn_means(kinds, counts, random, _REPETITIONS)


def _fits(sizes: np.ndarray, errors: np.ndarray, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return b, relative to the largest size, and the fitted errors at the sizes, of error = a + b * n^-c.

    `errors` are float64 (R, P). The results are (R, C) and (R, C, P), for C exponents.
    """
    slopes, fitted = [], []
    for exponent in exponents:
        x = (sizes / sizes[-1]) ** -exponent
        spread = x - x.mean()
        b = (errors * spread).sum(axis=1) / (spread**2).sum()
        a = errors.mean(axis=1) - b * x.mean()
        b = np.where(a < 0, (errors * x).sum(axis=1) / (x * x).sum(), b)
        a = np.where(a < 0, 0.0, a)
        a, b = np.where(b < 0, errors.mean(axis=1), a), np.where(b < 0, 0.0, b)
        slopes.append(b)
        fitted.append(a[:, None] + b[:, None] * x)
    return np.stack(slopes, axis=1), np.stack(fitted, axis=1)


def _gains(sizes: np.ndarray, errors: np.ndarray, factor: float, exponents: np.ndarray) -> np.ndarray:
    """Return the fall of the fitted error from the largest size to `factor` times it: float64 (R, C)."""
    slopes, _ = _fits(sizes, errors, exponents)
    return slopes * (1 - factor**-exponents)


def _scatter(sizes: np.ndarray, errors: np.ndarray, exponents: np.ndarray) -> float:
    """Return the standard deviation of the measured errors, (P,), around the fitted curve that is closest to them."""
    _, fitted = _fits(sizes, errors[None], exponents)
    squares = ((fitted[0] - errors) ** 2).sum(axis=1)
    return float(np.sqrt(squares.min() / max(len(sizes) - 2, 1)))
