"""Assigns photos to training, validation and test by their content, independently of their location.

A photo has a position from 0 to 100 that is derived from the sha256 of its content. Test photos have positions below
`test_percent`, validation photos the last `validation_percent`; the rest are training photos. So renaming, moving or
adding photos moves no other photo, the rule is the same in each class, and identical photos are in the same split.

Near-copies of a photo (crops, re-encodings, video frames; found by near_copies/) form a family with one position,
derived from its lowest sha256. That sha256 is hashed again, because the minimum of several is a low number, which would
put most families into test. Photos without near-copies keep their position.

Photos of one group (`<group>_nohash_<anything>`, as in the TensorFlow for Poets codelab: photos of one object) stay
together: their position is derived from the group's name. Groups that share a photo or a near-copy are merged, and
their position is derived from all of them; a copy outside any group gets the position of the group.

A rule that looks at one photo at a time cannot guarantee each class a test photo: small classes may get none.
`check_splits` names those classes and suggests what to do.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.core.types import Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Explained = Callable[[Sequence[str]], str]
    """A function of the classes that lack photos, which returns the reasons for the end of an error's message."""

_GROUP_MARK = "_nohash_"

_MIN_PER_CLASS = 3
"""Minimum number of photos of a class: one for training, one for validation, one for test."""

_log = logging.getLogger(__name__)


def no_explanation(lacking: Sequence[str]) -> str:
    """Return "": nothing is known about why these classes lack photos."""
    return ""


@dataclass(frozen=True)
class DatasetConfig:
    """How photos are labelled and split, and whether an unusable file is an error (`strict`) or is left out.

    `labels` is the path of the label file; if empty, it is searched for. `class_folders` treats every folder as a
    class, whatever its name.
    """

    validation_percent: float = 10
    test_percent: float = 10
    strict: bool = False
    labels: str = ""
    class_folders: bool = False


def check_config(config: DatasetConfig) -> None:
    """Raise BadInput unless every split can get photos."""
    for name, percent in (("test", config.test_percent), ("validation", config.validation_percent)):
        if not (math.isfinite(percent) and 0 < percent < 100):
            raise BadInput(
                f"the percentage of {name} photos must be above 0 and below 100, not {percent}",
                hint=f"give for example --{name}-percent 10",
                code="TP2075",
            )
    if config.test_percent + config.validation_percent >= 100:
        raise BadInput(
            f"{config.test_percent} % of the photos for test and {config.validation_percent} % for validation leave "
            "none for training",
            hint="give for example --test-percent 10 --validation-percent 10",
            code="TP2076",
        )


def positions_of(files: Sequence[tuple[str, str]], families: Iterable[Sequence[str]] = ()) -> list[float]:
    """Return the position, 0 to 100, of each file, given as (file name, sha256 of its content).

    `families` are groups of sha256s of near-copies: each family has one position. A family with a photo of a
    `_nohash_` group gets the position of the group.
    """
    families = tuple(families)
    union = _union_of(files, families)
    group_digests: dict[str, list[str]] = defaultdict(list)
    for digest in {digest for name, _ in files if (digest := _group_in(name))}:
        group_digests[union.root(digest)].append(digest)
    digest_of_root = {root: _digest_of_groups(digests) for root, digests in group_digests.items()}
    family_members: dict[str, list[str]] = defaultdict(list)
    for sha256 in {sha256 for family in families for sha256 in family}:
        family_members[union.root(sha256)].append(sha256)
    digest_of_root = {root: _digest_of_family(sha256s) for root, sha256s in family_members.items()} | digest_of_root
    return [position_of_digest(digest_of_root.get(union.root(sha256), sha256)) for _, sha256 in files]


