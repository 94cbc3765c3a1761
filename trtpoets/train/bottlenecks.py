"""Computes bottlenecks, the features of the frozen base, once per photo content and extractor."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trtpoets.core.decoded_photos import DecodedStore, decoded_store
from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.images import decode_once
from trtpoets.core.long_lists import LongList
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import Photo, Preprocess
from trtpoets.train.feature_cache import (
    FeatureCache,
    FeatureCacheInfo,
    feature_caches_in,
    prune_feature_caches,
)
from trtpoets.train.photo_table import sha256s_of
from trtpoets.train.row_file import empty_rows, release
from trtpoets.train.workers import LIMITED, Threads, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trtpoets.train.distortions import Variant

__all__ = [
    "Extractor",
    "FeatureCacheInfo",
    "bottleneck_cache",
    "bottlenecks_from_photos",
    "feature_caches_in",
    "prune_feature_caches",
]

_BATCH_ON_A_CORE = 4
"""Batch size if each call runs on one core: larger batches exceed the CPU cache (MobileNetV2: 16 is 8 % slower)."""

_BATCH_ON_ALL = 32
"""Batch size if a call uses the GPU or all cores: smaller batches do not occupy them fully."""

_APPENDED, _APPEND_SECONDS = 64, 1.0
"""Features are added to the cache after so many photos, or so many seconds: on a network disk each addition takes
several round trips."""

_RELEASED = 2**26
"""A mapped array is released each time that so many bytes of it were written."""


class Extractor(Protocol):
    """The frozen base of a network as a function from photos to features."""

    @property
    def key(self) -> str:
        """A name and a hash of network, weights and preprocessing: all that features depend on besides the photo."""

    @property
    def width(self) -> int:
        """Number of features per photo."""

    @property
    def preprocess(self) -> Preprocess:
        """Preprocessing of the photos."""

    @property
    def parallel(self) -> int:
        """Number of simultaneous calls: one per core if a call uses one core, 1 if it uses the whole machine."""

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, width)."""


