"""Bottlenecks: each photo's features once, in order, whatever happens in between."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.photos import make_photo, photo_folder
from tests.support.workers import OtherProcesses
from trtpoets.core import images, verified_files
from trtpoets.core.decoded_photos import DecodedStore
from trtpoets.core.errors import BadInput, BadPhoto, RunFailed
from trtpoets.core.fine_tuning import Distortions
from trtpoets.core.images import photo_to_array
from trtpoets.core.types import Photo, Preprocess
from trtpoets.train import bottlenecks
from trtpoets.train.bottlenecks import bottlenecks_from_photos, feature_caches_in
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder
from trtpoets.train.distortions import Variant
from trtpoets.train.near_copies.thumbnails import ThumbnailCache


class Means:
    """Mean colours of the photo's quarters: features that tell photos apart, and are easily checked."""

    def __init__(self, key: str = "means", parallel: int = 2, preprocess: Preprocess | None = None) -> None:
        self.key = key
        self.width = 12
        self.parallel = parallel
        self.preprocess = preprocess or Preprocess(16, 16, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
        self.seen = 0
        self.batches: list[int] = []
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        with self._lock:
            self.seen += len(photos)
            self.batches.append(len(photos))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        quarters = photos.reshape(len(photos), 2, 8, 2, 8, 3).mean(axis=(2, 4), dtype=np.float32)
        with self._lock:
            self.at_once -= 1
        return quarters.reshape(len(photos), 12)


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Photo, ...]:
    folder = photo_folder(tmp_path / "photos", {"roses": 20, "tulips": 17})
    return tuple(dataset_from_folder(folder, DatasetConfig(30, 30)).photos)


def expected(photos: tuple[Photo, ...], extractor: Means) -> np.ndarray:
    fresh = Means(preprocess=extractor.preprocess)
    return np.concatenate([fresh(photo_to_array(photo.path, extractor.preprocess)[None]) for photo in photos])


@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_features_come_in_the_order_of_the_photos(
    photos: tuple[Photo, ...], tmp_path: Path, parallel: int, batch_size: int
) -> None:
    extractor = Means(parallel=parallel)
    rows = bottlenecks_from_photos(photos, extractor, tmp_path / "store", batch_size)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected(photos, extractor), rtol=1e-6)
    assert extractor.seen == 37
    assert max(extractor.batches) == min(batch_size, 37)
    assert extractor.most_at_once <= parallel


@pytest.mark.parametrize(("parallel", "largest"), [(1, 32), (2, 4)])
def test_batches_suit_the_extractor(photos: tuple[Photo, ...], tmp_path: Path, parallel: int, largest: int) -> None:
    extractor = Means(parallel=parallel)
    bottlenecks_from_photos(photos, extractor, tmp_path / "store")
    assert max(extractor.batches) == largest


def test_distorted_variants_have_caches_of_their_own(photos: tuple[Photo, ...], tmp_path: Path) -> None:
    extractor, flips = Means(), Distortions(flip_left_right=True)
    usual = bottlenecks_from_photos(photos, extractor, tmp_path / "store")
    first = [
        bottlenecks_from_photos(photos, extractor, tmp_path / "store", variant=Variant(flips, 0, n)) for n in (0, 1)
    ]
    assert extractor.seen == 3 * 37
    assert not np.array_equal(first[0], first[1])
    for rows in first:
        mirrored = (rows != usual).any(axis=1)
        assert 8 < mirrored.sum() < 29
        left_and_right = usual.reshape(-1, 2, 2, 3)[:, :, ::-1].reshape(-1, 12)
        np.testing.assert_allclose(rows[mirrored], left_and_right[mirrored], rtol=1e-5)
    again = bottlenecks_from_photos(photos, extractor, tmp_path / "store", variant=Variant(flips, 0, 1))
    np.testing.assert_array_equal(again, first[1])
    np.testing.assert_array_equal(bottlenecks_from_photos(photos, extractor, tmp_path / "store"), usual)
    assert extractor.seen == 3 * 37


