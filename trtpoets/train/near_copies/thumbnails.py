"""Caches small grey thumbnails of photos, by content, for the search for near-copies."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.images import photo_to_array, usable_cores
from trtpoets.core.progress import Progress, silent
from trtpoets.core.threads import map_ahead
from trtpoets.train.feature_cache import FeatureCache
from trtpoets.train.near_copies.alignment import SIDE
from trtpoets.train.photo_table import sha256s_of
from trtpoets.train.row_file import empty_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trtpoets.core.types import Photo, Preprocess

_BATCH = 64


class ThumbnailCache:
    """Thumbnails uint8 (SIDE, SIDE) of photos preprocessed by `preprocess`, in the feature cache in `folder`.

    `of` decodes the photos that are missing. `of_pixels` and `append` serve those who have decoded photos already.
    """

    def __init__(self, folder: Path, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        self._folder = folder
        # The rows of a feature cache are float32: four pixels per number.
        self._cache = FeatureCache(folder, f"thumbnails of {SIDE}:{preprocess.hash}", SIDE * SIDE // 4)

    @property
    def of_pixels(self) -> Callable[[np.ndarray], np.ndarray]:
        """The function that returns the rows of photos for `append`, from their pixels, uint8 (N, H, W, 3)."""
        return thumbnail_rows

    def append(self, sha256s: Sequence[str], rows: np.ndarray) -> None:
        """Add rows of `of_pixels` to the cache. Raises StorageFailed."""
        self._cache.append(sha256s, rows)

    def of(self, photos: Sequence[Photo], progress: Progress = silent) -> np.ndarray:
        """Return the thumbnails of photos in their order: uint8 (N, SIDE, SIDE).

        Raises BadPhoto if a photo cannot be read, PhotoChanged if it changed, StorageFailed.
        """
        rows = empty_rows(len(photos), SIDE * SIDE // 4, np.float32, self._folder)
        cached = self._cache.fill(sha256s_of(photos), rows)
        thumbnails = rows.view(np.uint8).reshape(len(photos), SIDE, SIDE)
        places: dict[str, list[int]] = {}
        for place in np.flatnonzero(~cached).tolist():
            places.setdefault(photos[place].sha256, []).append(place)
        todo = [photos[equal_photos[0]] for equal_photos in places.values()]
        threads = usable_cores()
        pending: list[Photo] = []
        with closing(map_ahead(self._decoded, todo, threads, 4 * threads)) as results:
            for done, (photo, thumbnail) in enumerate(zip(todo, results, strict=True), 1):
                thumbnails[places[photo.sha256]] = thumbnail
                pending.append(photo)
                if len(pending) == _BATCH or done == len(todo):
                    lines = [rows[places[other.sha256][0]] for other in pending]
                    self._cache.append([other.sha256 for other in pending], np.stack(lines))
                    pending = []
                progress("thumbnails", done, len(todo))
        return thumbnails

    def _decoded(self, photo: Photo) -> np.ndarray:
        return thumbnail_of(photo_to_array(photo, self._preprocess))


def thumbnail_rows(pixels: np.ndarray) -> np.ndarray:
    """Return the thumbnails of photos as rows of a feature cache: uint8 (N, H, W, 3) -> float32 (N, width)."""
    thumbnails = np.stack([thumbnail_of(photo_pixels) for photo_pixels in pixels])
    return thumbnails.reshape(len(thumbnails), -1).view(np.float32)


def thumbnail_of(pixels: np.ndarray) -> np.ndarray:
    """Return the grey thumbnail of a photo: uint8 (H, W, 3) -> uint8 (SIDE, SIDE)."""
    from PIL import Image

    grey = Image.fromarray(pixels).convert("L")
    return np.array(grey.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.uint8)
