"""Handles splits that a folder or label file gives: keeps them, adds missing ones, and checks them."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.types import Split
from trtpoets.train.split import DatasetConfig, no_explanation, split_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.train.folders.photo_files import CheckedFile
    from trtpoets.train.split import Explained

_log = logging.getLogger(__name__)

_NAMED = 5


def splits_with_given(
    files: Sequence[CheckedFile],
    positions: Sequence[float],
    config: DatasetConfig,
    explained: Explained = no_explanation,
) -> list[Split]:
    """Return the split of each file, some of which have given splits. `positions` come from `positions_of`.

    Given splits are kept. If no file is given for test (or validation), training files are divided as without given
    splits. Raises BadInput if a class has no training photo, or no photo is left for test or validation; with
    `config.strict` also if a photo is in two splits. `explained` ends the message about classes without photos.
    """
    present = {file.split for file in files}
    splits = []
    for file, position in zip(files, positions, strict=True):
        split = file.split or Split.TRAIN
        by_position = split_at(position, config)
        splits.append(by_position if split is Split.TRAIN and by_position not in present else split)
    _check(files, splits, explained)
    _report_copies(files, splits, config)
    return splits


def _check(files: Sequence[CheckedFile], splits: Sequence[Split], explained: Explained) -> None:
    labels = sorted({file.label for file in files})
    for split in (Split.TRAIN, Split.TEST, Split.VALIDATION):
        present = {file.label for file, own_split in zip(files, splits, strict=True) if own_split is split}
        lacking = [label for label in labels if label not in present]
        if not lacking:
            continue
        some = ", ".join(repr(label) for label in lacking[:_NAMED])
        more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
        kind = "training" if split is Split.TRAIN else split.value
        classes, them = ("class", "it") if len(lacking) == 1 else ("the classes", "them")
        message = f"there is no {kind} photo of {classes} {some}{more}"
        if split is Split.TRAIN:
            raise BadInput(
                f"{message}{explained(lacking)}",
                hint=f"add training photos of {them}, or remove {them} from the other splits too",
                code="TP2032",
            )
        if not present:
            raise BadInput(
                f"there is no {split.value} photo{explained(lacking)}",
                hint=f"put some photos of each class into the folder {split.value}",
                code="TP2033",
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
    message = f"{photos} in several of the given splits with equal bytes: {first}"
    if config.strict:
        raise BadInput(message, hint="keep the copies in one split only, or omit --strict", code="TP2034")
    _log.warning("%s; results on copies of training photos are too good", message)
