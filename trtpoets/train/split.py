"""Which photos train, which validate, which test: decided by what a photo shows, not by where it lies.

A photo has a position from 0 to 100, made of its content's sha256. Test photos are those below `test_percent`,
validation photos those in the last `validation_percent`, and the rest train. So renaming, moving or adding photos moves
no other photo, the rule is the same in each class, and copies of a photo fall together.

Near-copies of a photo (crops, other encodings, frames: `copies.py` finds them) are a family, whose one position is made
of its lowest sha256. That is hashed anew: the lowest of several is a low number, and would put families into test.
Photos without copies keep their position.

Photos of one group (`<group>_nohash_<anything>`, as in the TensorFlow for Poets codelab: shots of one object) stay
together: the position is then made of the group's name. Groups that share a photo, byte for byte or as a near-copy, are
one, whose position is made of all of them, as a family's is; a copy outside any group goes where the group goes.

No rule that keeps every photo in its place when others come can promise each class a test photo: it would have to look
at one photo alone, and chance then leaves small classes without. `check_splits` names those, and what helps.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.types import Split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_GROUP_MARK = "_nohash_"

_LEAST = 3
"""Photos that a class can't do without: one to train on, one to validate, one to test."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetConfig:
    """How photos are labelled and divided, and whether an unusable file is an error (`strict`) or only left out.

    `labels` is the file with the labels, empty to find it. `class_folders` makes every folder a class, whatever its
    name.
    """

    validation_percent: float = 10
    test_percent: float = 10
    strict: bool = False
    labels: str = ""
    class_folders: bool = False


def check_config(config: DatasetConfig) -> None:
    """Raise BadInput unless each split can get photos."""
    for name, percent in (("test", config.test_percent), ("validation", config.validation_percent)):
        if not (math.isfinite(percent) and 0 < percent < 100):
            raise BadInput(
                f"{percent} % of the photos for {name}", hint=f"for example: --{name}-percent 10", code="TP2075"
            )
    if config.test_percent + config.validation_percent >= 100:
        raise BadInput(
            f"{config.test_percent} % of the photos for test and {config.validation_percent} % for validation "
            "leave none to train on",
            hint="for example: --test-percent 10 --validation-percent 10",
            code="TP2076",
        )


def positions_of(files: Sequence[tuple[str, str]], families: Iterable[Sequence[str]] = ()) -> list[float]:
    """The position, 0 to 100, of each file given as (file name, sha256 of its content).

    `families` are sha256s of near-copies: each family has one position. A family with a photo of a group goes where
    the group goes.
    """
    families = tuple(families)
    union = _union_of(files, families)
    together: dict[str, list[str]] = defaultdict(list)
    for digest in {digest for name, _ in files if (digest := _group_in(name))}:
        together[union.root(digest)].append(digest)
    lowest = {root: _digest_of_groups(digests) for root, digests in together.items()}
    kin: dict[str, list[str]] = defaultdict(list)
    for sha256 in {sha256 for family in families for sha256 in family}:
        kin[union.root(sha256)].append(sha256)
    lowest = {root: _digest_of_family(sha256s) for root, sha256s in kin.items()} | lowest
    return [_position(lowest.get(union.root(sha256), sha256)) for _, sha256 in files]


def independent_groups(files: Sequence[tuple[str, str]], families: Iterable[Sequence[str]] = ()) -> list[int]:
    """The independent group, numbered from 0, of each file given as (file name, sha256 of its content).

    One group are files that share a position for what they show: equal bytes, one `_nohash_` group, one of `families`
    of near-copies (sha256s), and what these join.
    """
    union = _union_of(files, families)
    number: dict[str, int] = {}
    return [number.setdefault(union.root(sha256), len(number)) for _, sha256 in files]


def _union_of(files: Sequence[tuple[str, str]], families: Iterable[Sequence[str]]) -> _Union:
    """What belongs together: the photos (sha256) and digests of groups, and the photos of families."""
    union = _Union()
    for name, sha256 in files:
        if group := _group_in(name):
            union.join(group, sha256)
    for first, *others in families:
        for other in others:
            union.join(first, other)
    return union


def _group_in(name: str) -> str:
    """The digest of the group that a file's name tells; empty where it tells none."""
    group, mark, _ = name.partition(_GROUP_MARK)
    return _digest_of_group(group) if mark else ""


