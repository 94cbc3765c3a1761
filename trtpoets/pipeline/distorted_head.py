"""Chooses the distortions with which a head is trained, and computes the bottlenecks of distorted photos.

Each training photo has a few distorted variants, whose bottlenecks are cached. `choose_distortions` tries distortions
one by one: for each fold of the training and validation photos, heads are trained with and without variants of their
training photos, and answer the undistorted photos of the fold. A distortion that improves the answers by more than
chance is kept. Test photos are not used.
"""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.fine_tuning import DistortedTraining, Distortions, DistortionTrial
from trtpoets.core.formatting import many, points
from trtpoets.core.progress import Progress, about, silent
from trtpoets.core.types import Split
from trtpoets.judge.cross_fit import CrossFitConfig, Folds, folds_of_photos
from trtpoets.judge.paired import paired_result
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.pipeline.head_training import indices_of_labels, rows_in
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.distortions import Variant
from trtpoets.train.joint_heads import heads_from_parts, scores_by_fold
from trtpoets.train.near_copies.grouping import groups_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.core.training import HeadConfig
    from trtpoets.train.bottlenecks import Extractor
    from trtpoets.train.dataset import Dataset

VARIANTS = 4
"""Distorted variants of each training photo, in addition to the photo itself."""

_TRIED_VARIANTS = 2
"""Variants in a trial of `choose_distortions`."""

CANDIDATES = (
    Distortions(flip_left_right=True),
    Distortions(random_crop=10, random_scale=10),
    Distortions(random_brightness=20),
    Distortions(random_rotation=10),
)
"""The distortions that are tried."""

_log = logging.getLogger(__name__)


def variants_of_features(
    dataset: Dataset,
    rows: np.ndarray,
    extractor: Extractor,
    distortions: Distortions,
    count: int,
    seed: int,
    progress: Progress = silent,
) -> np.ndarray:
    """Return the features of `count` distorted variants of the photos `rows`: float32 (count, n, D), cached."""
    photos = [dataset.photos[row] for row in rows.tolist()]
    variants = [Variant(distortions, seed, number) for number in range(count)]
    folder = bottleneck_folder()
    features = []
    for number, variant in enumerate(variants, 1):
        own_progress = about(f"{distortions}: variant {number} of {count}", progress)
        features.append(
            bottlenecks_from_photos(photos, extractor, folder, progress=own_progress, variant=variant),
        )
    return np.stack(features)


def choose_distortions(
    dataset: Dataset, features: np.ndarray, extractor: Extractor, config: HeadConfig, progress: Progress = silent
) -> DistortedTraining:
    """Try each of CANDIDATES, and return the combination of those that improve a head by more than chance.

    `features`, float32 (N, D), are those of all photos of the dataset. The limit of a p-value is 0.05 divided by the
    number of trials (Bonferroni).
    """
    rows = rows_in(dataset, Split.TRAIN, Split.VALIDATION)
    photos = dataset.photos.at(rows)
    truth, groups = indices_of_labels(dataset)[rows], np.asarray(groups_of(photos, dataset))
    folds = folds_of_photos(truth, groups, photos.sha256s, CrossFitConfig())
    if folds is None:
        return DistortedTraining(Distortions(), 0, why="there are too few photos to tell whether distortions help")
    undistorted, counted = features[rows], folds.fold_of >= 0
    before = _right(undistorted, None, truth, folds, config, progress)
    trials = []
    for candidate in CANDIDATES:
        variants = variants_of_features(dataset, rows, extractor, candidate, _TRIED_VARIANTS, config.seed, progress)
        after = _right(undistorted, variants, truth, folds, config, progress)
        trials.append(DistortionTrial(candidate, paired_result(before[counted], after[counted], groups[counted])))
    proven = [trial.distortions for trial in trials if trial.result.proves(0.05 / len(trials))]
    chosen = _combined(proven)
    why = _why(trials, f"kept: {chosen}" if proven else "none is better by more than chance, so none is kept")
    _log.info("distortions: %s", why)
    return DistortedTraining(chosen, VARIANTS if proven else 0, tuple(trials), why)


def _why(trials: Sequence[DistortionTrial], decision: str) -> str:
    """Return the result of the best trial, and the decision."""
    best = max(trials, key=lambda trial: trial.result.after)
    change = points(best.result.after - best.result.before)
    return (
        f"of {len(trials)} kinds tried on {many(best.result.photos, 'training and validation photo')}, the best is "
        f"{best.distortions} with {change} points (p = {best.result.p_value:.2g}); {decision}"
    )


def _right(
    features: np.ndarray,
    variants: np.ndarray | None,
    truth: np.ndarray,
    folds: Folds,
    config: HeadConfig,
    progress: Progress,
) -> np.ndarray:
    """Return which undistorted photos the head of their fold answers right, bool (n,); none if a training diverged.

    The heads are trained on the photos outside of the fold, and on their distorted `variants`, float32 (count, n, D).
    """
    count, classes = len(features), int(truth.max()) + 1
    copies = 0 if variants is None else len(variants)
    rows = features if variants is None else np.concatenate([features, *variants])
    parts = []
    for fold in range(folds.count):
        trained, chooses, _ = folds.rows(fold)
        parts.append((np.concatenate([trained + copy * count for copy in range(copies + 1)]), chooses))
    heads = heads_from_parts(
        rows, np.tile(truth, copies + 1), parts, classes, config, progress, "trials of distortions"
    )
    if any(head is None for head in heads):
        return np.zeros(count, bool)
    trained_heads = [head for head in heads if head is not None]
    return np.asarray(scores_by_fold(trained_heads, features, folds.fold_of, classes).argmax(axis=1) == truth)


def _combined(kept: list[Distortions]) -> Distortions:
    """Return the combination of several distortions."""
    result = Distortions()
    for one in kept:
        result = replace(result, **{field.name: value for field in fields(one) if (value := getattr(one, field.name))})
    return result
