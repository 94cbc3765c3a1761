"""A dataset whose families of near-copies are each in one split."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from trtpoets.train.split import checked_splits, independent_groups, positions_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.core.types import Photo
    from trtpoets.train.dataset import Dataset

_log = logging.getLogger(__name__)


def with_families(dataset: Dataset, families: Sequence[Sequence[int]]) -> Dataset:
    """The dataset with its families (indices of photos) recorded, and each of them in one split.

    Photos outside of families keep their split. So do all photos where the folder gave the splits: copies across them
    are only reported. Raises BadInput when a class is left without a photo to train on or to test.
    """
    photos = dataset.photos
    named = tuple(tuple(sorted({photos[index].sha256 for index in family})) for family in families)
    dataset = replace(dataset, families=tuple(sorted(family for family in named if len(family) > 1)))
    if not dataset.families:
        return dataset
    groups = [[photos[index] for index in family] for family in families]
    several = sum(len({photo.label for photo in group}) > 1 for group in groups)
    count = sum(map(len, groups))
    _log.info("%d families of near-copies with %d of %d photos", len(groups), count, len(photos))
    if several:
        first = next(group for group in groups if len({photo.label for photo in group}) > 1)
        one, other = first[0], next(photo for photo in first if photo.label != first[0].label)
        _log.warning(
            "%s under several labels: %s and %s, for example",
            "1 family of near-copies lies" if several == 1 else f"{several} families of near-copies lie",
            one.path,
            other.path,
        )
    if dataset.splits_given:
        return dataset
    positions = positions_of([(photo.path.name, photo.sha256) for photo in photos], dataset.families)
    splits = checked_splits([photo.label for photo in photos], positions, dataset.labels, dataset.config)
    divided = (replace(photo, split=split) for photo, split in zip(photos, splits, strict=True))
    return replace(dataset, photos=tuple(divided))


def groups_of(photos: Sequence[Photo], dataset: Dataset | None = None) -> tuple[int, ...]:
    """The independent group of each photo: equal for equal bytes, one `_nohash_` group, one family of `dataset`.

    The other photos of `dataset`, of whatever split, join groups too.
    """
    files = [(photo.path.name, photo.sha256) for photo in (*photos, *(dataset.photos if dataset else ()))]
    return tuple(independent_groups(files, dataset.families if dataset else ())[: len(photos)])


def across_splits(dataset: Dataset) -> dict[str, list[Photo]]:
    """The photos of each family that lies in several splits, by the family's first sha256."""
    family_of = {sha256: family[0] for family in dataset.families for sha256 in family}
    found: dict[str, list[Photo]] = defaultdict(list)
    for photo in dataset.photos:
        if photo.sha256 in family_of:
            found[family_of[photo.sha256]].append(photo)
    return {name: group for name, group in found.items() if len({photo.split for photo in group}) > 1}
