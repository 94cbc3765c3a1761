"""Cross-fitting: divides all photos of a run into folds, so that each photo is classified by a head trained without it.

With `count` folds there are `count` heads. Head k is trained on all folds but two. Its training step is the one with
the lowest cross-entropy on fold k + 1, and it classifies the photos of fold k. All photos of an independent group
(copies, families, shots of one object) are in one fold, and the photos of each class are spread evenly over the folds.

What the numbers estimate (Bates, Hastie, Tibshirani, 2023, "Cross-validation: what does it estimate and how well does
it do it?"): the accuracy over all photos is that which heads trained by this recipe on (count - 2) / count of the
photos have on average. It is not the accuracy of the shipped head, which is one of them; that is what the test photos
estimate. The agreement of INT8 with FP32, and the change of accuracy, are those of the quantised base under such heads.

Heads of different folds share most of their training photos, so the answers are not independent, and no unbiased
estimator of the variance exists (Bengio and Grandvalet, 2004). Nadeau and Bengio (2003) multiply the variance by
1 + count * n_answered / n_trained, which is 2.11 for ten folds. For regularised linear heads that is too much: the
variance of the accuracy was 0.7 to 1.4 times that of independent answers for subsets of 123 and 247 solar cells with
the features of EfficientNet-Lite0 (1.0 to 1.8 times for simulated features), that of the agreement 1.0 to 1.1 times,
and that of the change 1.0 times, since both answers of a pair come from one head. The intervals therefore take a part
of that correction, `ACCURACY_PART` and `AGREEMENT_PART`, and none for the change. It is multiplied by the share of the
photos that a head is trained on, because the heads of few folds share less. The intervals are those of photos in groups
(`judge.clustered`), for a number of photos that is smaller by this factor. `benchmarks/coverage.py` simulates their
coverage.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Sequence

import numpy as np

from trtpoets.core.errors import BadInput

MIN_FOLDS = 3
"""The fewest folds: one to classify, one to select the training step with, and one to train on."""

MIN_PHOTOS = 30
"""With fewer photos nothing is cross-fitted: the heads would differ more than what they measure."""

MAX_OUTPUTS = 400
"""The most outputs (folds x classes) of all heads: with more classes there are fewer folds, to limit the time."""

ACCURACY_PART = 0.5625
"""The part of Nadeau's and Bengio's correction in the intervals of accuracy and recall."""

AGREEMENT_PART = 0.125
"""The part of their correction in the intervals of the agreement."""


@dataclass(frozen=True)
class CrossFitConfig:
    """Settings of cross-fitting: the number of folds (0: none), and the seed that orders the photos."""

    folds: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds and self.folds < MIN_FOLDS:
            raise BadInput(
                f"cross-fitting needs at least {MIN_FOLDS} folds (one to classify, one to select the step, one to "
                f"train on), not {self.folds}",
                hint="give --folds 10, or --folds 0 for the test photos only",
                code="TP5150",
            )


@dataclass(frozen=True, eq=False)
class Folds:
    """The fold of each photo, int64 (N,), from 0 to `count` - 1; -1 for photos that all heads are trained on.

    `always_trained` are the classes whose photos are -1: they have fewer than MIN_FOLDS independent groups. `partial`
    has the number of folds of each class that is not in all of them.
    """

    count: int
    fold_of: np.ndarray
    always_trained: tuple[int, ...] = ()
    partial: tuple[tuple[int, int], ...] = ()

    def rows(self, fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the indices of the photos for head `fold`: to train on, to select its step with, and to classify."""
        selecting = (fold + 1) % self.count
        trained = (self.fold_of != fold) & (self.fold_of != selecting)
        return np.flatnonzero(trained), np.flatnonzero(self.fold_of == selecting), np.flatnonzero(self.fold_of == fold)


