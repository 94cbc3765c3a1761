"""Trains a head on the features of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.labels import label_indices
from trtpoets.core.progress import Progress, silent
from trtpoets.core.training import HeadConfig, Training
from trtpoets.core.types import Split
from trtpoets.train.head import Head, head_from_bottlenecks

if TYPE_CHECKING:
    from pathlib import Path

    from trtpoets.train.dataset import Dataset


def head_from_features(
    dataset: Dataset,
    features: np.ndarray,
    config: HeadConfig,
    logs: Path | None = None,
    progress: Progress = silent,
) -> tuple[Head, Training]:
    """Train a head on a dataset. `features`, float32 (N, D), are those of all its photos, in order."""
    labels = indices_of_labels(dataset)
    train_rows, validation = (rows_in(dataset, split) for split in (Split.TRAIN, Split.VALIDATION))
    return head_from_bottlenecks(
        features[train_rows],
        labels[train_rows],
        features[validation],
        labels[validation],
        len(dataset.labels),
        config,
        logs=logs,
        progress=progress,
    )


def indices_of_labels(dataset: Dataset) -> np.ndarray:
    """Return the index of each photo's label: int64 (N,)."""
    return np.array(label_indices((photo.label for photo in dataset.photos), dataset.labels))


def rows_in(dataset: Dataset, split: Split) -> np.ndarray:
    """Return the indices of the photos of a split: int64 (n,)."""
    return np.array([row for row, photo in enumerate(dataset.photos) if photo.split is split], dtype=np.int64)
