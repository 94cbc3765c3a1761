"""Finds pairs of photos that may be near-copies, in blocks, so that memory is limited.

Three searches give pairs. Nearest neighbours by bottlenecks find most copies of ordinary photos. Perceptual hashes find
copies with small changes. Photos that have many close neighbours, because they look alike to the network, are compared
by windows: the centre of each is searched for in all others, without what such photos have in common.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from trtpoets.core.images import usable_cores
from trtpoets.core.threads import map_ahead
from trtpoets.train.near_copies.local_contrast import NormalisedThumbnails
from trtpoets.train.near_copies.pivot_trees import nearest_in_trees
from trtpoets.train.row_file import release

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

_BLOCK = 1024
"""Number of rows and columns of a block of similarities."""

_NEIGHBOURS = 8
"""Number of pairs per photo that each search gives."""

_SIMILAR_TO_MANY = 0.8
"""A photo looks like many others if its last neighbour is at least this similar."""

_MIN_BITS = 44
"""Least number of equal bits, of 64, in the hashes of possible copies."""

_SEARCHED = 6000
"""Limit on the number of photos that look alike for the search by windows, whose time grows with the square."""

_EXHAUSTIVE = 20_000
"""Up to so many photos are compared with all others; more are searched in trees."""

PHOTOS_PER_TASK = 64
"""Number of photos whose windows are searched in one task of a thread."""

_MAX_THREADS = 8
"""Limit on threads; each needs about 25 MB for a block of similarities and its sorting."""

_log = logging.getLogger(__name__)


def nearest(rows: np.ndarray, others: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` most similar of `others` (N, D) for each of `rows` (N, D), by dot product, excluding itself.

    Returns indices (N, count) and similarities (N, count), the most similar first.
    """
    total = len(rows)
    count = min(count, total - 1)
    indices = np.zeros((total, count), dtype=np.int32)
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
        indices[top : top + len(part)], values[top : top + len(part)] = place, best

    in_threads(search, range(0, total, _BLOCK))
    return indices, values


def candidate_pairs(features: np.ndarray, hashes: np.ndarray, normalised: NormalisedThumbnails) -> np.ndarray:
    """Return pairs (lower, higher index) of photos to compare: int32 (P, 2), sorted. `features` are bottlenecks."""
    if len(features) < 2:
        return np.zeros((0, 2), dtype=np.int32)
    total = len(features)
    neighbours, values = _by_features(features)
    numbers = [_pairs(neighbours, np.isfinite(values), total)]
    for way in (0, 1):
        neighbours, same = _by_hashes(hashes, way)
        numbers.append(_pairs(neighbours, same >= 2 * _MIN_BITS / 64 - 1, total))
    similar = np.flatnonzero(values[:, -1] >= _SIMILAR_TO_MANY)
    if _NEIGHBOURS < len(similar) <= _SEARCHED:
        neighbours, valid = _neighbours_by_windows(normalised, similar)
        numbers.append(_pairs(similar[neighbours], valid, total, similar))
    elif len(similar) > _SEARCHED:
        _log.info("%d photos look alike, which is too many to search for crops of each in all others", len(similar))
    return pairs_from_numbers(np.unique(np.concatenate(numbers)), total)


def pairs_from_numbers(numbers: np.ndarray, total: int) -> np.ndarray:
    """Return the pairs (lower, higher index) of `total` photos that have these `numbers_of`: int32 (P, 2)."""
    pairs = np.empty((len(numbers), 2), dtype=np.int32)  # a million photos have 13 million pairs
    pairs[:, 0] = numbers // total
    pairs[:, 1] = numbers % total
    return pairs


def numbers_of(firsts: np.ndarray, seconds: np.ndarray, total: int) -> np.ndarray:
    """Return a number for each pair of `total` photos, int64 (P,), equal for equal pairs and in their order."""
    return np.asarray(firsts.astype(np.int64) * total + seconds)


def _by_features(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest neighbours by bottlenecks, and their similarities, (N, _NEIGHBOURS) each."""
    if len(features) <= _EXHAUSTIVE:
        unit = _unit(features)
        return nearest(unit, unit, _NEIGHBOURS)

    def vectors(photos: np.ndarray) -> np.ndarray:
        chosen = _unit(features[photos])
        release(features)
        return chosen

    return nearest_in_trees(vectors, vectors, len(features), _NEIGHBOURS)


def _by_hashes(hashes: np.ndarray, way: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the photos with the most similar hashes, of the photo (`way` 0) or of its mirror image (1)."""

    def vectors(photos: np.ndarray) -> np.ndarray:
        return _signs(hashes[photos, 0])

    def vectors_of_others(photos: np.ndarray) -> np.ndarray:
        return _signs(hashes[photos, way])

    if len(hashes) <= _EXHAUSTIVE:
        return nearest(_signs(hashes[:, 0]), _signs(hashes[:, way]), _NEIGHBOURS // 2)
    return nearest_in_trees(vectors, vectors_of_others if way else vectors, len(hashes), _NEIGHBOURS // 2)


def _signs(bits: np.ndarray) -> np.ndarray:
    """Return hashes, bool (N, 64), as unit vectors."""
    return np.asarray(np.where(bits, np.float32(0.125), np.float32(-0.125)))


def _neighbours_by_windows(normalised: NormalisedThumbnails, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each photo, those that match its windows best: indices into `photos` (N, k), and a mask of ones."""
    centres = normalised.centre_descriptors(photos).transpose(1, 0, 2).reshape(2 * len(photos), -1).T.copy()
    total = len(photos)
    best = np.empty((total, total), dtype=np.float16)

    def search(start: int) -> None:
        descriptors = normalised.window_descriptors(photos[start : start + PHOTOS_PER_TASK])
        for row, windows in enumerate(descriptors, start):
            products = (windows @ centres).max(axis=0)
            best[row] = np.maximum(products[:total], products[total:])

    in_threads(search, range(0, total, PHOTOS_PER_TASK))
    np.fill_diagonal(best, -1)
    count = min(_NEIGHBOURS // 2, total - 1)
    neighbours = np.concatenate(
        [np.argpartition(-way, count - 1, axis=1)[:, :count] for way in (best, np.ascontiguousarray(best.T))], axis=1
    )
    return neighbours, np.ones(neighbours.shape, dtype=bool)


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return the results of `function` for all items, computed by one thread per core, at most `_MAX_THREADS`."""
    threads = min(usable_cores(), _MAX_THREADS)
    return list(map_ahead(function, items, threads, 2 * threads))


def _unit(rows: np.ndarray) -> np.ndarray:
    unit: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)
    return unit


def _pairs(neighbours: np.ndarray, valid: np.ndarray, total: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Return the `numbers_of` the pairs of each photo with its valid neighbours, (N, k): int64 (P,).

    The lower index is the first of a pair. `rows` are the photos, int (N,), if they are not all of them.
    """
    numbers = []
    for column, wanted in zip(neighbours.T, valid.T, strict=True):
        chosen = np.flatnonzero(wanted)
        photos, others = chosen if rows is None else rows[chosen], column[chosen]
        numbers.append(numbers_of(np.minimum(photos, others), np.maximum(photos, others), total))
    return np.concatenate(numbers)
