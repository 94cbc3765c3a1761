"""Measures how the cross-fitted accuracy of a run depends on the number of training photos.

The folds are those of `cross_fit`. Each head is trained again on shares of its own training photos. They are drawn at
random for each fold and class, so that the effect of the drawn photos averages out over the folds. The photos by which
the training step is selected, and those that are classified, stay the same. The last point of the curve is therefore
the accuracy over all photos.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.progress import Progress, silent
from trtpoets.judge.learning_curve import SHARES, LearningCurve, learning_curve_from_answers
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


def learning_curve_of(
    features: np.ndarray,
    truth: np.ndarray,
    groups: np.ndarray,
    folds: Folds,
    right: np.ndarray,
    config: HeadConfig,
    progress: Progress = silent,
) -> LearningCurve:
    """Return the learning curve of photos with `features`, float32 (N, D), labels `truth` and `groups`, int (N,).

    `right`, bool (N,), tells which photos the heads of `folds` classified correctly after training on all their photos.
    Photos that are in no fold are trained on and not counted. If there are too few photos for three points, or too many
    classes, or the training of a head diverges, the result has only `skipped`, the reason.
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
    orders = [random.permutation(rows) for rows, _ in full]
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
    return learning_curve_from_answers(
        np.stack(correct)[:, counted], sizes, len(truth), groups[counted], seed=config.seed
    )


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


def _drawn(order: np.ndarray, truth: np.ndarray, share: float) -> np.ndarray:
    """Return the first `share` of the photos of each class in `order`, sorted: int64 (n,)."""
    labels = truth[order]
    chosen = [order[labels == label] for label in np.unique(labels)]
    return np.sort(np.concatenate([rows[: max(round(share * len(rows)), 1)] for rows in chosen]))


def _mean_size(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the mean number of training photos of the parts."""
    return float(np.mean([len(rows) for rows, _ in parts]))
