"""Splits that a folder or a file of labels gives: kept as they are, completed where one is missing, looked at."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.types import Split
from trtpoets.train.split import DatasetConfig, split_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.train.folders.photo_files import CheckedFile

_log = logging.getLogger(__name__)

_NAMED = 5


def splits_with_given(files: Sequence[CheckedFile], positions: Sequence[float], config: DatasetConfig) -> list[Split]:
    """The split of each file, some of which are given. `positions` are the files' of `positions_of`.

    A given split stays. Where no file is given for test (or validation), those for training are divided as they would
    be without given splits. Raises BadInput when a class has no photo to train on, or nothing is left to test or to
    validate; with `config.strict` also for the same photo in two splits.
    """
    there = {file.split for file in files}
    splits = []
    for file, position in zip(files, positions, strict=True):
        split = file.split or Split.TRAIN
        drawn = split_at(position, config)
        splits.append(drawn if split is Split.TRAIN and drawn not in there else split)
    _check(files, splits)
    _report_copies(files, splits, config)
    return splits


def _check(files: Sequence[CheckedFile], splits: Sequence[Split]) -> None:
    labels = sorted({file.label for file in files})
    for split in (Split.TRAIN, Split.TEST, Split.VALIDATION):
        there = {file.label for file, its in zip(files, splits, strict=True) if its is split}
        lacking = [label for label in labels if label not in there]
        if not lacking:
            continue
        some = ", ".join(repr(label) for label in lacking[:_NAMED])
        more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
        message = f"no photo for {split.value} of class {some}{more}"
        if split is Split.TRAIN:
            raise BadInput(
                message,
                hint="add photos of it for train, or leave the class out of the other splits too",
                code="TP2032",
            )
        if not there:
            raise BadInput(
                f"no photo for {split.value}", hint=f"put some photos of each class into {split.value}", code="TP2033"
            )
        _log.warning("%s", message)


def _report_copies(files: Sequence[CheckedFile], splits: Sequence[Split], config: DatasetConfig) -> None:
    same: dict[str, list[int]] = defaultdict(list)
    for index, file in enumerate(files):
        same[file.sha256].append(index)
    groups = [group for group in same.values() if len({splits[index] for index in group}) > 1]
    if not groups:
        return
    first = " and ".join(f"{files[index].path} ({splits[index].value})" for index in groups[0][:2])
    photos = "1 photo is" if len(groups) == 1 else f"{len(groups)} photos are"
    message = f"{photos} in several of the given splits, byte for byte: {first}"
    if config.strict:
        raise BadInput(message, hint="delete the copies outside of one split, or leave out --strict", code="TP2034")
    _log.warning("%s; what is measured on copies of training photos is too good", message)
