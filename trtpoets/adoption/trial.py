"""Compares contracts by the right answers of the network with each of them, on labelled photos.

A network answers with a wrong contract too, and as confidently as with the right one; only the number of right answers
is evidence. Two contracts are compared over the same photos by the exact test of McNemar (`judge/clustered.py`). The
best of many contracts is best by chance more easily than one of two, so each p-value is multiplied by the number of
contracts that were tried (Bonferroni): Holm's procedure would not do, because the contract that all others are compared
with is itself selected by the result.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.adoption.contract import Contract, Geometry, Pixels
from trtpoets.adoption.facts import nearly_same
from trtpoets.adoption.foreign import AGAIN, ForeignModel
from trtpoets.core.errors import BadInput
from trtpoets.core.images import photo_batches
from trtpoets.core.original import classes_of, scores_from_output, values_from_photos
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import Photo
from trtpoets.judge.clustered import equality_test
from trtpoets.judge.sample_size import photos_for_drop

if TYPE_CHECKING:
    from trtpoets.device.originals import OriginalNetwork

LEVEL = 0.05
"""The probability that a wrong contract is taken for the right one is at most this."""

_EARLY_LEVEL = 0.005
"""The share of LEVEL for contracts that are given up before all photos were tried."""

_LOOKS_LOST = 0.01
"""Pixel values that are worse at this level with one geometry are not tried with further ones."""

MAX_PHOTOS = 300
"""More photos are not tried: a difference that they do not show is small."""

MIN_PHOTOS = 20
"""With fewer photos, a contract that is likely but not certain is not confirmed."""

_ENOUGH = 72
"""After so many photos, no more are tried once a single kind of pixel values is left, or after _SECONDS."""

_SECONDS = 15.0
"""A network for which the first geometry takes longer is tried on fewer photos."""

_ROUND = 24
"""Photos after which contracts that are clearly worse are given up; twice as many in each following round."""


@dataclass(frozen=True)
class TrialRow:
    """The answers with one contract: whether each photo of the trial, in its order, was classified correctly.

    Shorter than the trial if the contract was given up before: `right` then has the first photos.
    """

    contract: Contract
    right: tuple[bool, ...]

    @property
    def count(self) -> int:
        """The number of right answers."""
        return sum(self.right)

    @property
    def photos(self) -> int:
        """The number of photos that were tried."""
        return len(self.right)


@dataclass(frozen=True)
class Trial:
    """The result of a trial. `truth` has the class of each photo, and `rivals` is the number of contracts that differ.

    The rows are sorted: those that were tried on all photos first, then by right answers.
    """

    rows: tuple[TrialRow, ...]
    truth: tuple[int, ...]
    classes: int
    rivals: int

    @property
    def photos(self) -> int:
        """The number of photos."""
        return len(self.truth)

    @property
    def best(self) -> TrialRow:
        """The row with the most right answers."""
        return self.rows[0]

    def p_value(self, first: TrialRow, second: TrialRow) -> float:
        """Return the p-value of the hypothesis that two contracts are equally good, over the photos of both."""
        photos = min(first.photos, second.photos)
        return equality_test(np.asarray(first.right[:photos], bool), np.asarray(second.right[:photos], bool))

    def is_better(
        self, first: TrialRow, second: TrialRow, level: float = LEVEL - _EARLY_LEVEL, rivals: int | None = None
    ) -> bool:
        """Whether the first is better than the second, by the corrected test and by the mean over the classes.

        `rivals` is the number of contracts for which the p-value is corrected: all that were tried, unless given. The
        second condition is for photos of mostly one class: a wrong contract may answer every photo with that class.
        """
        photos = min(first.photos, second.photos)
        if sum(first.right[:photos]) <= sum(second.right[:photos]):
            return False
        # One-sided: half of the two-sided p-value.
        if self.p_value(first, second) / 2 * max(1, self.rivals if rivals is None else rivals) > level:
            return False
        return self._mean_over_classes(first, photos) > self._mean_over_classes(second, photos)

    def is_above_chance(self, row: TrialRow) -> bool:
        """Whether a contract answers more photos right than always the same class, or a random one, would."""
        counts = np.bincount(self.truth[: row.photos], minlength=1)
        share = max(float(np.max(counts)) / row.photos, 1 / self.classes)
        return share < 1 and _tail(row.count, row.photos, share) <= LEVEL

    def photos_needed(self, first: TrialRow, second: TrialRow) -> int | None:
        """Return the number of photos that would prove the first to be better, if the shares of right answers hold.

        None if the first is not better on these photos.
        """
        photos = min(first.photos, second.photos)
        right, other_right = np.asarray(first.right[:photos], bool), np.asarray(second.right[:photos], bool)
        lead = (int(right.sum()) - int(other_right.sum())) / photos
        changed = float((right != other_right).mean())
        if lead <= 0:
            return None
        level = 2 * (LEVEL - _EARLY_LEVEL) / max(1, self.rivals)
        return photos_for_drop(0.0, changed, lead, confidence=1 - level)

    @cached_property
    def table(self) -> str:
        """The rows as text, at most 80 columns: contract, right answers, p-value against the best."""
        lines = [f"{'contract':<50}{'right':>8}{'photos':>8}{'p':>10}"]
        for row in self.rows:
            p = "" if row is self.best else _p_text(self.p_value(self.best, row))
            lines.append(f"{_cut(row.contract.text, 49):<50}{row.count:>8}{row.photos:>8}{p:>10}")
        return "\n".join(lines)

    def summary(self, row: TrialRow) -> str:
        """Return a line such as "0..1, RGB, crop: 38 of 41; next best with other pixel values: 31"."""
        text = f"{row.contract.text}: {row.count} of {row.photos}"
        others = (other for other in self.rows if not nearly_same(other.contract.pixels, row.contract.pixels))
        other = next(others, None)
        if other is None:
            return text
        count = str(other.count) if other.photos == row.photos else f"{other.count} of {other.photos}"
        return f"{text}; next best with other pixel values: {count} ({other.contract.text})"

    def _mean_over_classes(self, row: TrialRow, photos: int) -> float:
        truth, right = np.asarray(self.truth[:photos]), np.asarray(row.right[:photos], np.float64)
        return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def try_contracts(
    network: OriginalNetwork,
    foreign: ForeignModel,
    photos: Sequence[Photo],
    truth: Sequence[int],
    contracts: Sequence[Contract],
    progress: Progress = silent,
    size: tuple[int, int] | None = None,
) -> Trial:
    """Run an entered network with each contract and count the right answers.

    `truth` has the class of each photo, -1 for a photo of none of the classes, which is left out. At most MAX_PHOTOS
    are tried, equally many of each class as far as there are. First all pixel values are tried with the first geometry
    of `contracts`; those that look worse are not tried with the second, and so on with the others. `size` is (height,
    width), needed if the file accepts any size. Raises BadInput without usable photos or size; BadPhoto; RunFailed.
    """
    height, width = size or (foreign.height, foreign.width)
    if not height or not width:
        raise BadInput(
            f"{foreign.path} accepts photos of any size, and nothing states the size that it was trained with",
            hint=f"give the side in pixels, for example: {AGAIN} --size 224",
            code="TP9420",
        )
    chosen = _selected(photos, truth)
    if not chosen:
        raise BadInput(
            f"none of the {len(photos):,} photos has a class of this classifier",
            hint=f"name the folders of the photos as the labels, or give the labels: {AGAIN} --labels FILE",
            code="TP9421",
        )
    classes = tuple(truth[place] for place in chosen)
    taker = _Taker(network, foreign, [photos[place] for place in chosen], classes, (height, width), progress)
    geometries = list(dict.fromkeys(contract.geometry for contract in contracts))
    rows: list[TrialRow] = []
    lost: set[Pixels] = set()
    for group in (geometries[:1], geometries[1:2], geometries[2:]):
        tried = [one for one in contracts if one.geometry in group and one.pixels not in lost]
        rows += taker.rows(tried, list(rows), len(contracts)) if tried else []
        complete = [row for row in rows if row.photos == len(taker.truth)]
        open_kinds = {row.contract.pixels for row in complete if not taker.looks_lost(row, complete)}
        lost = {row.contract.pixels for row in rows} - open_kinds
    progress("trying contracts", len(taker.truth), len(taker.truth))
    different = taker.different(contracts)
    order = sorted(rows, key=lambda row: (-row.photos, -row.count))
    return Trial(tuple(order), taker.truth, classes_of(foreign.output), max(1, different - 1))


class _Taker:
    """Runs contracts on photos in rounds, and keeps the answers for equal pixels."""

    def __init__(
        self,
        network: OriginalNetwork,
        foreign: ForeignModel,
        photos: list[Photo],
        truth: tuple[int, ...],
        size: tuple[int, int],
        progress: Progress,
    ) -> None:
        self._network, self._foreign, self._photos, self.truth = network, foreign, photos, truth
        self._size, self._progress, self._begin = size, progress, time.monotonic()
        self._digests: dict[Geometry, list[bytes]] = {}
        self._answers: dict[tuple[object, int, bytes], int] = {}

    def rows(self, contracts: list[Contract], others: list[TrialRow], tried: int) -> list[TrialRow]:
        """Return a row for each contract; those clearly worse than these or `others` have the first photos only."""
        right: dict[Contract, list[bool]] = {contract: [] for contract in contracts}
        active = list(contracts)
        for start, stop in _rounds(len(self._photos)):
            for geometry in dict.fromkeys(contract.geometry for contract in active):
                self._run(geometry, [one for one in active if one.geometry == geometry], start, stop, right)
            # The last step is reported by the caller, once for all groups of geometries.
            self._progress("trying contracts", min(stop, len(self._photos) - 1), len(self._photos))
            rows = [TrialRow(contract, tuple(answers)) for contract, answers in right.items()]
            active = [row.contract for row in rows if row.photos == stop and not self.lost(row, rows + others, tried)]
            decided = all(nearly_same(one.pixels, active[0].pixels) for one in active)
            is_slow = time.monotonic() - self._begin > _SECONDS
            if not active or (stop >= _ENOUGH and (decided or is_slow) and not others):
                break
        self.use_only(max((len(answers) for answers in right.values()), default=0) if not others else len(self.truth))
        return [TrialRow(contract, tuple(answers)) for contract, answers in right.items()]

    def use_only(self, count: int) -> None:
        """Leave out the photos after the first `count`: the pixel values are decided without them."""
        self._photos, self.truth = self._photos[:count], self.truth[:count]

    def lost(self, row: TrialRow, rows: list[TrialRow], tried: int) -> bool:
        """Whether a contract is clearly worse than another one over the photos of both."""
        trial = self._trial(rows, tried - 1)
        level = _EARLY_LEVEL / (2 * len(list(_rounds(len(self._photos)))))
        rivals = (other for other in rows if other.photos >= row.photos and other is not row)
        best = max(rivals, key=lambda other: sum(other.right[: row.photos]), default=None)
        return best is not None and trial.is_better(best, row, level) and trial.is_above_chance(best)

    def looks_lost(self, row: TrialRow, rows: list[TrialRow]) -> bool:
        """Whether a contract is worse without a correction: then its pixel values need no further geometries.

        This does not make the decision wrong: that compares the rows that exist, by the corrected test. A contract
        that is no better than chance shows nothing about others: with a wrong geometry the right pixel values may be
        even worse.
        """
        trial = self._trial(rows, 1)
        return any(
            trial.is_better(other, row, _LOOKS_LOST) and trial.is_above_chance(other)
            for other in rows
            if other.photos == row.photos
        )

    def _trial(self, rows: list[TrialRow], rivals: int) -> Trial:
        return Trial(tuple(rows), self.truth, classes_of(self._foreign.output), rivals)

    def different(self, contracts: Sequence[Contract]) -> int:
        """Return the number of contracts that give different values for at least one photo."""
        digests = {contract.geometry: tuple(self._digests.get(contract.geometry, ())) for contract in contracts}
        kinds = {geometry: digest or (repr(geometry).encode(),) for geometry, digest in digests.items()}
        return len({(contract.pixels, kinds[contract.geometry]) for contract in contracts})

    def _run(
        self, geometry: Geometry, contracts: list[Contract], start: int, stop: int, right: dict[Contract, list[bool]]
    ) -> None:
        preprocess = contracts[0].preprocess(*self._size)
        arrays = next(photo_batches(self._photos[start:stop], preprocess, stop - start))
        digests = self._digests.setdefault(geometry, [])
        digests += [hashlib.blake2b(array.tobytes(), digest_size=16).digest() for array in arrays]
        for contract in contracts:
            keys = [(contract.pixels, place, digests[place]) for place in range(start, stop)]
            missing = [place for place, key in enumerate(keys) if key not in self._answers]
            if missing:
                answers = self._answered(contract, arrays[missing])
                self._answers.update({keys[place]: answer for place, answer in zip(missing, answers, strict=True)})
            right[contract] += [
                self._answers[key] == truth for key, truth in zip(keys, self.truth[start:stop], strict=True)
            ]

    def _answered(self, contract: Contract, arrays: np.ndarray) -> list[int]:
        preprocess = contract.preprocess(*self._size)
        values = values_from_photos(arrays, preprocess, contract.pixels.channels)
        with np.errstate(all="ignore"):
            output = self._network.infer(values)
            scores = scores_from_output(output, self._foreign.output)
        # Values outside the range that a network was trained with may overflow: such an answer is wrong.
        usable = np.isfinite(output.reshape(len(output), -1).astype(np.float64)).all(axis=1)
        usable &= np.isfinite(scores).all(axis=1)
        return [int(answer) for answer in np.where(usable, scores.argmax(axis=1), -1)]


def _rounds(photos: int) -> Iterator[tuple[int, int]]:
    start, length = 0, _ROUND
    while start < photos:
        stop = min(photos, start + length)
        yield start, stop
        start, length = stop, 2 * length


def _selected(photos: Sequence[Photo], truth: Sequence[int]) -> list[int]:
    """Return the places of at most MAX_PHOTOS photos: in turn one of each class."""
    by_class: dict[int, list[int]] = {}
    for place in sorted(range(len(photos)), key=lambda place: (photos[place].sha256, str(photos[place].path))):
        if truth[place] >= 0:
            by_class.setdefault(truth[place], []).append(place)
    turns = [(turn, label, place) for label, places in by_class.items() for turn, place in enumerate(places)]
    return [place for _, _, place in sorted(turns)[:MAX_PHOTOS]]


def _tail(successes: int, n: int, share: float) -> float:
    """Return the probability of at least so many successes of n, each with the probability `share`."""
    return math.fsum(
        math.comb(n, count) * share**count * (1 - share) ** (n - count) for count in range(successes, n + 1)
    )


def _p_text(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
