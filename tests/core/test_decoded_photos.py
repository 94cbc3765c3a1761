"""A photo of a data set is decoded once in a command, and again when its file changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.photos import photo_folder
from tests.support.tiny import tiny_spec
from trtpoets.core import images, verified_files
from trtpoets.core.decoded_photos import DecodedStore, decoded_store
from trtpoets.core.errors import PhotoChanged
from trtpoets.core.files import sha256_of_file
from trtpoets.core.images import photo_batches
from trtpoets.core.types import Photo, Preprocess, Split
from trtpoets.core.verified_files import verifying_once

PREPROCESS = tiny_spec().preprocess


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Photo]:
    """Photos that count as unchanged from the moment in which they were written."""
    monkeypatch.setattr(verified_files, "_MOMENT_NS", 0)
    root = photo_folder(tmp_path / "photos", {"ant": 3, "bee": 2})
    return [Photo(path, path.parent.name, Split.TRAIN, sha256_of_file(path)) for path in sorted(root.rglob("*.jpg"))]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[Path]]:
    """How often each file is decoded."""
    counts: Counter[Path] = Counter()
    decode = images.photo_to_array

    def counted(photo: Path | Photo, preprocess: Preprocess, out: np.ndarray | None = None) -> np.ndarray:
        counts[photo.path if isinstance(photo, Photo) else photo] += 1
        return decode(photo, preprocess, out)

    monkeypatch.setattr(images, "photo_to_array", counted)
    yield counts


def pixels(photos: list[Photo], batch_size: int = 2) -> np.ndarray:
    return np.concatenate(list(photo_batches(photos, PREPROCESS, batch_size)))


def test_a_photo_is_decoded_once_in_a_command(photos: list[Photo], decoded: Counter[Path]) -> None:
    expected = pixels(photos)
    decoded.clear()
    with verifying_once():
        first = pixels(photos)
        again = pixels(photos[::-1], 3)
        assert set(decoded.values()) == {1}
        first[:] = 0  # what a caller does with its batch is its own
        assert np.array_equal(again[::-1], expected)
        assert np.array_equal(pixels(photos), expected)
    assert decoded_store() is None
    assert np.array_equal(pixels(photos), expected)
    assert set(decoded.values()) == {2}, "nothing is kept after the command"


def test_a_photo_that_changed_is_verified_again(photos: list[Photo]) -> None:
    with verifying_once():
        pixels(photos)
        photos[1].path.write_bytes(photos[2].path.read_bytes())
        with raises(PhotoChanged, "TP1014"):
            pixels(photos)


def test_a_photo_of_another_size_or_without_a_hash_is_decoded(photos: list[Photo], decoded: Counter[Path]) -> None:
    paths = [photo.path for photo in photos]
    with verifying_once():
        pixels(photos)
        list(photo_batches(paths, PREPROCESS, 2))
        list(photo_batches(paths, PREPROCESS, 2))
    assert set(decoded.values()) == {3}


def test_a_photo_that_changed_a_moment_ago_is_not_kept(
    photos: list[Photo], decoded: Counter[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified_files, "_MOMENT_NS", 1 << 62)
    with verifying_once():
        pixels(photos)
        pixels(photos)
    assert set(decoded.values()) == {2}


def test_the_limit(photos: list[Photo]) -> None:
    one = pixels(photos[:1])[0]
    store = DecodedStore(2 * one.nbytes)
    keys = [store.key(photo, PREPROCESS) for photo in photos]
    for key in keys:
        store.add(key, one)
    assert [store.get(key) is not None for key in keys] == [True, True, False, False, False]
    kept = store.get(keys[0])
    assert kept is not None and not kept.flags.writeable
