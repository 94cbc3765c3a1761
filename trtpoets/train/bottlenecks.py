"""Photos to bottlenecks: the features of the frozen base, computed once for each photo's content and extractor."""

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
from trtpoets.train.feature_cache import Store, StoreInfo, prune_stores, stores_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["Extractor", "StoreInfo", "bottlenecks_from_photos", "prune_stores", "stores_in"]

_BATCH_ON_A_CORE = 4
"""Photos a call where each call has one core: more don't fit its cache, and are 8 % slower (MobileNetV2, 16)."""

_BATCH_ON_ALL = 32
"""Photos a call where a call has the GPU, or all cores: fewer don't fill them."""


class Extractor(Protocol):
    """The frozen base as a function from photos to features."""

    @property
    def key(self) -> str:
        """A name and a hash of network, weights and preprocessing: what features depend on besides the photo."""

    @property
    def width(self) -> int:
        """How many features a photo has."""

    @property
    def preprocess(self) -> Preprocess:
        """What a photo must be made into."""

    @property
    def parallel(self) -> int:
        """How many calls may run at once: one a core where a call uses one core, 1 where it uses the machine."""

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, width)."""


def bottlenecks_from_photos(
    photos: Sequence[Photo],
    extractor: Extractor,
    store: Path,
    batch_size: int | None = None,
    progress: Progress = silent,
    decoded: Callable[[Sequence[Photo], np.ndarray], None] | None = None,
) -> np.ndarray:
    """The features of `photos` in their order: float32 (N, width), the caller's own.

    Those that the store in the folder `store` has are read from it; the others are computed and added to it, batch by
    batch, so that a killed run loses a few photos' work. Each thread decodes a batch and runs the network on it
    (`extractor.parallel` threads at once): on a CPU, decoding and network then share the cores without waiting for
    each other. `progress` counts the photos that are computed. `decoded`, if given, is called
    by these threads with each batch and its pixels.

    Raises BadPhoto when a photo can't be read, PhotoChanged when it is no longer what it was in the dataset, RunFailed
    when the network gives anything but finite features of the right shape, StorageFailed.
    """
    if batch_size is None:
        batch_size = _BATCH_ON_A_CORE if extractor.parallel > 1 else _BATCH_ON_ALL
    if batch_size < 1:
        raise BadInput(f"a batch of {batch_size} photos", hint="give a batch size of at least 1", code="TP2002")
    kept = Store(store, f"{extractor.key}:{extractor.preprocess.hash}", extractor.width)
    rows = np.empty((len(photos), extractor.width), dtype=np.float32)
    found = kept.fill([photo.sha256 for photo in photos], rows)
    places: dict[str, list[int]] = {}
    for place in np.flatnonzero(~found).tolist():
        places.setdefault(photos[place].sha256, []).append(place)
    todo = [photos[same[0]] for same in places.values()]
    batches = [todo[start : start + batch_size] for start in range(0, len(todo), batch_size)]
    turns = threading.Semaphore(extractor.parallel)

    def features(batch: Sequence[Photo]) -> np.ndarray:
        pixels = np.stack([photo_to_array(photo, extractor.preprocess) for photo in batch])
        if decoded is not None:
            decoded(batch, pixels)
        with turns:
            return _checked(extractor(pixels), batch, extractor.width)

    # One thread more than cores where the network has the cores to itself: decoding goes on meanwhile.
    workers = max(extractor.parallel, usable_cores() + (extractor.parallel == 1))
    done = 0
    with closing(map_ahead(features, batches, workers, 2 * workers)) as results:
        for batch, result in zip(batches, results, strict=True):
            kept.append([photo.sha256 for photo in batch], result)
            for photo, row in zip(batch, result, strict=True):
                rows[places[photo.sha256]] = row
            done += len(batch)
            progress("bottlenecks", done, len(todo))
    return rows


def _checked(features: np.ndarray, batch: Sequence[Photo], width: int) -> np.ndarray:
    if features.dtype != np.float32 or features.shape != (len(batch), width):
        raise RunFailed(
            f"the network gave {features.dtype} {features.shape}, not float32 {(len(batch), width)}", code="TP2003"
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise RunFailed(
            f"the network gave a feature that is not a number for {batch[int(np.argmin(finite))].path}",
            hint="check the weights: --weights FILE",
            code="TP2004",
        )
    return features