def test_each_content_is_computed_once(photos: tuple[Photo, ...], tmp_path: Path) -> None:
    extractor = Means()
    first = bottlenecks_from_photos(photos, extractor, tmp_path / "store")
    twice = (*reversed(photos), *photos)
    again = bottlenecks_from_photos(twice, extractor, tmp_path / "store")
    assert np.array_equal(again, np.concatenate([first[::-1], first]))
    assert extractor.seen == 37
    other = Means(key="other")
    bottlenecks_from_photos(twice, other, tmp_path / "store")
    assert other.seen == 37
    assert len(feature_caches_in(tmp_path / "store")) == 2


def test_copies_and_renamed_photos_are_not_computed_again(photos: tuple[Photo, ...], tmp_path: Path) -> None:
    extractor = Means()
    first = bottlenecks_from_photos(photos, extractor, tmp_path / "store")
    folder = photos[0].path.parent.parent
    shutil.move(folder, tmp_path / "moved")
    moved = dataset_from_folder(tmp_path / "moved", DatasetConfig(30, 30)).photos
    assert np.array_equal(bottlenecks_from_photos(moved, extractor, tmp_path / "store"), first)
    assert extractor.seen == 37


def test_other_preprocessing_gives_other_bottlenecks(photos: tuple[Photo, ...], tmp_path: Path) -> None:
    plain = Means()
    cropped = Means(preprocess=Preprocess(16, 16, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), crop_fraction=0.5))
    bottlenecks_from_photos(photos, plain, tmp_path / "store")
    rows = bottlenecks_from_photos(photos, cropped, tmp_path / "store")
    assert cropped.seen == 37
    np.testing.assert_allclose(rows, expected(photos, cropped), rtol=1e-6)


