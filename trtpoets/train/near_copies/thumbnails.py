"""Small grey thumbnails of photos, kept by content beside the bottlenecks: what the search for copies looks at."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.images import photo_to_array, usable_cores
from trtpoets.core.progress import Progress, silent
from trtpoets.core.threads import map_ahead
from trtpoets.train.feature_cache import Store
from trtpoets.train.near_copies.alignment import SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtpoets.core.types import Photo, Preprocess

_BATCH = 64


class Thumbnails:
    """Thumbnails uint8 (SIDE, SIDE) of photos as `preprocess` makes them, in the store in `folder`.

    `keep` takes them from pixels that somebody decoded anyway; `of` decodes what is lacking.
    """

    def __init__(self, folder: Path, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        # A store's rows are float32: four pixels each.
        self._store = Store(folder, f"thumbnails of {SIDE}:{preprocess.hash}", SIDE * SIDE // 4)

    def keep(self, photos: Sequence[Photo], pixels: np.ndarray) -> None:
        """Store the thumbnails of photos from their pixels, uint8 (N, H, W, 3). Raises StorageFailed."""
        rows = np.stack([thumbnail_of(each) for each in pixels])
        self._store.append([photo.sha256 for photo in photos], rows.reshape(len(rows), -1).view(np.float32))

    def of(self, photos: Sequence[Photo], progress: Progress = silent) -> np.ndarray:
        """The thumbnails of photos in their order: uint8 (N, SIDE, SIDE).

        Raises BadPhoto when a photo can't be read, PhotoChanged when it is no longer what it was, StorageFailed.
        """
        rows = np.zeros((len(photos), SIDE * SIDE // 4), dtype=np.float32)
        found = self._store.fill([photo.sha256 for photo in photos], rows)
        thumbnails = rows.view(np.uint8).reshape(len(photos), SIDE, SIDE)
        places: dict[str, list[int]] = {}
        for place in np.flatnonzero(~found).tolist():
            places.setdefault(photos[place].sha256, []).append(place)
        todo = [photos[same[0]] for same in places.values()]
        threads = usable_cores()
        waiting: list[Photo] = []
        with closing(map_ahead(self._decoded, todo, threads, 4 * threads)) as results:
            for done, (photo, thumbnail) in enumerate(zip(todo, results, strict=True), 1):
                thumbnails[places[photo.sha256]] = thumbnail
                waiting.append(photo)
                if len(waiting) == _BATCH or done == len(todo):
                    lines = [rows[places[each.sha256][0]] for each in waiting]
                    self._store.append([each.sha256 for each in waiting], np.stack(lines))
                    waiting = []
                progress("thumbnails", done, len(todo))
        return thumbnails

    def _decoded(self, photo: Photo) -> np.ndarray:
        return thumbnail_of(photo_to_array(photo, self._preprocess))


def thumbnail_of(pixels: np.ndarray) -> np.ndarray:
    """Grey, SIDE pixels a side: uint8 (H, W, 3) -> uint8 (SIDE, SIDE)."""
    from PIL import Image

    grey = Image.fromarray(pixels).convert("L")
    return np.array(grey.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.uint8)
