"""Families of near-copies among photos: crops, mirror images, other sizes, encodings and light, frames of a video.

Pairs that bottlenecks, perceptual hashes or file names suggest are looked at: their thumbnails are aligned, and are
copies when what both show is the same in detail. Photos of one kind of object, taken alike, have much in common
without being copies: what many photos share is left out of the comparison, and the threshold lies above what pairs
drawn at random come to. Copies of copies join families; a family that grows beyond bounds is held together by its
best pairs only.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.optional import needs
from trtpoets.core.progress import PARTS, Progress, silent
from trtpoets.train.near_copies.alignment import aligned, places
from trtpoets.train.near_copies.candidates import PHOTOS_A_TURN, candidate_pairs, in_threads
from trtpoets.train.near_copies.file_names import pairs_by_name
from trtpoets.train.near_copies.local_contrast import Evened
from trtpoets.train.near_copies.perceptual_hash import hashes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_TASK = "near-copies"

_COARSE = 0.8
"""Correlation of windows below which a pair is not aligned."""

_BEST = 3
"""Each photo's best pairs by that correlation are aligned; others only where it is above `_SURE`."""

_SURE = 0.97

_ALIKE = 0.84
"""Least correlation of the aligned thumbnails."""

_DETAIL, _DETAIL_OF_LOOKALIKES = 0.78, 0.98
"""Least correlation without what many photos share: where that is little of their contrast, and where it is much."""

_SHARED = (0.53, 0.67)
"""Shares of a photo's contrast that are little and much to have in common with many photos."""

_NAMED_ALIKE, _NAMED_LESS = 0.75, 0.12
"""The least correlation, and how much less detail is enough, where names say that a photo is a copy of the other."""

_EQUAL, _EQUAL_DETAIL = 0.065, 0.8
"""Difference (of local contrast 1) of thumbnails that are equal but for noise, and how much detail must agree then."""

_IDENTICAL = 0.03
"""Difference below which thumbnails are equal, whatever they share with others."""

_OVERLAP = 0.5
_MOST_DETAIL = 0.98
_STEPS = (0.8, 0.88, 0.93, 0.96, 0.98)
"""Thresholds of detail that a family which is too large is divided by, one after the other."""

_DRAWN = 400
"""Pairs drawn at random to see what photos that are no copies come to."""

_BATCH = 128


@dataclass(frozen=True)
class Compared:
    """Pairs of photos (P, 2) as `compared` found them: float32 (P,) each.

    `alike` is the correlation of the aligned thumbnails, `detail` that of what many photos don't share, `shared` how
    much of their contrast many photos share, `difference` what is left between them, `overlap` what both show.
    """

    pairs: np.ndarray
    alike: np.ndarray
    detail: np.ndarray
    shared: np.ndarray
    difference: np.ndarray
    overlap: np.ndarray


def families_of(
    features: np.ndarray, thumbnails: np.ndarray, names: Sequence[tuple[str, str]], progress: Progress = silent
) -> tuple[tuple[int, ...], ...]:
    """Families of near-copies, each the sorted indices of two or more photos, by their smallest index.

    `features` are bottlenecks, float32 (N, D); `thumbnails` uint8 (N, SIDE, SIDE); `names` the (folder, file name) of
    each photo. Raises MissingDependency without imagehash and threadpoolctl.
    """
    if len(features) < 2:
        return ()
    with needs("convert", reason="the search for copies of photos"):
        from threadpoolctl import threadpool_limits
    # Each core has a thread of ours: more threads of BLAS in each would wait for one another (4 times the CPU time).
    with threadpool_limits(1, "blas"):
        return _families(features, thumbnails, names, progress)


