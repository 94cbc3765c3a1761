"""Finds nearest neighbours among many photos, without comparing each photo with all others.

The photos are divided by their nearest of some photos that are drawn at random, the pivots, and each part again, until
parts are small. Photos are compared with all others of their part. Neighbours that one division separates are mostly
together in another one, so it is done several times with other pivots (as in the trees of Annoy and FLANN). The time
grows with the number of photos times its logarithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.images import usable_cores
from trtpoets.core.threads import map_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Vectors = Callable[[np.ndarray], np.ndarray]
    """A function of indices, int (n,), that returns unit vectors, float32 (n, D)."""

_TREES = 6
"""Number of divisions. Among 24,000 simulated photos of 20 kinds, 6 find 99.7 % of the copies with a similarity of 0.95
that comparing all pairs finds, in a quarter of the processor time; 4 find 99.0 %."""

_PIVOTS = 32
_PART = 1024
"""The largest number of photos in a part."""

_BLOCK = 4096

_MAX_THREADS = 8


def nearest_in_trees(rows: Vectors, others: Vectors, total: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` most similar of `others` for each of `rows`, both of `total` photos, excluding itself.

    Returns indices int32 (total, count) and similarities float32 (total, count), the most similar first; -inf stands
    for a neighbour that was not found. Few of the true neighbours are missing. The same vectors give the same result.
    """
    indices = np.zeros((total, count), dtype=np.int32)
    values = np.full((total, count), -np.inf, dtype=np.float32)

    def search(part: tuple[np.ndarray, np.ndarray]) -> None:
        asked, known = part
        targets = others(known)
        for start in range(0, len(asked), _PART):
            own = asked[start : start + _PART]
            products = rows(own) @ targets.T
            products[own[:, None] == known[None]] = -np.inf
            for place in range(count):  # those that an earlier tree has found
                products[
                    known[None] == np.where(np.isfinite(values[own, place]), indices[own, place], -1)[:, None]
                ] = -np.inf
            keep = min(count, products.shape[1])
            columns = np.argpartition(products, -keep, axis=1)[:, -keep:]
            both = np.concatenate([values[own], np.take_along_axis(products, columns, axis=1)], axis=1)
            where = np.concatenate([indices[own], known[columns].astype(np.int32)], axis=1)
            order = np.argsort(-both, axis=1, kind="stable")[:, :count]
            values[own], indices[own] = (np.take_along_axis(array, order, axis=1) for array in (both, where))

    threads = min(usable_cores(), _MAX_THREADS)
    for tree in range(_TREES):
        for _ in map_ahead(search, _parts(rows, others, total, np.random.default_rng(tree)), threads, 2 * threads):
            pass
    return indices, values


def _parts(
    rows: Vectors, others: Vectors, total: int, random: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the indices of `rows` and of `others` in each part that has both."""
    everything = np.arange(total)
    todo = [(everything, everything)]
    while todo:
        asked, known = todo.pop()
        if not len(asked) or not len(known):
            continue
        if len(known) <= _PART:
            yield asked, known
            continue
        pivots = others(np.sort(random.choice(known, _PIVOTS, replace=False)))
        of_known = _nearest_pivot(others, known, pivots)
        of_asked = of_known if rows is others and asked is known else _nearest_pivot(rows, asked, pivots)
        largest = int(np.max(np.bincount(of_known)))
        if largest > 0.9 * len(known):  # photos that are all alike are divided in their order
            of_known, of_asked = (np.arange(len(array)) * _PIVOTS // len(array) for array in (known, asked))
        for number in range(_PIVOTS):
            inside = known[of_known == number]
            todo.append((inside if of_asked is of_known else asked[of_asked == number], inside))


def _nearest_pivot(vectors: Vectors, photos: np.ndarray, pivots: np.ndarray) -> np.ndarray:
    blocks = (photos[start : start + _BLOCK] for start in range(0, len(photos), _BLOCK))
    return np.concatenate([(vectors(block) @ pivots.T).argmax(axis=1) for block in blocks])
