"""Computes bottlenecks, the features of the frozen base, once per photo content and extractor."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.images import photo_to_array, usable_cores
from trtpoets.core.progress import Progress, silent
from trtpoets.core.threads import map_ahead
from trtpoets.core.types import Photo, Preprocess
from trtpoets.train.feature_cache import (
    FeatureCache,
    FeatureCacheInfo,
    feature_caches_in,
    prune_feature_caches,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trtpoets.train.distortions import Variant

__all__ = [
    "Extractor",
    "FeatureCacheInfo",
    "bottlenecks_from_photos",
    "feature_caches_in",
    "prune_feature_caches",
]

_BATCH_ON_A_CORE = 4
"""Batch size if each call runs on one core: larger batches exceed the CPU cache (MobileNetV2: 16 is 8 % slower)."""

_BATCH_ON_ALL = 32
"""Batch size if a call uses the GPU or all cores: smaller batches do not occupy them fully."""


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


def bottlenecks_from_photos(
    photos: Sequence[Photo],
    extractor: Extractor,
    cache_folder: Path,
    batch_size: int | None = None,
    progress: Progress = silent,
    decoded: Callable[[Sequence[Photo], np.ndarray], None] | None = None,
    variant: Variant | None = None,
) -> np.ndarray:
    """Return the features of `photos` in their order: float32 (N, width), owned by the caller.

    With `variant` they are those of the distorted photos, which have a cache of their own.

    Features in the cache in `cache_folder` are read; the others are computed and added to it batch by batch, so that an
    interrupted run loses little work. Each thread decodes a batch and runs the network on it (at most
    `extractor.parallel` threads at once), so that on a CPU decoding and network share the cores without waiting for
    each other. `progress` counts the computed photos. These threads call `decoded`, if given, with each batch and its
    pixels.

    Raises BadPhoto if a photo cannot be read, PhotoChanged if it changed since the dataset was read, RunFailed if the
    network does not return finite features of the right shape, StorageFailed.
    """
    if batch_size is None:
        batch_size = _BATCH_ON_A_CORE if extractor.parallel > 1 else _BATCH_ON_ALL
    if batch_size < 1:
        raise BadInput(f"the batch size must be at least 1, not {batch_size}", hint="32 is usual", code="TP2002")
    key = f"{extractor.key}:{extractor.preprocess.hash}"
    pixels_of = photo_to_array if variant is None else variant.pixels
    cache = FeatureCache(cache_folder, key if variant is None else f"{key}:{variant.key}", extractor.width)
    rows = np.empty((len(photos), extractor.width), dtype=np.float32)
    cached = cache.fill([photo.sha256 for photo in photos], rows)
    places: dict[str, list[int]] = {}
    for place in np.flatnonzero(~cached).tolist():
        places.setdefault(photos[place].sha256, []).append(place)
    todo = [photos[equal_photos[0]] for equal_photos in places.values()]
    batches = [todo[start : start + batch_size] for start in range(0, len(todo), batch_size)]
    network_slots = threading.Semaphore(extractor.parallel)

    def features(batch: Sequence[Photo]) -> np.ndarray:
        pixels = np.stack([pixels_of(photo, extractor.preprocess) for photo in batch])
        if decoded is not None:
            decoded(batch, pixels)
        with network_slots:
            return _checked(extractor(pixels), batch, extractor.width)

    # If the network uses all cores, one thread more than cores decodes the next batches meanwhile.
    workers = max(extractor.parallel, usable_cores() + (extractor.parallel == 1))
    done = 0
    with closing(map_ahead(features, batches, workers, 2 * workers)) as results:
        for batch, result in zip(batches, results, strict=True):
            cache.append([photo.sha256 for photo in batch], result)
            for photo, row in zip(batch, result, strict=True):
                rows[places[photo.sha256]] = row
            done += len(batch)
            progress("bottlenecks", done, len(todo))
    return rows


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
            hint="check the weights, or use others: --weights FILE",
            code="TP2004",
        )
    return features
