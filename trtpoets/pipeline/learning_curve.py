"""Measures how the cross-fitted accuracy of a run depends on the number of training photos.

The folds are those of `cross_fit`. Each head is trained again on shares of its own training photos, drawn at random for
each fold and class, so that the photos that happen to be drawn average out over the folds. The photos that choose the
step, and those that are answered, stay the same: the last point of the curve is the accuracy over all photos.
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

_LEAST = 3
"""The fewest training photos of a class in a point of the curve: with fewer, accuracy depends on which these are."""

_LEAST_BATCH = 16

_MOST_OUTPUTS = 1000
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

    `right`, bool (N,), are the right answers of the heads of `folds` that were trained on all their photos. Photos that
    are in no fold are trained on and not counted. The result only has `skipped`, the reason, where there are too few
    photos for three points, or too many classes.
    """
    classes = int(truth.max()) + 1
    if folds.count * classes > _MOST_OUTPUTS:
        return LearningCurve(skipped=f"{classes:,} classes would take too long")
    answered = folds.fold_of >= 0
    full = [folds.rows(number)[:2] for number in range(folds.count)]
    random = np.random.default_rng(config.seed)
    orders = [random.permutation(rows) for rows, _ in full]
    least = min(int(np.min(np.bincount(truth[rows], minlength=classes))) for rows, _ in full)
    shares = [share for share in SHARES if share < 1 and share * least >= _LEAST]
    if len(shares) < 2:
        return LearningCurve(skipped=f"the smallest class has {least} training photos in a fold, which is too few")
    sizes, answers = [], []
    for share in shares:
        parts = [(_drawn(order, truth, share), chooses) for order, (_, chooses) in zip(orders, full, strict=True)]
        # A batch is the same share of the photos as in the full training, so that a step costs the same.
        own_config = replace(config, batch_size=max(round(share * config.batch_size), _LEAST_BATCH))
        heads = heads_from_parts(
            features, truth, parts, classes, own_config, progress, f"learning curve at {100 * share:g} %"
        )
        trained = [head for head in heads if head is not None]
        if len(trained) < len(heads):
            return LearningCurve(skipped="the training of a head diverged")
        sizes.append(_mean_size(parts))
        answers.append(scores_by_fold(trained, features, folds.fold_of, classes).argmax(axis=1) == truth)
    sizes.append(_mean_size(full))
    answers.append(right)
    counted = np.stack(answers)[:, answered]
    return learning_curve_from_answers(counted, sizes, len(truth), groups[answered], seed=config.seed)


def _drawn(order: np.ndarray, truth: np.ndarray, share: float) -> np.ndarray:
    """Return the first `share` of the photos of each class in `order`, sorted: int64 (n,)."""
    labels = truth[order]
    chosen = [order[labels == label] for label in np.unique(labels)]
    return np.sort(np.concatenate([rows[: max(round(share * len(rows)), 1)] for rows in chosen]))


def _mean_size(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    return float(np.mean([len(rows) for rows, _ in parts]))