class PixelRows(Protocol):
    """A cache of other values that are computed from the pixels which the network sees, such as thumbnails."""

    @property
    def of_pixels(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function of a module, uint8 (N, H, W, 3) -> float32 (N, any)."""

    def append(self, sha256s: Sequence[str], rows: np.ndarray) -> None:
        """Add rows to the cache."""


def bottleneck_cache(extractor: Extractor, folder: Path, variant: Variant | None = None) -> FeatureCache:
    """Return the cache in `folder` of an extractor's features, or of those of the distorted photos of `variant`."""
    key = f"{extractor.key}:{extractor.preprocess.hash}"
    return FeatureCache(folder, key if variant is None else f"{key}:{variant.key}", extractor.width)


def bottlenecks_from_photos(
    photos: Sequence[Photo],
    extractor: Extractor,
    cache_folder: Path,
    batch_size: int | None = None,
    progress: Progress = silent,
    pixel_rows: PixelRows | None = None,
    variant: Variant | None = None,
    workers: Workers | None = None,
) -> np.ndarray:
    """Return the features of `photos` in their order: float32 (N, width), owned by the caller.

    With `variant` they are those of the distorted photos, which have a cache of their own. Features that need much
    memory are mapped from a temporary file (`row_file`).

    Features in the cache in `cache_folder` are read; the others are computed by `workers` and added to it, so that an
    interrupted run loses little work. By default they are computed in this process: each thread decodes a batch and
    runs the network on it (at most `extractor.parallel` threads at once), so that on a CPU decoding and network share
    the cores without waiting for each other. `progress` counts the computed photos. `pixel_rows`, if given, are
    computed from the same pixels.

    Raises BadPhoto if a photo cannot be read, PhotoChanged if it changed since the dataset was read, RunFailed if the
    network does not return finite features of the right shape, StorageFailed.
    """
    if batch_size is None:
        batch_size = _BATCH_ON_A_CORE if extractor.parallel > 1 or workers else _BATCH_ON_ALL
    if batch_size < 1:
        raise BadInput(f"the batch size must be at least 1, not {batch_size}", hint="use for example 32", code="TP2002")
    cache = bottleneck_cache(extractor, cache_folder, variant)
    rows = empty_rows(len(photos), extractor.width, np.float32, cache_folder)
    cached = cache.fill(sha256s_of(photos), rows)
    place_of: dict[str, int] = {}
    equal: list[tuple[int, int]] = []
    for place in np.flatnonzero(~cached).tolist():
        first = place_of.setdefault(photos[place].sha256, place)
        if first != place:
            equal.append((place, first))
    todo = list(place_of.values())
    size = batch_size

    def batch_at(number: int) -> list[Photo]:
        return [photos[place] for place in todo[number * size : (number + 1) * size]]

    batches = LongList(-(-len(todo) // size), batch_at)
    store = decoded_store() if workers is None else None
    # Later steps of the command use the same photos. Of more than fit none are kept: their features need the memory.
    keep = store is not None and store.holds(len(todo), extractor.preprocess)
    function = _BatchFunction(extractor, variant, None if pixel_rows is None else pixel_rows.of_pixels, store, keep)
    pending = _Pending(cache, pixel_rows)
    done = 0
    if todo:
        progress("bottlenecks", 0, len(todo))  # the time of the first batch counts
    try:
        with closing((workers or Threads(extractor.parallel)).map(function, batches)) as results:
            for batch, (features, others) in zip(batches, results, strict=True):
                pending.add(batch, features, others)
                rows[todo[done : done + len(batch)]] = features
                done += len(batch)
                if done * extractor.width * 4 % _RELEASED < features.nbytes:
                    release(rows)
                progress("bottlenecks", done, len(todo))
    finally:
        pending.store()
    for place, first in equal:
        rows[place] = rows[first]
    return rows


@dataclass(frozen=True)
class _BatchFunction:
    """A function of a batch of photos: its features, and the rows that `of_pixels` computes.

    Pixels in `store` are used, and with `keep` those of other photos are added. Without it the function can be pickled.
    """

    extractor: Extractor
    variant: Variant | None
    of_pixels: Callable[[np.ndarray], np.ndarray] | None
    store: DecodedStore | None = None
    keep: bool = False

    def __call__(self, batch: Sequence[Photo]) -> tuple[np.ndarray, np.ndarray | None]:
        pixels = self._pixels(batch)
        others = None if self.of_pixels is None else self.of_pixels(pixels)
        with LIMITED.get():
            return _checked(self.extractor(pixels), batch, self.extractor.width), others

    def _pixels(self, batch: Sequence[Photo]) -> np.ndarray:
        preprocess = self.extractor.preprocess
        if self.variant is not None:
            return np.stack([self.variant.pixels(photo, preprocess) for photo in batch])
        pixels = np.empty((len(batch), preprocess.height, preprocess.width, 3), np.uint8)
        for photo, row in zip(batch, pixels, strict=True):
            decode_once(photo, preprocess, self.store, row, self.keep)
        return pixels


class _Pending:
    """Rows that are computed but not in the caches yet."""

    def __init__(self, cache: FeatureCache, pixel_rows: PixelRows | None) -> None:
        self._cache, self._pixel_rows = cache, pixel_rows
        self._names: list[str] = []
        self._features: list[np.ndarray] = []
        self._others: list[np.ndarray] = []
        self._stored = time.monotonic()

    def add(self, batch: Sequence[Photo], features: np.ndarray, others: np.ndarray | None) -> None:
        """Add the rows of a batch, and store all if it is time to."""
        self._names += [photo.sha256 for photo in batch]
        self._features.append(features)
        self._others += [] if others is None else [others]
        if len(self._names) >= _APPENDED or time.monotonic() - self._stored >= _APPEND_SECONDS:
            self.store()

    def store(self) -> None:
        """Add all rows to the caches. Raises StorageFailed."""
        if not self._names:
            return
        names, features, others = self._names, np.concatenate(self._features), self._others
        self._names, self._features, self._others = [], [], []
        if self._pixel_rows is not None:
            self._pixel_rows.append(names, np.concatenate(others))
        self._cache.append(names, features)
        self._stored = time.monotonic()


def _checked(features: np.ndarray, batch: Sequence[Photo], width: int) -> np.ndarray:
    """Return features after checking dtype, shape and finiteness. Raises RunFailed."""
    if features.dtype != np.float32 or features.shape != (len(batch), width):
        raise RunFailed(
            f"the network returned features of {features.dtype} {features.shape} instead of float32 "
            f"{(len(batch), width)}",
            code="TP2003",
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise RunFailed(
            f"the network returned a feature that is not finite for {batch[int(np.argmin(finite))].path}",
            hint="check the weights, or use others with --weights FILE",
            code="TP2004",
        )
    return features
