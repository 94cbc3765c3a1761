"""Measures how the cross-fitted accuracy of a run depends on the number of training photos, also of one class only.

The folds are those of `cross_fit`. Each head is trained again on shares of its own training photos. Independent groups
of photos are drawn at random for each fold and class, so that the effect of the drawn photos averages out over the
folds. The photos by which the training step is selected, and those that are classified, stay the same. The last point
of the curve is therefore the accuracy over all photos.

For the curves of single classes many more heads are needed, so that these are `compressed_heads`, in at most
_CLASS_FOLDS folds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.progress import Progress, silent
from trtpoets.judge.learning_curve import (
    CLASS_FACTOR,
    CLASS_SHARES,
    SHARES,
    ClassCurve,
    LearningCurve,
    class_gains,
    curve_points,
    learning_curve_from_answers,
)
from trtpoets.train.compressed_heads import CompressedFeatures, compressed, heads_from_weights
from trtpoets.train.joint_heads import heads_from_parts, scores_by_fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.core.training import HeadConfig
    from trtpoets.judge.cross_fit import Folds
    from trtpoets.train.head import Head

_MIN_PER_CLASS = 3
"""The fewest training photos of a class in a point of the curve: with fewer, accuracy depends on which these are."""

_MIN_BATCH = 16
"""The smallest batch size of the training of a point."""

_MAX_OUTPUTS = 1000
"""With more outputs (folds x classes) there is no curve: each of its points takes as long as the cross-fitted heads."""

_CLASS_FOLDS = 5
"""The most folds for the curves of single classes."""

_MAX_CLASS_WORK = 3_000_000
"""The most products of photos and outputs for the curves of single classes: about 4 s of one core. The demo has 0.6
million."""


def learning_curve_of(
    features: np.ndarray,
    truth: np.ndarray,
    groups: np.ndarray,
    folds: Folds,
    right: np.ndarray,
    labels: Sequence[str],
    config: HeadConfig,
    progress: Progress = silent,
) -> LearningCurve:
    """Return the learning curve of photos with `features`, float32 (N, D), labels `truth` and `groups`, int (N,).

    `right`, bool (N,), tells which photos the heads of `folds` classified correctly after training on all their photos.
    `labels` are the names of the classes. Photos that are in no fold are trained on and not counted. If there are too
    few photos for three points, or too many classes, or the training of a head diverges, the result has only
    `skipped`, the reason.
    """
    classes = int(truth.max()) + 1
    if folds.count * classes > _MAX_OUTPUTS:
        return LearningCurve(skipped=f"{classes:,} classes would take too long")
    full = [folds.rows(number)[:2] for number in range(folds.count)]
    smallest_class = min(int(np.min(np.bincount(truth[rows], minlength=classes))) for rows, _ in full)
    shares = [share for share in SHARES if share < 1 and share * smallest_class >= _MIN_PER_CLASS]
    if len(shares) < 2:
        return LearningCurve(
            skipped=f"the smallest class has {smallest_class} training photos in a fold, which is too few"
        )
    random = np.random.default_rng(config.seed)
    orders = [by_group(rows, groups, random) for rows, _ in full]
    sizes, correct = [], []
    for share in shares:
        parts = [(_drawn(order, truth, share), selecting) for order, (_, selecting) in zip(orders, full, strict=True)]
        heads = _heads(features, truth, parts, classes, config, share, progress)
        if heads is None:
            return LearningCurve(skipped="the training of a head diverged")
        sizes.append(_mean_size(parts))
        correct.append(scores_by_fold(heads, features, folds.fold_of, classes).argmax(axis=1) == truth)
    sizes.append(_mean_size(full))
    correct.append(right)
    counted = folds.fold_of >= 0
    answers = np.stack(correct)
    curve = learning_curve_from_answers(answers[:, counted], sizes, len(truth), groups[counted], seed=config.seed)
    measured = _Measured(features, truth, groups, folds, labels, config)
    return replace(curve, classes=_class_curves(measured, answers, [*shares, 1.0], progress))


@dataclass(frozen=True, eq=False)
class _Measured:
    """What the curves of single classes are measured on."""

    features: np.ndarray
    truth: np.ndarray
    groups: np.ndarray
    folds: Folds
    labels: Sequence[str]
    config: HeadConfig


def _class_curves(
    measured: _Measured, answers: np.ndarray, shares: Sequence[float], progress: Progress
) -> tuple[ClassCurve, ...]:
    """Return the curve of each class. `answers`, bool (P, N), are those of heads trained on `shares` of all photos."""
    truth, groups, folds = measured.truth, measured.groups, measured.folds
    curves = {}
    for label in np.unique(truth).tolist():
        own = (truth == label) & (folds.fold_of >= 0)
        photos, name = int((truth == label).sum()), measured.labels[label]
        if label in folds.always_trained or not own.any():
            curves[label] = ClassCurve(name, photos, skipped="it has fewer than three independent groups of photos")
            continue
        trained = [_trained_on(truth, folds, label, share) for share in shares]
        curves[label] = ClassCurve(name, photos, curve_points(answers[:, own], trained, groups[own]))
    missed = {label: int((~answers[-1] & (truth == label)).sum()) for label in curves if not curves[label].skipped}
    chosen = sorted(missed, key=lambda label: -missed[label])
    fold_count = min(folds.count, _CLASS_FOLDS)
    work_of_class = len(truth) * fold_count * len(CLASS_SHARES) * len(measured.labels)
    affordable = _MAX_CLASS_WORK // work_of_class
    for label in chosen[affordable:]:
        curves[label] = replace(curves[label], skipped="only classes with more errors were examined, to limit the time")
    curves |= _with_gains(measured, {label: curves[label] for label in chosen[:affordable]}, progress)
    return tuple(curves.values())


def _with_gains(measured: _Measured, curves: dict[int, ClassCurve], progress: Progress) -> dict[int, ClassCurve]:
    """Return these curves with the expected changes from more photos of each of the classes."""
    folds, counted = measured.folds, measured.folds.fold_of >= 0
    fold_count = min(folds.count, _CLASS_FOLDS)
    fold_of = np.where(counted, folds.fold_of * fold_count // folds.count, -1)
    trained = np.stack([fold_of != fold for fold in range(fold_count)])
    random = np.random.default_rng(measured.config.seed)
    orders = [by_group(np.flatnonzero(rows), measured.groups, random) for rows in trained]
    result = {}
    photos, before = None, None
    for number, (label, curve) in enumerate(curves.items()):
        smallest = min(int((measured.truth[rows] == label).sum()) for rows in trained)
        if smallest * CLASS_SHARES[0] < _MIN_PER_CLASS:
            result[label] = replace(curve, skipped=f"{smallest} training photos in a fold are too few")
            continue
        photos = photos or compressed(measured.features, measured.config.seed)
        if before is None:
            plain = [class_weights(measured.truth, rows, measured.config) for rows in orders]
            before = _right_answers(measured, photos, plain, fold_of)
        weights = [
            class_weights(measured.truth, rows, measured.config, label, share)
            for share in CLASS_SHARES
            for rows in orders
        ]
        right = _right_answers(measured, photos, weights, fold_of)
        progress("learning curves of classes", number + 1, len(curves))
        if before is None or right is None:
            result[label] = replace(curve, skipped="the training of a head diverged")
            continue
        own = measured.truth[counted] == label
        recall, accuracy = class_gains(
            before[0][counted], right[:, counted], own, curve.photos, measured.groups[counted], measured.config.seed
        )
        more = recall.photos - curve.photos
        result[label] = replace(curve, more=more, recall_gain=recall, accuracy_gain=accuracy)
    return result


def _right_answers(
    measured: _Measured, photos: CompressedFeatures, weights: Sequence[np.ndarray], fold_of: np.ndarray
) -> np.ndarray | None:
    """Return the right answers of heads trained with `weights`, (N,) each, one for each fold in turn: bool (P, N)."""
    classes, fold_count = len(measured.labels), int(fold_of.max()) + 1
    heads = heads_from_weights(photos, measured.truth, classes, np.stack(weights), measured.config)
    if heads is None:
        return None
    sets = [heads[start : start + fold_count] for start in range(0, len(heads), fold_count)]
    scores = [scores_by_fold(own, photos.values, fold_of, classes) for own in sets]
    return np.stack([rows.argmax(axis=1) == measured.truth for rows in scores])


def class_weights(
    truth: np.ndarray, order: np.ndarray, config: HeadConfig, label: int | None = None, share: float = 1.0
) -> np.ndarray:
    """Return what each photo counts, float32 (N,), if the photos `order` are trained on; the others count 0.

    Of the photos of class `label` only the first `share` count, as much as CLASS_FACTOR times all of them. With class
    weights, the sum of each class is the same, whatever its number of photos.
    """
    weights = np.zeros(len(truth), np.float32)
    weights[order] = 1
    if config.class_weights:
        totals = np.bincount(truth, weights=weights)
        weights[order] = 1 / totals[truth[order]]
    if label is not None:
        own = order[truth[order] == label]
        taken = own[: max(round(share * len(own)), 1)]
        total = weights[own].sum() * (1 if config.class_weights else CLASS_FACTOR)
        weights[own] = 0
        weights[taken] = total / len(taken)
    return weights


def _trained_on(truth: np.ndarray, folds: Folds, label: int, share: float) -> float:
    """Return the mean number of photos of a class in a `share` of the training photos of a fold."""
    return share * float(np.mean([(truth[folds.rows(fold)[0]] == label).sum() for fold in range(folds.count)]))


def _heads(
    features: np.ndarray,
    truth: np.ndarray,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    classes: int,
    config: HeadConfig,
    share: float,
    progress: Progress,
) -> list[Head] | None:
    """Return the heads trained on `parts`, which are a `share` of the training photos; None if a training diverged."""
    # A batch is the same share of the photos as in the full training, so that a step costs the same.
    smaller = replace(config, batch_size=max(round(share * config.batch_size), _MIN_BATCH))
    name = f"learning curve at {100 * share:g} %"
    heads = heads_from_parts(features, truth, parts, classes, smaller, progress, name)
    trained = [head for head in heads if head is not None]
    return trained if len(trained) == len(heads) else None


def by_group(rows: np.ndarray, groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return `rows` in random order, with the photos of an independent group next to each other.

    A share of them then has the same share of groups: more photos would bring new groups, not more copies.
    """
    _, group_of = np.unique(groups[rows], return_inverse=True)
    places = random.permutation(len(np.unique(group_of)))[group_of]
    return np.asarray(rows[np.argsort(places, kind="stable")])


def _drawn(order: np.ndarray, truth: np.ndarray, share: float) -> np.ndarray:
    """Return the first `share` of the photos of each class in `order`, sorted: int64 (n,)."""
    labels = truth[order]
    chosen = [order[labels == label] for label in np.unique(labels)]
    return np.sort(np.concatenate([rows[: max(round(share * len(rows)), 1)] for rows in chosen]))


def _mean_size(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the mean number of training photos of the parts."""
    return float(np.mean([len(rows) for rows, _ in parts]))
