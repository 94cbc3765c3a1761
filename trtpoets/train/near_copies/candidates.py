"""Which photos may be near-copies of each other: pairs to look at, found in blocks so that memory stays bounded.

Three searches give pairs. The nearest neighbours by bottlenecks find most copies of ordinary photos. Perceptual hashes
find copies that were changed little. Where photos look so much alike to the network that a photo has many close
neighbours, windows of one photo are searched for in all others of that kind, without what such photos have in common.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from trtpoets.core.images import usable_cores
from trtpoets.core.threads import map_ahead
from trtpoets.train.near_copies.local_contrast import Evened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

_BLOCK = 1024
"""Rows and columns of a block of similarities."""

_NEIGHBOURS = 8
"""Pairs that each search gives for a photo."""

_CROWDED = 0.8
"""A photo whose last neighbour is as similar as this looks like many others."""

_LEAST_BITS = 44
"""Equal bits, of 64, of hashes that may be those of copies."""

_SEARCHED = 6000
"""More photos than this that look alike are not searched for windows: the time grows with the square."""

PHOTOS_A_TURN = 64
"""Photos whose windows are searched for in one turn of a thread."""

_MOST_THREADS = 8
"""Each thread holds a block of similarities and what sorts it, some 25 MB."""

_log = logging.getLogger(__name__)


def nearest(rows: np.ndarray, others: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `rows` (N, D) its `count` most similar among `others` (N, D), itself left out, by dot product.

    Returns indices (N, count) and similarities (N, count), the best first; a block of products at a time.
    """
    total = len(rows)
    count = min(count, total - 1)
    found = np.zeros((total, count), dtype=np.int32)
    values = np.full((total, count), -np.inf, dtype=np.float32)

    def search(top: int) -> None:
        part = rows[top : top + _BLOCK]
        best = np.full((len(part), count), -np.inf, dtype=np.float32)
        place = np.zeros((len(part), count), dtype=np.int32)
        for left in range(0, total, _BLOCK):
            products = part @ others[left : left + _BLOCK].T
            own = np.arange(max(top, left), min(top + len(part), left + products.shape[1]))
            products[own - top, own - left] = -np.inf
            keep = min(count, products.shape[1])
            columns = np.argpartition(products, -keep, axis=1)[:, -keep:]
            both = np.concatenate([best, np.take_along_axis(products, columns, axis=1)], axis=1)
            where = np.concatenate([place, columns.astype(np.int32) + left], axis=1)
            order = np.argsort(-both, axis=1, kind="stable")[:, :count]
            best, place = np.take_along_axis(both, order, axis=1), np.take_along_axis(where, order, axis=1)
        found[top : top + len(part)], values[top : top + len(part)] = place, best

    in_threads(search, range(0, total, _BLOCK))
    return found, values


def candidate_pairs(features: np.ndarray, hashes: np.ndarray, evened: Evened) -> np.ndarray:
    """Pairs (lower, higher index) of photos to look at: int64 (P, 2), sorted. `features` is (N, D), as bottlenecks."""
    if len(features) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    unit = _unit(features)
    found, values = nearest(unit, unit, _NEIGHBOURS)
    del unit
    pairs = [_pairs(found, np.isfinite(values))]
    bits = np.where(hashes, np.float32(0.125), np.float32(-0.125))
    for way in (0, 1):
        found, same = nearest(np.ascontiguousarray(bits[:, 0]), np.ascontiguousarray(bits[:, way]), _NEIGHBOURS // 2)
        pairs.append(_pairs(found, same >= 2 * _LEAST_BITS / 64 - 1))
    crowd = np.flatnonzero(values[:, -1] >= _CROWDED)
    if _NEIGHBOURS < len(crowd) <= _SEARCHED:
        pairs.append(crowd[_pairs(*_windows_found(evened, crowd))])
    elif len(crowd) > _SEARCHED:
        _log.info("%d photos look alike, too many to search for crops of each in all others", len(crowd))
    return np.unique(np.concatenate(pairs), axis=0)


def _windows_found(evened: Evened, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each photo those in which a window of it is found best: places in `photos` (N, k), and which count."""
    wanted = evened.middles(photos).transpose(1, 0, 2).reshape(2 * len(photos), -1).T.copy()
    total = len(photos)
    best = np.empty((total, total), dtype=np.float16)

    def search(start: int) -> None:
        for row, each in enumerate(evened.windows(photos[start : start + PHOTOS_A_TURN]), start):
            products = (each @ wanted).max(axis=0)
            best[row] = np.maximum(products[:total], products[total:])

    in_threads(search, range(0, total, PHOTOS_A_TURN))
    np.fill_diagonal(best, -1)
    count = min(_NEIGHBOURS // 2, total - 1)
    found = np.concatenate(
        [np.argpartition(-way, count - 1, axis=1)[:, :count] for way in (best, np.ascontiguousarray(best.T))], axis=1
    )
    return found, np.ones(found.shape, dtype=bool)


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The results of `function` for all items, computed by a thread for each core, up to `_MOST_THREADS`."""
    threads = min(usable_cores(), _MOST_THREADS)
    return list(map_ahead(function, items, threads, 2 * threads))


def _unit(rows: np.ndarray) -> np.ndarray:
    unit: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)
    return unit


def _pairs(found: np.ndarray, counts: np.ndarray) -> np.ndarray:
    rows = np.repeat(np.arange(len(found)), found.shape[1]).reshape(found.shape)
    pairs = np.stack([rows[counts], found[counts]], axis=1).astype(np.int64)
    return np.sort(pairs, axis=1)