def checked_splits(
    photo_labels: Sequence[str], positions: Sequence[float], labels: Sequence[str], config: DatasetConfig
) -> list[Split]:
    """The split of each photo, by its label and position. Raises BadInput as `check_splits` does."""
    by_label: dict[str, list[float]] = {label: [] for label in labels}
    for label, position in zip(photo_labels, positions, strict=True):
        by_label[label].append(position)
    check_splits(by_label, config)
    return [split_at(position, config) for position in positions]


def split_at(position: float, config: DatasetConfig) -> Split:
    """What a photo at this position is used for."""
    if position < config.test_percent:
        return Split.TEST
    return Split.VALIDATION if position >= 100 - config.validation_percent else Split.TRAIN


def check_splits(positions: Mapping[str, Sequence[float]], config: DatasetConfig) -> None:
    """Raise BadInput when a class has no photo to train on or to test, or no class has one to validate.

    `positions` has those of each class's photos. A class that only lacks validation photos is warned about.
    """
    for split in (Split.TEST, Split.TRAIN):
        lacking = _lacking(positions, split, config)
        if lacking:
            raise BadInput(
                _complaint(lacking, positions, split), hint=_way_out(positions, split, config), code="TP2077"
            )
    lacking = _lacking(positions, Split.VALIDATION, config)
    if len(lacking) == len(positions):
        raise BadInput(
            _complaint(lacking, positions, Split.VALIDATION),
            hint=_way_out(positions, Split.VALIDATION, config),
            code="TP2078",
        )
    if lacking:
        _log.warning(
            "%s; the other classes alone choose the best step", _complaint(lacking, positions, Split.VALIDATION)
        )


def _lacking(positions: Mapping[str, Iterable[float]], split: Split, config: DatasetConfig) -> list[str]:
    return [label for label, each in positions.items() if all(split_at(x, config) is not split for x in each)]


def _complaint(lacking: Sequence[str], positions: Mapping[str, Sequence[float]], split: Split) -> str:
    first = lacking[0]
    count, apart = len(positions[first]), len(set(positions[first]))
    photos = "1 photo" if count == 1 else f"{count} photos"
    if apart < count:
        photos += f" (only {apart} when copies, near-copies and {_GROUP_MARK} groups are counted once)"
    others = f"; so it is with {len(lacking) - 1} more, such as {lacking[1]!r}" if len(lacking) > 1 else ""
    return f"class {first!r} has {photos}, and none falls in the {split.value} split{others}"


def _way_out(positions: Mapping[str, Sequence[float]], split: Split, config: DatasetConfig) -> str:
    if split is Split.TRAIN:
        return f"add photos; a class needs at least {_LEAST}: one to train on, one to validate, one to test"
    percent = config.test_percent if split is Split.TEST else config.validation_percent
    missed = 1 - 0.95 ** (1 / len(positions))
    enough = max(_LEAST, math.ceil(math.log(missed) / math.log(1 - percent / 100)))
    advice = (
        f"a class needs at least {_LEAST} photos, and with {enough} in each none is left out 19 times in 20: add photos"
    )
    mended = _least_percent(positions, split, config)
    return f"{advice}, or use --{split.value}-percent {mended}" if mended else advice


def _least_percent(positions: Mapping[str, Sequence[float]], split: Split, config: DatasetConfig) -> int | None:
    """The least whole percentage, up to 50, with which these very photos would do."""
    for percent in range(1, 51):
        if split is Split.TEST:
            wider = DatasetConfig(config.validation_percent, percent)
        else:
            wider = DatasetConfig(percent, config.test_percent)
        needed = {split, Split.TRAIN, Split.TEST} if wider.test_percent + wider.validation_percent < 100 else set()
        if needed and not any(_lacking(positions, each, wider) for each in needed):
            return percent
    return None


def _digest_of_group(group: str) -> str:
    return hashlib.sha256(b"group\0" + os.fsencode(group)).hexdigest()


def _digest_of_groups(digests: Sequence[str]) -> str:
    """The digest of groups that are one: a single group keeps its own. The lowest of several is a low number, and would
    put most of them into test: it is hashed anew.
    """
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(b"groups\0" + min(digests).encode()).hexdigest()


def _digest_of_family(sha256s: Iterable[str]) -> str:
    return hashlib.sha256(b"family\0" + min(sha256s).encode()).hexdigest()


def _position(digest: str) -> float:
    return int(digest[:12], 16) / 16**12 * 100


class _Union:
    """Sets of strings that grow together."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, item: str) -> str:
        while (parent := self._parent.get(item, item)) != item:
            self._parent[item] = self._parent.get(parent, parent)
            item = parent
        return item

    def join(self, one: str, other: str) -> None:
        self._parent[self.root(one)] = self.root(other)
