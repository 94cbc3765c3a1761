"""Finds families of near-copies: crops, mirror images, other sizes, encodings and exposures, frames of a video.

Pairs come from bottlenecks, perceptual hashes and file names. Their thumbnails are aligned; a pair is a near-copy if
the details of the overlapping parts agree. Photos of the same kind of object, taken alike, have much in common without
being copies. So what many photos share is excluded from the comparison, and the threshold is above the values of
random pairs. Near-copies of near-copies join one family; a family that becomes too large is split by keeping only its
strongest pairs.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.progress import PARTS, Progress, silent
from trtpoets.core.threads import one_blas_thread
from trtpoets.train.near_copies.alignment import align, window_positions
from trtpoets.train.near_copies.candidates import (
    PHOTOS_PER_TASK,
    candidate_pairs,
    in_threads,
    numbers_of,
    pairs_from_numbers,
)
from trtpoets.train.near_copies.file_names import pairs_by_name
from trtpoets.train.near_copies.local_contrast import NormalisedThumbnails
from trtpoets.train.near_copies.perceptual_hash import hashes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_TASK = "near-copies"

_COARSE = 0.8
"""Pairs whose windows have a lower correlation are not aligned."""

_BEST = 3
"""Number of each photo's best pairs, by that correlation, that are aligned; others only if it is above `_SURE`."""

_SURE = 0.97

_ALIKE = 0.84
"""Least correlation of the aligned thumbnails."""

_DETAIL, _DETAIL_OF_LOOKALIKES = 0.78, 0.98
"""Least correlation of the details, for photos that share little and much of their contrast with many photos."""

_SHARED = (0.53, 0.67)
"""The shares of a photo's contrast that count as little and as much."""

_NAMED_ALIKE, _NAMED_LESS = 0.75, 0.12
"""Least correlation, and reduction of the required detail, for photos whose file names indicate copies."""

_EQUAL, _EQUAL_DETAIL = 0.065, 0.8
"""Difference (local contrast is 1) of thumbnails that are equal except for noise, and the detail required then."""

_IDENTICAL = 0.03
"""Thumbnails with a smaller difference are equal, whatever they share with others."""

_OVERLAP = 0.5
_MAX_DETAIL = 0.98
_STEPS = (0.8, 0.88, 0.93, 0.96, 0.98)
"""Thresholds of detail by which a family that is too large is split, one after the other."""

_DRAWN = 400
"""Number of random pairs that are compared to measure the detail of photos that are not copies."""

_BATCH = 128

_PHOTOS = 4096
"""Number of photos whose centres are described at a time, which limits the memory."""