def independent_groups(
    files: Sequence[tuple[str, str]],
    families: Iterable[Sequence[str]] = (),
    others: Iterable[tuple[str, str]] = (),
) -> list[int]:
    """Return the number, from 0, of the independent group of each file, given as (file name, sha256 of its content).

    Files are in one group if they have equal bytes, belong to one `_nohash_` group, or to one of `families` of
    near-copies (sha256s), directly or through other files. `others` are more files that connect groups.
    """
    union = _union_of(chain(files, others), families)
    roots = np.fromiter((bytes.fromhex(union.root(sha256)) for _, sha256 in files), "S32", len(files))
    _, first, group_of = np.unique(roots, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    groups: list[int] = number[group_of].tolist()
    return groups


def _union_of(files: Iterable[tuple[str, str]], families: Iterable[Sequence[str]]) -> _Union:
    """Join photos (sha256) with the digests of their groups, and the photos of each family with each other."""
    union = _Union()
    for name, sha256 in files:
        if group := _group_in(name):
            union.join(group, sha256)
    for first, *others in families:
        for other in others:
            union.join(first, other)
    return union


def _group_in(name: str) -> str:
    """Return the digest of the group in a file's name; empty if there is none."""
    group, mark, _ = name.partition(_GROUP_MARK)
    return _digest_of_group(group) if mark else ""


def checked_splits(
    photo_labels: Sequence[str],
    positions: Sequence[float],
    labels: Sequence[str],
    config: DatasetConfig,
    explained: Explained = no_explanation,
) -> list[Split]:
    """Return the split of each photo by its label and position. Raises BadInput like `check_splits`."""
    by_label: dict[str, list[float]] = {label: [] for label in labels}
    for label, position in zip(photo_labels, positions, strict=True):
        by_label[label].append(position)
    check_splits(by_label, config, explained)
    return [split_at(position, config) for position in positions]


def ranked_splits(photo_labels: Sequence[str], positions: Sequence[float], config: DatasetConfig) -> list[Split]:
    """Return the split of each photo by its rank among the positions of its class, for a classifier trained elsewhere.

    The percentages hold for every class, however few photos it has: a class of two has a training and a test photo, a
    class of three one of each split. Unlike `checked_splits`, more photos may move a photo to another split.
    """
    ranks: dict[str, list[int]] = {}
    for index in sorted(range(len(positions)), key=positions.__getitem__):
        ranks.setdefault(photo_labels[index], []).append(index)
    splits = [Split.TRAIN] * len(positions)
    for indices in ranks.values():
        count = len(indices)
        test = max(1, round(count * config.test_percent / 100))
        validation = max(int(count > 2), round(count * config.validation_percent / 100))
        for rank, index in enumerate(indices):
            if rank < test:
                splits[index] = Split.TEST
            elif rank >= max(count - validation, min(test + 1, count)):
                splits[index] = Split.VALIDATION
    return splits


def split_at(position: float, config: DatasetConfig) -> Split:
    """Return the split of a photo at this position."""
    if position < config.test_percent:
        return Split.TEST
    return Split.VALIDATION if position >= 100 - config.validation_percent else Split.TRAIN


def check_splits(
    positions: Mapping[str, Sequence[float]], config: DatasetConfig, explained: Explained = no_explanation
) -> None:
    """Raise BadInput if a class has no training or test photo, or if no class has a validation photo.

    `positions` has those of each class's photos. If only some classes lack validation photos, a warning is logged.
    `explained` ends the message.
    """
    for split in (Split.TEST, Split.TRAIN):
        lacking = _lacking(positions, split, config)
        if lacking:
            raise BadInput(
                f"{_lacking_message(lacking, positions, split)}{explained(lacking)}",
                hint=_remedy(positions, split, config),
                code="TP2077",
            )
    lacking = _lacking(positions, Split.VALIDATION, config)
    if len(lacking) == len(positions):
        raise BadInput(
            f"{_lacking_message(lacking, positions, Split.VALIDATION)}{explained(lacking)}",
            hint=_remedy(positions, Split.VALIDATION, config),
            code="TP2078",
        )
    if lacking:
        _log.warning(
            "%s; only the other classes are used to choose the best training step",
            _lacking_message(lacking, positions, Split.VALIDATION),
        )


def _lacking(positions: Mapping[str, Iterable[float]], split: Split, config: DatasetConfig) -> list[str]:
    """Return the labels without a photo in a split."""
    return [
        label for label, own in positions.items() if all(split_at(position, config) is not split for position in own)
    ]


def _lacking_message(lacking: Sequence[str], positions: Mapping[str, Sequence[float]], split: Split) -> str:
    first = lacking[0]
    count, distinct = len(positions[first]), len(set(positions[first]))
    photos = "1 photo" if count == 1 else f"{count} photos"
    if distinct < count:
        photos += f" (only {distinct} if copies, near-copies and {_GROUP_MARK} groups are counted once)"
    others = f"; the same applies to {len(lacking) - 1} more, such as {lacking[1]!r}" if len(lacking) > 1 else ""
    return f"class {first!r} has {photos}, but none in the {split.value} split{others}"


def _remedy(positions: Mapping[str, Sequence[float]], split: Split, config: DatasetConfig) -> str:
    if split is Split.TRAIN:
        return (
            f"add photos; a class needs at least {_MIN_PER_CLASS}: one for training, one for validation, one for test"
        )
    percent = config.test_percent if split is Split.TEST else config.validation_percent
    missed = 1 - 0.95 ** (1 / len(positions))
    enough = max(_MIN_PER_CLASS, math.ceil(math.log(missed) / math.log(1 - percent / 100)))
    least = f"add photos: a class needs at least {_MIN_PER_CLASS}"
    advice = f"{least}; with {enough} in each, every class gets one in 19 of 20 cases"
    percent_needed = _least_percent(positions, split, config)
    return f"{advice}, or use --{split.value}-percent {percent_needed}" if percent_needed else advice


def _least_percent(positions: Mapping[str, Sequence[float]], split: Split, config: DatasetConfig) -> int | None:
    """Return the lowest whole percentage, up to 50, that is enough for these photos; None if there is none."""
    for percent in range(1, 51):
        if split is Split.TEST:
            wider = DatasetConfig(config.validation_percent, percent)
        else:
            wider = DatasetConfig(percent, config.test_percent)
        needed = {split, Split.TRAIN, Split.TEST} if wider.test_percent + wider.validation_percent < 100 else set()
        if needed and not any(_lacking(positions, other, wider) for other in needed):
            return percent
    return None


def _digest_of_group(group: str) -> str:
    return hashlib.sha256(b"group\0" + os.fsencode(group)).hexdigest()


def _digest_of_groups(digests: Sequence[str]) -> str:
    """Return the digest of merged groups; a single group keeps its own.

    The minimum is hashed again, because it is a low number, which would put most merged groups into test.
    """
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(b"groups\0" + min(digests).encode()).hexdigest()


def _digest_of_family(sha256s: Iterable[str]) -> str:
    return hashlib.sha256(b"family\0" + min(sha256s).encode()).hexdigest()


def position_of_digest(digest: str) -> float:
    """Return the position, from 0 to below 100, that a hexadecimal digest stands for."""
    return int(digest[:12], 16) / 16**12 * 100


class _Union:
    """Disjoint sets of strings (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, item: str) -> str:
        while (parent := self._parent.get(item, item)) != item:
            self._parent[item] = self._parent.get(parent, parent)
            item = parent
        return item

    def join(self, one: str, other: str) -> None:
        self._parent[self.root(one)] = self.root(other)
