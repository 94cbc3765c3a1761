"""Evaluations over all photos, from scores that are made up."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from trtpoets.core.types import Precision
from trtpoets.judge.all_photos import AllPhotos, PhotosToCount, ScoredFile, all_photos_from_scores
from trtpoets.judge.cross_fit import CrossFitConfig, folds_of_photos

LABELS = ("ant", "bee", "cow")


def counted(
    photos: int, folds: bool = True, copies: int = 1, unlabelled: int = 0, class_sizes: Sequence[int] = ()
) -> PhotosToCount:
    """Photos of three classes; the last third are test photos. `unlabelled` of them have an unknown label."""
    groups = np.arange(photos) // copies
    truth = np.repeat(np.arange(3), class_sizes) if class_sizes else groups % 3
    truth[photos - unlabelled :] = -1
    hashes = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(photos)]
    uses = ["test" if number >= 2 * photos // 3 else "training" for number in range(photos)]
    divided = folds_of_photos(truth, groups, hashes, CrossFitConfig()) if folds else None
    return PhotosToCount(truth, groups, uses, LABELS, divided)


def scores(answers: np.ndarray) -> np.ndarray:
    """Scores with these answers; the answer to an unknown label is the first one."""
    content = np.full((len(answers), len(LABELS)), 0.1, np.float32)
    content[np.arange(len(answers)), np.maximum(answers, 0)] = 0.8
    return content


def scored(
    photos: PhotosToCount, calibration: int = 0, changed: int = 0, changed_in_calibration: int = 0
) -> ScoredFile:
    """int8.onnx, calibrated with the first photos; it changes the first answers outside and inside of these."""
    answers = np.maximum(photos.truth, 0).copy()
    moved = [*range(changed_in_calibration), *range(calibration, calibration + changed)]
    answers[moved] = (answers[moved] + 1) % 3
    rows = np.arange(len(answers))
    return ScoredFile(
        "int8.onnx",
        "0" * 64,
        Precision.INT8,
        "that of FP32, for each fold",
        scores(answers),
        rows < calibration,
        np.ones(len(rows), bool),
    )


def all_photos(
    photos: int,
    calibration: int = 0,
    changed: int = 0,
    changed_in_calibration: int = 0,
    copies: int = 1,
    class_sizes: Sequence[int] = (),
) -> AllPhotos:
    """The evaluation of FP32, which is always right, and of int8.onnx."""
    content = counted(photos, copies=copies, class_sizes=class_sizes)
    file = scored(content, calibration, changed, changed_in_calibration)
    return all_photos_from_scores(scores(content.truth), [file], content, CrossFitConfig(), "photos")
