"""Recall of each class, and the confusion matrix, from true labels and answers."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from trtpoets.judge.clustered import share_interval


def recall_of_classes(right: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> dict[str, float | None]:
    """Return the recall of each label: the share of its photos that are `right`; None for a label without photos.

    `right` is bool (N,), `truth` the index of each photo's label, int64 (N,).
    """
    photos = np.bincount(truth, minlength=len(labels))
    correct = np.bincount(truth[right], minlength=len(labels))
    return {label: int(correct[i]) / int(photos[i]) if photos[i] else None for i, label in enumerate(labels)}


def recall_intervals(
    right: np.ndarray, truth: np.ndarray, groups: np.ndarray, labels: Sequence[str], variance_factor: float = 1.0
) -> dict[str, tuple[float, float] | None]:
    """Return the 95 % interval of each label's recall; None without photos.

    `groups` and `variance_factor` as in `share_interval`.
    """
    order = np.argsort(truth, kind="stable")
    ends = np.cumsum(np.bincount(truth, minlength=len(labels)))[:-1]
    intervals: dict[str, tuple[float, float] | None] = {}
    for label, hits, group_of in zip(labels, np.split(right[order], ends), np.split(groups[order], ends)):
        interval = share_interval(hits, group_of, variance_factor=variance_factor) if len(hits) else None
        intervals[label] = (interval.low, interval.high) if interval else None
    return intervals


def confusion_of(truth: np.ndarray, answers: np.ndarray, classes: int) -> tuple[tuple[int, int, int], ...]:
    """Return (label index, answer index, photos) for each cell with photos; `truth` and `answers` are int64 (N,)."""
    cells, counts = np.unique(truth * classes + answers, return_counts=True)
    return tuple((int(cell) // classes, int(cell) % classes, int(count)) for cell, count in zip(cells, counts))
