"""Puts each family of near-copies of a dataset into one split."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.train.photo_table import files_of
from trtpoets.train.split import checked_splits, independent_groups, position_of_digest, positions_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.core.types import Photo
    from trtpoets.train.dataset import Dataset

_log = logging.getLogger(__name__)


def with_families(dataset: Dataset, families: Sequence[Sequence[int]]) -> Dataset:
    """Return the dataset with its families (indices of photos), each of them in one split.

    Photos outside of families keep their split. If the folder gave the splits, all photos keep theirs, and copies in
    several splits are only reported. Raises BadInput if a class has no training or test photo afterwards.
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
            "%s photos under several labels, for example %s and %s",
            "1 family of near-copies has" if several == 1 else f"{several} families of near-copies have",
            one.path,
            other.path,
        )
    if dataset.splits_given:
        return dataset
    positions = positions_of(photos.files, dataset.families)
    splits = checked_splits(photos.labels, positions, dataset.labels, dataset.config)
    return replace(dataset, photos=photos.with_splits(splits))


def groups_of(photos: Sequence[Photo], dataset: Dataset | None = None) -> tuple[int, ...]:
    """Return the independent group of each photo: equal for equal bytes, a `_nohash_` group, a family of `dataset`.

    The other photos of `dataset`, of any split, connect groups too.
    """
    if dataset is None:
        return tuple(independent_groups(files_of(photos)))
    others = () if photos is dataset.photos else dataset.photos.files
    return tuple(independent_groups(files_of(photos), dataset.families, others))


def positions_of_groups(groups: np.ndarray, sha256: Sequence[str], prefix: str) -> np.ndarray:
    """Return a pseudo-random position for each photo, float64 (N,), 0 to 100; the photos of a group have the same one.

    It depends on the `sha256` of the photos in the group, int (N,), and on `prefix`, which distinguishes draws.
    """
    lowest: dict[int, str] = {}
    for group, digest in zip(groups.tolist(), sha256, strict=True):
        lowest[group] = min(digest, lowest.get(group, digest))
    drawn = {
        group: position_of_digest(hashlib.sha256(f"{prefix}{digest}".encode()).hexdigest())
        for group, digest in lowest.items()
    }
    return np.array([drawn[group] for group in groups.tolist()], dtype=np.float64)


def across_splits(dataset: Dataset) -> dict[str, list[Photo]]:
    """Return the photos of each family with photos in several splits, by the family's first sha256."""
    family_of = {sha256: family[0] for family in dataset.families for sha256 in family}
    members: dict[str, list[Photo]] = defaultdict(list)
    for row, sha256 in enumerate(dataset.photos.sha256s):
        if sha256 in family_of:
            members[family_of[sha256]].append(dataset.photos[row])
    return {name: group for name, group in members.items() if len({photo.split for photo in group}) > 1}
