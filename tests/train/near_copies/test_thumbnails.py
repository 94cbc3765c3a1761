"""Thumbnails of photos."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.support.near_copies import scene
from trtpoets.core.errors import BadPhoto
from trtpoets.core.types import Photo, Preprocess, Split
from trtpoets.train.near_copies.thumbnails import ThumbnailCache


def test_thumbnails_are_kept_by_content(tmp_path: Path) -> None:
    photos = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        scene(number).save(path)
        photos.append(Photo(path, "a", Split.TRAIN, hashlib.sha256(path.read_bytes()).hexdigest()))
    preprocess = Preprocess(96, 96, (1, 1, 1), (0, 0, 0))
    first = ThumbnailCache(tmp_path / "store", preprocess).of([*photos, photos[0]])
    assert first.shape == (4, 64, 64)
    assert first.dtype == np.uint8
    assert (first[0] == first[3]).all()
    assert (first[0] != first[1]).any()
    for photo in photos:
        photo.path.unlink()
    assert (ThumbnailCache(tmp_path / "store", preprocess).of(photos) == first[:3]).all()
    with pytest.raises(BadPhoto):
        ThumbnailCache(tmp_path / "store", Preprocess(64, 64, (1, 1, 1), (0, 0, 0))).of(photos)
