"""A head is trained on the features of the photos of a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.mapped import mapped_copy
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Photo, Split
from trtpoets.pipeline import head_training
from trtpoets.pipeline.head_training import head_from_features, indices_of_labels, rows_in
from trtpoets.train.dataset import Dataset, DatasetConfig
from trtpoets.train.photo_table import table_of

LABELS = ("daisy", "rose")
SPLITS = (Split.TRAIN, Split.VALIDATION, Split.TRAIN, Split.TEST)


def dataset(count: int = 24) -> Dataset:
    """Photos of two labels in turn, whose splits are those of SPLITS in turn, for each pair of photos."""
    photos = tuple(
        Photo(Path(f"{n}.jpg"), LABELS[n % 2], SPLITS[n // 2 % len(SPLITS)], f"{n:064x}") for n in range(count)
    )
    return Dataset(Path("photos"), LABELS, table_of(photos, Path("photos")), (), (), (), DatasetConfig())


def test_rows_and_labels_follow_the_photos() -> None:
    photos = dataset(8)
    assert indices_of_labels(photos).tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert rows_in(photos, Split.TRAIN).tolist() == [0, 1, 4, 5]
    assert rows_in(photos, Split.TEST).tolist() == [6, 7]
    empty = rows_in(dataset(2), Split.TEST)
    assert (empty.shape, empty.dtype) == ((0,), np.int64)


def test_the_head_is_trained_on_training_photos_and_compared_on_validation_photos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos = dataset()
    labels = indices_of_labels(photos)
    features = np.arange(len(labels), dtype=np.float32)[:, None]
    given: list[object] = []
    monkeypatch.setattr(head_training, "head_from_bottlenecks", lambda *arguments, **_: given.extend(arguments))
    head_from_features(photos, features, HeadConfig(seed=3))
    for rows, (values, classes) in (
        (rows_in(photos, Split.TRAIN), given[:2]),
        (rows_in(photos, Split.VALIDATION), given[2:4]),
    ):
        np.testing.assert_array_equal(values, features[rows])
        np.testing.assert_array_equal(classes, labels[rows])
    assert given[4:] == [2, HeadConfig(seed=3)]


@pytest.mark.parametrize("copied", [True, False])
def test_mapped_features_give_the_same_head(copied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not copied:
        monkeypatch.setattr("trtpoets.train.head_loop._COPIED_BYTES", 0)
    photos = dataset(400)
    features = np.random.default_rng(2).normal(size=(400, 16)).astype(np.float32)
    config = HeadConfig(steps=60, batch_size=20)
    head, training = head_from_features(photos, features, config)
    mapped_head, mapped_training = head_from_features(photos, mapped_copy(features, tmp_path), config)
    assert np.array_equal(head.weights, mapped_head.weights) and np.array_equal(head.bias, mapped_head.bias)
    assert training.validation_cross_entropy == mapped_training.validation_cross_entropy