def folds_of_photos(
    truth: np.ndarray, groups: Sequence[int] | np.ndarray, sha256: Sequence[str], config: CrossFitConfig
) -> Folds | None:
    """Return the folds of photos with labels `truth`, int (N,), and independent `groups`, int (N,).

    Groups go, in an order that depends on the seed and on the photos' `sha256` only, to the fold with the fewest photos
    of their most frequent label, and among these to that with the fewest photos. So the order of the photos does not
    matter, and a class of n groups is in min(n, count) folds. There are no more folds than groups, and no more than
    `affordable_folds`.

    Returns None if there are fewer than MIN_PHOTOS photos, or if fewer than MIN_FOLDS folds have photos.
    """
    truth, group_of = np.asarray(truth), np.asarray(groups)
    if not len(truth) == len(group_of) == len(sha256):
        raise BadInput(
            f"{len(truth)} labels, {len(group_of)} groups and {len(sha256)} photos do not match",
            hint="give a label and a group for each photo",
            code="TP5151",
        )
    if len(truth) < MIN_PHOTOS:
        return None
    rows, ends = _by_group(group_of, sha256, config.seed)
    count = min(affordable_folds(config.folds, len(np.unique(truth))), len(ends))
    if count < MIN_FOLDS:
        return None
    fold_of = _dealt(truth, rows, ends, count)
    always = _kept_for_training(truth, group_of, fold_of)
    used = np.unique(fold_of[fold_of >= 0])
    if len(used) < MIN_FOLDS:
        return None
    fold_of = np.where(fold_of >= 0, np.searchsorted(used, fold_of), -1)
    present = {label: len(_folds_with(truth, fold_of, label)) for label in np.unique(truth).tolist()}
    partial = tuple((label, folds) for label, folds in present.items() if label not in always and folds < len(used))
    return Folds(len(used), fold_of, always, partial)


def affordable_folds(folds: int, classes: int) -> int:
    """Return `folds`, or fewer, but at least MIN_FOLDS, if the heads would have more than MAX_OUTPUTS outputs."""
    return min(folds, max(MAX_OUTPUTS // max(classes, 1), MIN_FOLDS))


def variance_factor(folds: int, part: float) -> float:
    """Return the factor by which shared training photos enlarge the variance of a mean over all photos.

    Nadeau's and Bengio's correction is folds / (folds - 1); (folds - 2) / folds is the share of the photos that a head
    is trained on, and `part`, 0 to 1, the part that is taken. 1 for no folds: then all answers are of one network.
    """
    return 1 + part * (folds - 2) / (folds - 1) if folds else 1.0


def _by_group(group_of: np.ndarray, sha256: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the photos group by group, int64 (N,), and where each group ends in them, int64 (G,).

    Large groups are first. The order does not depend on that of the photos.
    """
    _, group_of, sizes = np.unique(group_of, return_inverse=True, return_counts=True)
    rows, ends = np.argsort(group_of, kind="stable"), np.cumsum(sizes)

    def place(size: int, end: int) -> bytes:
        lowest = min(sha256[row] for row in rows[end - size : end].tolist())
        return hashlib.sha256(f"{seed}:{lowest}".encode()).digest()

    places = np.fromiter(map(place, sizes.tolist(), ends.tolist()), "S32", len(sizes))
    order = np.lexsort((places, -sizes))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return np.argsort(rank[group_of], kind="stable"), np.cumsum(sizes[order])


def _dealt(truth: np.ndarray, rows: np.ndarray, ends: np.ndarray, count: int) -> np.ndarray:
    """Return the fold of each photo, int64 (N,). `rows` and `ends` are those of `_by_group`."""
    fold_of = np.full(len(truth), -1, dtype=np.int64)
    of_label: dict[int, np.ndarray] = {label: np.zeros(count, np.int64) for label in np.unique(truth).tolist()}
    totals = np.zeros(count, np.int64)
    start = 0
    for end in ends.tolist():
        group, start = rows[start:end], end
        labels = Counter(truth[group].tolist())
        main = min(labels, key=lambda label: (-labels[label], label))
        fold = int(np.lexsort((totals, of_label[main]))[0])
        fold_of[group] = fold
        totals[fold] += len(group)
        for label, photos in labels.items():
            of_label[label][fold] += photos
    return fold_of


def _kept_for_training(truth: np.ndarray, group_of: np.ndarray, fold_of: np.ndarray) -> tuple[int, ...]:
    """Set the folds of classes that are in fewer than MIN_FOLDS folds to -1, and return these classes.

    Such a class would lack training photos in some head. Groups stay together, so that this may leave another class
    with too few folds.
    """
    always: set[int] = set()
    while True:
        small = {
            label
            for label in np.unique(truth).tolist()
            if label not in always and len(_folds_with(truth, fold_of, label)) < MIN_FOLDS
        }
        if not small:
            return tuple(sorted(always))
        always |= small
        fold_of[np.isin(group_of, group_of[np.isin(truth, sorted(small))])] = -1


def _folds_with(truth: np.ndarray, fold_of: np.ndarray, label: int) -> np.ndarray:
    """Return the folds that have photos of a label."""
    folds = fold_of[truth == label]
    return np.unique(folds[folds >= 0])