@dataclass(frozen=True)
class PairScores:
    """Pairs of photos (P, 2) and their scores, float32 (P,) each.

    `alike` is the correlation of the aligned thumbnails, `detail` the correlation without what many photos share,
    `shared` the share of their contrast that many photos share, `difference` the remaining difference, `overlap` the
    share of the area that both show.
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
    """Return the families of near-copies, each as the sorted indices of its photos, ordered by the smallest index.

    `features` are bottlenecks, float32 (N, D); `thumbnails` uint8 (N, SIDE, SIDE); `names` the (folder, file name) of
    each photo. Raises MissingDependency without imagehash and threadpoolctl.
    """
    if len(features) < 2:
        return ()
    # There is one thread per core already: additional BLAS threads would wait for each other (4 times the CPU time).
    with one_blas_thread():
        return _families(features, thumbnails, names, progress)


def _families(
    features: np.ndarray, thumbnails: np.ndarray, names: Sequence[tuple[str, str]], progress: Progress
) -> tuple[tuple[int, ...], ...]:
    progress(_TASK, 0, PARTS)
    normalised = NormalisedThumbnails(thumbnails)
    progress(_TASK, PARTS // 5, PARTS)
    named = pairs_by_name(names)
    pairs = candidate_pairs(features, hashes_of(thumbnails), normalised)
    if named:
        numbers = np.concatenate([_numbers(pairs, len(features)), _numbers(np.array(sorted(named)), len(features))])
        pairs = pairs_from_numbers(np.unique(numbers), len(features))
    progress(_TASK, 3 * PARTS // 5, PARTS)
    scores = compare_pairs(normalised, pairs)
    progress(_TASK, 9 * PARTS // 10, PARTS)
    named_pairs = np.array(sorted(named), dtype=np.int64).reshape(-1, 2)
    by_name = np.isin(_numbers(scores.pairs, len(features)), _numbers(named_pairs, len(features)))
    little, much = _SHARED
    required = _DETAIL + (_DETAIL_OF_LOOKALIKES - _DETAIL) * np.clip((scores.shared - little) / (much - little), 0, 1)
    required = np.maximum(required - _NAMED_LESS * by_name, _detail_of_random_pairs(normalised, pairs))
    nearly = (scores.difference <= _EQUAL) & ((scores.detail >= _EQUAL_DETAIL) | by_name)
    equal = (scores.alike >= _ALIKE) & (nearly | (scores.difference <= _IDENTICAL))
    same = (scores.alike >= np.where(by_name, _NAMED_ALIKE, _ALIKE)) & ((scores.detail >= required) | equal)
    same &= scores.overlap >= _OVERLAP
    families = families_from_pairs(scores.pairs[same], np.where(equal, 1, scores.detail)[same], len(features))
    progress(_TASK, PARTS, PARTS)
    return families


def families_from_pairs(pairs: np.ndarray, strength: np.ndarray, photos: int) -> tuple[tuple[int, ...], ...]:
    """Join pairs (P, 2) into families; one with more than a tenth of the photos keeps only its strongest pairs."""
    most = max(20, photos // 10)
    families = []
    todo = [(pairs, strength, 0)]
    while todo:
        pairs, strength, step = todo.pop()
        for family in _connected_groups(pairs):
            if len(family) <= most or step == len(_STEPS):
                families.append(family)
                continue
            inside = np.isin(pairs[:, 0], family) & (strength >= _STEPS[step])
            todo.append((pairs[inside], strength[inside], step + 1))
    return tuple(sorted(families))


def compare_pairs(normalised: NormalisedThumbnails, pairs: np.ndarray) -> PairScores:
    """Align the thumbnails of pairs (P, 2) and score them; pairs that clearly differ are omitted."""
    alike, firsts, seconds, mirrored, start, coarse = _coarse_alignment(normalised, pairs)
    pairs = pairs[alike]
    keep = np.flatnonzero(_among_best(pairs, coarse) | (coarse >= _SURE))
    keep = keep[np.argsort(firsts[keep], kind="stable")]
    batches = [keep[at : at + _BATCH] for at in range(0, len(keep), _BATCH)]

    def score(batch: np.ndarray) -> np.ndarray:
        photos, numbers = np.unique(np.concatenate([firsts[batch], seconds[batch]]), return_inverse=True)
        images = normalised.images(photos)
        first, second = images[numbers[: len(batch)]], images[numbers[len(batch) :]]
        greys = normalised.grey(firsts[batch]), normalised.grey(seconds[batch])
        for array in (second, greys[1]):
            array[mirrored[batch]] = array[mirrored[batch]][:, :, ::-1]
        return np.stack(align(first, second, greys, start[batch], normalised.common))

    results = in_threads(score, batches)
    values = np.concatenate(results, axis=1) if results else np.zeros((5, 0), dtype=np.float32)
    return PairScores(pairs[keep], *values)


def _detail_of_random_pairs(normalised: NormalisedThumbnails, pairs: np.ndarray) -> float:
    """Return a threshold above the detail of random pairs, for photos that look much alike; 0 for few photos."""
    total = len(normalised)
    if total < 40:
        return 0.0
    drawn = np.sort(np.random.default_rng(0).integers(0, total, (2 * _DRAWN, 2)), axis=1)
    is_candidate = np.isin(_numbers(drawn, total), _numbers(pairs, total))
    sample = drawn[(drawn[:, 0] != drawn[:, 1]) & ~is_candidate][:_DRAWN]
    if not len(sample):
        return 0.0
    scores = compare_pairs(normalised, sample)
    detail = np.where(scores.alike >= _NAMED_ALIKE, scores.detail, 0)
    all_details = np.concatenate([detail, np.zeros(len(sample) - len(detail))])
    return min(_MAX_DETAIL, float(np.quantile(all_details, 0.98)) + 0.1)


def _numbers(pairs: np.ndarray, photos: int) -> np.ndarray:
    """Return a number for each pair (P, 2) of `photos` photos, equal for equal pairs."""
    return numbers_of(pairs[:, 0], pairs[:, 1], photos)


def _coarse_alignment(normalised: NormalisedThumbnails, pairs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Search for the centre of each photo of the pairs (P, 2) in windows of the other, and keep the better match.

    Returns for the A pairs whose windows are alike, each (A, ...): the index of the pair, the photo that was searched,
    the photo whose centre was searched for, whether it is mirrored, the position (scale, down, right), and the
    correlation. The windows of each photo are computed once: their time grows with the number of photos.
    """
    used = np.unique(pairs)
    place = np.zeros(len(normalised), dtype=np.int32)
    place[used] = np.arange(len(used))
    centres = _centres(normalised, used)
    orders = [np.argsort(pairs[:, way], kind="stable").astype(np.int32) for way in (0, 1)]
    begins = [np.searchsorted(pairs[order, way], np.append(used, len(normalised))) for way, order in enumerate(orders)]
    best = np.zeros((2, len(pairs)), dtype=np.uint16)  # of the photo or its mirror image * windows
    values = np.zeros((2, len(pairs)), dtype=np.float32)

    def search(start: int) -> None:
        """Search in the windows of some photos for the centres of all others with which they are paired."""
        descriptors = normalised.window_descriptors(used[start : start + PHOTOS_PER_TASK])
        for number, windows in enumerate(descriptors, start):
            of_ways = [order[begin[number] : begin[number + 1]] for order, begin in zip(orders, begins, strict=True)]
            rows, ways = np.concatenate(of_ways), np.repeat([0, 1], [len(own) for own in of_ways])
            others = centres[place[pairs[rows, 1 - ways]]].astype(np.float32)
            matches = np.matmul(others, windows.T).reshape(len(rows), -1)
            columns = matches.argmax(axis=1)
            best[ways, rows], values[ways, rows] = columns, matches[np.arange(len(rows)), columns]

    in_threads(search, range(0, len(used), PHOTOS_PER_TASK))
    alike = np.flatnonzero(values.max(axis=0) >= _COARSE)
    ways = (values[1, alike] > values[0, alike]).astype(np.int64)
    columns, positions = best[ways, alike], window_positions()
    firsts, seconds = pairs[alike, ways], pairs[alike, 1 - ways]
    start = positions[columns % len(positions)]
    return alike, firsts, seconds, columns >= len(positions), start, values[ways, alike]


def _centres(normalised: NormalisedThumbnails, photos: np.ndarray) -> np.ndarray:
    """Return the descriptors of the centres of photos and of their mirror images, float16 (N, 2, k)."""
    blocks = range(0, len(photos), _PHOTOS)
    return np.concatenate(
        [normalised.centre_descriptors(photos[at : at + _PHOTOS]).astype(np.float16) for at in blocks]
    )


def _among_best(pairs: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Return which pairs are among the `_BEST` of one of their photos: bool (P,)."""
    best = np.zeros(len(pairs), dtype=bool)
    for photos in pairs.T:
        order = np.lexsort((-coarse, photos))
        ordered = photos[order]
        begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else order
        rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.r_[begins, len(order)]))
        best[order[rank < _BEST]] = True
    return best


def _connected_groups(pairs: np.ndarray) -> list[tuple[int, ...]]:
    """Return the connected components of the pairs, sorted."""
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