def _families(
    features: np.ndarray, thumbnails: np.ndarray, names: Sequence[tuple[str, str]], progress: Progress
) -> tuple[tuple[int, ...], ...]:
    progress(_TASK, 0, PARTS)
    evened = Evened(thumbnails)
    progress(_TASK, PARTS // 5, PARTS)
    named = pairs_by_name(names)
    pairs = candidate_pairs(features, hashes_of(thumbnails), evened)
    if named:
        pairs = np.unique(np.concatenate([pairs, np.array(sorted(named), dtype=np.int64)]), axis=0)
    progress(_TASK, 3 * PARTS // 5, PARTS)
    found = compared(evened, pairs)
    progress(_TASK, 9 * PARTS // 10, PARTS)
    marked = np.fromiter((tuple(pair) in named for pair in found.pairs.tolist()), dtype=bool, count=len(found.pairs))
    few, many = _SHARED
    needed = _DETAIL + (_DETAIL_OF_LOOKALIKES - _DETAIL) * np.clip((found.shared - few) / (many - few), 0, 1)
    needed = np.maximum(needed - _NAMED_LESS * marked, _ordinary_detail(evened, pairs))
    nearly = (found.difference <= _EQUAL) & ((found.detail >= _EQUAL_DETAIL) | marked)
    equal = (found.alike >= _ALIKE) & (nearly | (found.difference <= _IDENTICAL))
    same = (found.alike >= np.where(marked, _NAMED_ALIKE, _ALIKE)) & ((found.detail >= needed) | equal)
    same &= found.overlap >= _OVERLAP
    families = families_from_pairs(found.pairs[same], np.where(equal, 1, found.detail)[same], len(features))
    progress(_TASK, PARTS, PARTS)
    return families


def families_from_pairs(pairs: np.ndarray, strength: np.ndarray, photos: int) -> tuple[tuple[int, ...], ...]:
    """Join pairs (P, 2) to families; one of more than a tenth of the photos keeps only pairs that are strong enough."""
    most = max(20, photos // 10)
    families = []
    todo = [(pairs, strength, 0)]
    while todo:
        pairs, strength, step = todo.pop()
        for family in _joined(pairs):
            if len(family) <= most or step == len(_STEPS):
                families.append(family)
                continue
            inside = np.isin(pairs[:, 0], family) & (strength >= _STEPS[step])
            todo.append((pairs[inside], strength[inside], step + 1))
    return tuple(sorted(families))


def compared(evened: Evened, pairs: np.ndarray) -> Compared:
    """Align the thumbnails of pairs (P, 2) and compare them; those that differ at first sight are left out."""
    firsts, seconds, mirrored, start, coarse = _placed(evened, pairs)
    keep = np.flatnonzero((coarse >= _COARSE) & (_among_best(pairs, coarse) | (coarse >= _SURE)))
    keep = keep[np.argsort(firsts[keep], kind="stable")]
    batches = [keep[at : at + _BATCH] for at in range(0, len(keep), _BATCH)]

    def look(batch: np.ndarray) -> np.ndarray:
        used, places = np.unique(np.concatenate([firsts[batch], seconds[batch]]), return_inverse=True)
        images = evened.images(used)
        first, second = images[places[: len(batch)]], images[places[len(batch) :]]
        greys = evened.grey(firsts[batch]), evened.grey(seconds[batch])
        for each in (second, greys[1]):
            each[mirrored[batch]] = each[mirrored[batch]][:, :, ::-1]
        found = aligned(first, second, greys, start[batch], evened.common)
        return np.stack(found)

    results = in_threads(look, batches)
    values = np.concatenate(results, axis=1) if results else np.zeros((5, 0), dtype=np.float32)
    return Compared(pairs[keep], *values)


def _ordinary_detail(evened: Evened, pairs: np.ndarray) -> float:
    """Above what pairs that nothing suggests come to in detail: the threshold where photos look much alike."""
    total = len(evened)
    if total < 40:
        return 0.0
    known = set(map(tuple, pairs.tolist()))
    drawn = np.random.default_rng(0).integers(0, total, (2 * _DRAWN, 2))
    others = [pair for pair in np.sort(drawn, axis=1).tolist() if pair[0] != pair[1] and tuple(pair) not in known]
    if not others:
        return 0.0
    sample = np.array(others[:_DRAWN], dtype=np.int64)
    detail = np.where((found := compared(evened, sample)).alike >= _NAMED_ALIKE, found.detail, 0)
    reached = np.concatenate([detail, np.zeros(len(sample) - len(detail))])
    return min(_MOST_DETAIL, float(np.quantile(reached, 0.98)) + 0.1)


def _placed(evened: Evened, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each pair: which photo the other's window is found in, that other, whether mirrored, where, how well."""
    count = len(pairs)
    used, numbers = np.unique(pairs, return_inverse=True)
    numbers = numbers.reshape(pairs.shape)
    middles = evened.middles(used).astype(np.float16)
    where = places()
    coarse = np.full(count, -1, dtype=np.float32)
    swapped, mirrored = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    start = np.zeros((count, 3), dtype=np.float32)
    owners = np.concatenate([pairs[:, 0], pairs[:, 1]])
    order = np.argsort(owners, kind="stable")
    photos, begins = np.unique(owners[order], return_index=True)
    groups = np.split(order, begins[1:])

    def search(at: int) -> list[tuple[np.ndarray, np.ndarray]]:
        seen = evened.windows(photos[at : at + PHOTOS_A_TURN])
        results = []
        for each, owned in zip(seen, groups[at : at + PHOTOS_A_TURN], strict=True):
            others = middles[numbers[owned % count, 1 - owned // count]].astype(np.float32)
            flat = np.matmul(others, each.T).reshape(len(owned), -1)  # (rows, photo or its mirror image * places)
            best = flat.argmax(axis=1)
            results.append((best, flat[np.arange(len(owned)), best]))
        return results

    turns = range(0, len(photos), PHOTOS_A_TURN)
    for at, results in zip(turns, in_threads(search, turns), strict=True):
        for owned, (places_of_best, value) in zip(groups[at : at + PHOTOS_A_TURN], results, strict=True):
            rows, way = owned % count, owned // count
            better = value > coarse[rows]
            these, best = rows[better], places_of_best[better]
            coarse[these], swapped[these] = value[better], way[better] == 1
            mirrored[these] = best >= len(where)
            start[these] = where[best % len(where)]
    firsts = np.where(swapped, pairs[:, 1], pairs[:, 0])
    return firsts, np.where(swapped, pairs[:, 0], pairs[:, 1]), mirrored, start, coarse


def _among_best(pairs: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Which pairs are among the `_BEST` of one of their photos: bool (P,)."""
    best = np.zeros(len(pairs), dtype=bool)
    for photos in pairs.T:
        order = np.lexsort((-coarse, photos))
        ordered = photos[order]
        begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else order
        rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.r_[begins, len(order)]))
        best[order[rank < _BEST]] = True
    return best


def _joined(pairs: np.ndarray) -> list[tuple[int, ...]]:
    parent: dict[int, int] = {}

    def root(item: int) -> int:
        while (above := parent.setdefault(item, item)) != item:
            parent[item] = parent[above]
            item = above
        return item

    for first, second in pairs.tolist():
        one, other = root(first), root(second)
        parent[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = defaultdict(list)
    for item in parent:
        groups[root(item)].append(item)
    return sorted(tuple(sorted(group)) for group in groups.values())