def test_a_killed_run_goes_on_where_it_was(photos: tuple[Photo, ...], tmp_path: Path) -> None:
    extractor = Means()

    def interrupt(task: str, done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bottlenecks_from_photos(photos, extractor, tmp_path / "store", 5, interrupt)
    stored = feature_caches_in(tmp_path / "store")[0].photos
    assert stored == 20
    fresh = Means()
    rows = bottlenecks_from_photos(photos, fresh, tmp_path / "store", 5)
    assert fresh.seen == 17
    np.testing.assert_allclose(rows, expected(photos, extractor), rtol=1e-6)


def test_damaged_rows_are_computed_again(photos: tuple[Photo, ...], tmp_path: Path) -> None:
    first = bottlenecks_from_photos(photos, Means(), tmp_path / "store")
    features = feature_caches_in(tmp_path / "store")[0].path / "features"
    content = bytearray(features.read_bytes())
    content[100] ^= 1
    content[1000] ^= 1
    features.write_bytes(content)
    extractor = Means()
    assert np.array_equal(bottlenecks_from_photos(photos, extractor, tmp_path / "store"), first)
    assert extractor.seen == 2


def test_progress_counts_what_is_computed(photos: tuple[Photo, ...], tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    bottlenecks_from_photos(photos[:7], Means(), tmp_path / "store")
    bottlenecks_from_photos(photos, Means(), tmp_path / "store", 10, lambda *state: seen.append(state))
    assert seen == [("bottlenecks", done, 30) for done in (0, 10, 20, 30)]
    bottlenecks_from_photos(photos, Means(), tmp_path / "store", 10, lambda *state: seen.append(state))
    assert len(seen) == 4


def test_a_photo_that_changed_is_noticed(photos: tuple[Photo, ...], tmp_path: Path) -> None:
    make_photo(4, 99).save(photos[30].path)
    with raises(BadPhoto, "TP1014", photos[30].path.name) as caught:
        bottlenecks_from_photos(photos, Means(), tmp_path / "store", 4)
    assert caught.value.hint == "run the same command again"
    photos[30].path.unlink()
    with raises(BadPhoto, "TP1125", photos[30].path.name):
        bottlenecks_from_photos(photos, Means(), tmp_path / "store", 4)
    assert feature_caches_in(tmp_path / "store")[0].photos >= 28


def test_what_a_network_may_not_give(photos: tuple[Photo, ...], tmp_path: Path) -> None:
    class Wrong(Means):
        def __call__(self, photos: np.ndarray) -> np.ndarray:
            return super().__call__(photos)[:, :5]

    class Nan(Means):
        def __call__(self, photos: np.ndarray) -> np.ndarray:
            features = super().__call__(photos)
            features[1, 3] = np.nan
            return features

    with raises(RunFailed, "TP2003", "float32", "(4, 5)", "(4, 12)"):
        bottlenecks_from_photos(photos, Wrong(), tmp_path / "store")
    with raises(RunFailed, "TP2004", photos[1].path):
        bottlenecks_from_photos(photos, Nan(), tmp_path / "store")
    assert feature_caches_in(tmp_path / "store") == ()
    with raises(BadInput, "TP2002", "0"):
        bottlenecks_from_photos(photos, Means(), tmp_path / "store", 0)


def test_no_photos(tmp_path: Path) -> None:
    assert bottlenecks_from_photos((), Means(), tmp_path / "store").shape == (0, 12)


@pytest.mark.parametrize(("limit", "decoded"), [(1 << 20, 37), (36 * 16 * 16 * 3, 74)])
def test_photos_are_decoded_once_in_a_command_if_all_can_be_kept(
    photos: tuple[Photo, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, decoded: int
) -> None:
    monkeypatch.setattr(verified_files, "_MOMENT_NS", 0)  # the photos were written a moment ago
    store = DecodedStore(limit)
    monkeypatch.setattr(bottlenecks, "decoded_store", lambda: store)
    counts: list[str] = []
    original = images.photo_to_array

    def counted(photo: Photo, preprocess: Preprocess, out: np.ndarray | None = None) -> np.ndarray:
        counts.append(photo.sha256)
        return original(photo, preprocess, out)

    monkeypatch.setattr(images, "photo_to_array", counted)
    for key in ("first network", "second network"):
        extractor = Means(key)
        rows = bottlenecks_from_photos(photos, extractor, tmp_path / "cache", batch_size=8)
        assert np.array_equal(rows, expected(photos, extractor))
    assert len(counts) == decoded


class Colours:
    """An extractor that can be pickled: the mean colour."""

    key, width, parallel = "colours", 3, 2
    preprocess = Preprocess(16, 16, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        return photos.mean(axis=(1, 2), dtype=np.float32)


def test_other_workers_give_the_same_bytes(photos: tuple[Photo, ...], tmp_path: Path) -> None:
    workers = OtherProcesses()
    here, there = (ThumbnailCache(tmp_path / place, Colours.preprocess) for place in ("here", "there"))
    expected = bottlenecks_from_photos(photos, Colours(), tmp_path / "here", pixel_rows=here)
    rows = bottlenecks_from_photos(photos, Colours(), tmp_path / "there", pixel_rows=there, workers=workers)
    assert rows.tobytes() == expected.tobytes()
    assert workers.items == 10  # batches of 4 of the 37 photos
    for photo in photos:
        photo.path.unlink()  # the thumbnails are stored
    assert there.of(photos).tobytes() == here.of(photos).tobytes()
    bottlenecks_from_photos(photos, Colours(), tmp_path / "there", workers=workers)
    assert workers.items == 10


def test_mapped_rows_have_the_same_values(
    photos: tuple[Photo, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = (*photos, *photos[:5])
    expected = bottlenecks_from_photos(twice, Means(), tmp_path / "a")
    monkeypatch.setattr("trtpoets.train.row_file.IN_MEMORY", 0)
    monkeypatch.setattr("trtpoets.train.bottlenecks._RELEASED", 100)
    assert np.array_equal(bottlenecks_from_photos(twice, Means(), tmp_path / "b"), expected)
    assert np.array_equal(bottlenecks_from_photos(twice, Means(), tmp_path / "a"), expected)
