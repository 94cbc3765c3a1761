"""Distorted photos in the training of a head: what is tried, and what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.photos import photo_folder
from tests.train.test_bottlenecks import Means
from trtpoets.core.fine_tuning import Distortions
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.core.types import Split
from trtpoets.pipeline import distorted_head
from trtpoets.pipeline.distorted_head import CANDIDATES, choose_distortions, variants_of_features
from trtpoets.pipeline.head_training import rows_in
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.dataset import Dataset, DatasetConfig, dataset_from_folder

CONFIG = HeadConfig(steps=60, batch_size=32, learning_rate=0.05, optimizer=Optimizer.ADAM)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = photo_folder(tmp_path_factory.mktemp("photos"), {"roses": 40, "tulips": 40})
    return dataset_from_folder(folder, DatasetConfig(20, 20))


def features_of(dataset: Dataset, folder: Path) -> np.ndarray:
    return bottlenecks_from_photos(dataset.photos, Means(), folder)


def test_variants_are_those_of_the_rows(dataset: Dataset) -> None:
    rows = rows_in(dataset, Split.TRAIN)
    own = Distortions(random_brightness=30)
    variants = variants_of_features(dataset, rows, Means("of rows"), own, 3, 7)
    assert variants.shape == (3, len(rows), 12)
    assert not np.array_equal(variants[0], variants[1])
    fewer = variants_of_features(dataset, rows[:4], Means("of rows"), own, 2, 7)
    np.testing.assert_array_equal(fewer, variants[:2, :4])


def test_what_is_not_better_by_more_than_chance_is_not_kept(dataset: Dataset, tmp_path: Path) -> None:
    extractor = Means("tried")
    chosen = choose_distortions(dataset, features_of(dataset, tmp_path), extractor, CONFIG)
    assert [trial.distortions for trial in chosen.trials] == list(CANDIDATES)
    assert (chosen.variants, chosen.distortions) == (0, Distortions())
    assert chosen.why is not None and "none is better by more than chance" in chosen.why
    used = {split: len(dataset.in_split(split)) for split in Split}
    assert all(trial.result.photos == used[Split.TRAIN] + used[Split.VALIDATION] for trial in chosen.trials)
    assert extractor.seen == 2 * len(CANDIDATES) * (used[Split.TRAIN] + used[Split.VALIDATION])  # no test photo


def test_what_helps_is_kept_together(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that see mirrored or brighter photos are right on all photos, others on every second."""
    helpful = (CANDIDATES[0], CANDIDATES[2])
    calls = iter([None, *CANDIDATES])

    def right(features: np.ndarray, *_: object) -> np.ndarray:
        return np.ones(len(features), bool) if next(calls) in helpful else np.arange(len(features)) % 2 == 0

    monkeypatch.setattr(distorted_head, "_right", right)
    chosen = choose_distortions(dataset, features_of(dataset, tmp_path), Means("kept"), CONFIG)
    assert chosen.distortions == Distortions(flip_left_right=True, random_brightness=20)
    assert chosen.variants == distorted_head.VARIANTS
    assert chosen.why is not None and "kept: flip, brightness 20 %" in chosen.why


def test_a_few_photos_tell_nothing(tmp_path: Path) -> None:
    few = dataset_from_folder(photo_folder(tmp_path / "few", {"roses": 12, "tulips": 12}), DatasetConfig(25, 25))
    chosen = choose_distortions(few, features_of(few, tmp_path), Means("few"), CONFIG)
    assert (chosen.variants, chosen.trials) == (0, ())
    assert chosen.why == "there are too few photos to tell whether distortions help"
