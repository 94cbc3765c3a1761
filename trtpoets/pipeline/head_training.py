"""Trains a head on the features of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.progress import Progress, silent
from trtpoets.core.training import HeadConfig, Training
from trtpoets.core.types import Split
from trtpoets.train.head import Head, head_from_bottlenecks
from trtpoets.train.row_file import rows_at

if TYPE_CHECKING:
    from pathlib import Path

    from trtpoets.train.dataset import Dataset


def head_from_features(
    dataset: Dataset,
    features: np.ndarray,
    config: HeadConfig,
    logs: Path | None = None,
    progress: Progress = silent,
    variants: np.ndarray | None = None,
) -> tuple[Head, Training]:
    """Train a head on a dataset. `features`, float32 (N, D), are those of all its photos, in order.

    `variants`, float32 (V, n, D), are those of distorted variants of its training photos, which are added to these.
    """
    labels = indices_of_labels(dataset)
    train_rows, validation = (rows_in(dataset, split) for split in (Split.TRAIN, Split.VALIDATION))
    train, copies = rows_at(features, train_rows), 1
    if variants is not None:
        train, copies = np.concatenate([features[train_rows], *variants]), 1 + len(variants)
    return head_from_bottlenecks(
        train,
        np.tile(labels[train_rows], copies),
        rows_at(features, validation),
        labels[validation],
        len(dataset.labels),
        config,
        logs=logs,
        progress=progress,
    )


def indices_of_labels(dataset: Dataset) -> np.ndarray:
    """Return the index of each photo's label: int64 (N,)."""
    return dataset.photos.label_indices(dataset.labels)


def rows_in(dataset: Dataset, *splits: Split) -> np.ndarray:
    """Return the indices of the photos of a split, or of several: int64 (n,), ascending."""
    return dataset.photos.rows_in(*splits)
