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

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtpoets.core.types import Photo, Preprocess

_BATCH = 64


class ThumbnailCache:
    """Thumbnails uint8 (SIDE, SIDE) of photos preprocessed by `preprocess`, in the feature cache in `folder`.

    `add` computes them from pixels that are decoded already; `of` decodes the photos that are missing.
    """

    def __init__(self, folder: Path, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        # The rows of a feature cache are float32: four pixels per number.
        self._cache = FeatureCache(folder, f"thumbnails of {SIDE}:{preprocess.hash}", SIDE * SIDE // 4)

    def add(self, photos: Sequence[Photo], pixels: np.ndarray) -> None:
        """Cache the thumbnails of photos, computed from their pixels, uint8 (N, H, W, 3). Raises StorageFailed."""
        rows = np.stack([thumbnail_of(photo_pixels) for photo_pixels in pixels])
        self._cache.append([photo.sha256 for photo in photos], rows.reshape(len(rows), -1).view(np.float32))

    def of(self, photos: Sequence[Photo], progress: Progress = silent) -> np.ndarray:
        """Return the thumbnails of photos in their order: uint8 (N, SIDE, SIDE).

        Raises BadPhoto if a photo cannot be read, PhotoChanged if it changed, StorageFailed.
        """
        rows = np.zeros((len(photos), SIDE * SIDE // 4), dtype=np.float32)
        cached = self._cache.fill([photo.sha256 for photo in photos], rows)
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


def thumbnail_of(pixels: np.ndarray) -> np.ndarray:
    """Return the grey thumbnail of a photo: uint8 (H, W, 3) -> uint8 (SIDE, SIDE)."""
    from PIL import Image

    grey = Image.fromarray(pixels).convert("L")
    return np.array(grey.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.uint8)
