"""Folder names that say what a folder is for, not what its photos show: train, test, images, labels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trtpoets.core.types import Split

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORDS = {
    Split.TRAIN: "train|training|trn",
    Split.VALIDATION: "val|valid|validation|validate|validating|dev",
    Split.TEST: "test|testing|tst",
}
_THINGS = "set|sets|data|dataset|images?|imgs?|photos?|pictures?|split|dir|folder|files?"
_SPLITS = {
    split: re.compile(rf"(({_THINGS})[ _-]?)?({words})([ _-]?({_THINGS}))?", re.IGNORECASE)
    for split, words in _WORDS.items()
}
_ENDS = {split: re.compile(rf"(.+)[ _-]({words})", re.IGNORECASE) for split, words in _WORDS.items()}

_CONTAINERS = re.compile(
    r"(all|raw|original|processed|resized|cropped)?[ _-]?(images?|imgs?|photos?|pictures?|pics|data|datasets?)"
    r"|jpe?gs?|jpegimages|pngs?|files|samples"
    r"|all|raw|images?[ _-]?\d+|img[ _-]?(dir|data)|classes|class[ _-]?folders|content|input",
    re.IGNORECASE,
)
_SIDES = re.compile(
    r"(labels?|annotations?|annots?|anns?|masks?|bboxe?s?|bounding[ _-]?boxes|segmentations?|seg|imagesets"
    r"|segmentationclass|segmentationobject|trimaps?|metadata|meta|json"
    r"|xmls?|csvs?|docs?|scripts?|ground[ _-]?truths?|gt)",
    re.IGNORECASE,
)
_UNLABELLED = re.compile(
    r"(.+[ _-])?(pred|preds|predict|predictions?|unlabell?ed|unsup|inference|submissions?)", re.IGNORECASE
)


def split_of(name: str) -> Split | None:
    """The split that a folder or file of this name holds: "train", "Training", "valid", "test_images", ..."""
    name = name.strip()
    return next((split for split, pattern in _SPLITS.items() if pattern.fullmatch(name)), None)


def splits_of(names: Sequence[str]) -> dict[str, Split]:
    """The splits of those of these names that have one. Names that differ by it alone count: seg_train, seg_test."""
    found = {name: split for name in names if (split := split_of(name))}
    ends: dict[str, dict[str, Split]] = {}
    for name in names:
        for split, pattern in _ENDS.items():
            if match := pattern.fullmatch(name.strip()):
                ends.setdefault(match[1].lower(), {})[name] = split
    for each in ends.values():
        if len(set(each.values())) > 1 and Split.TRAIN in each.values():
            found.update(each)
    return found


def is_container(name: str) -> bool:
    """Whether the name says only that photos, or their folders, are inside: images, data, photos."""
    return bool(_CONTAINERS.fullmatch(name.strip()))


def is_side(name: str) -> bool:
    """Whether the name says that something beside photos is inside: labels, annotations, masks."""
    return bool(_SIDES.fullmatch(name.strip()))


def is_unlabelled(name: str) -> bool:
    """Whether the name says that photos without labels are inside: pred, unlabeled."""
    return bool(_UNLABELLED.fullmatch(name.strip()))


def class_like(names: Sequence[str]) -> frozenset[str]:
    """Those of these names of roles that are classes, as a name beside them has the same word: mask beside no_mask.

    Names of splits are none: test beside test_2 says what both are for.
    """
    words = {name: set(re.split(r"[^\w]|_", name.lower())) for name in names if not is_role(name)}
    return frozenset(
        name
        for name in names
        if (is_side(name) or is_container(name)) and any(name.strip().lower() in each for each in words.values())
    )


def is_role(name: str) -> bool:
    """Whether a folder of this name is not taken as a class unless the user says so."""
    return split_of(name) is not None or is_container(name) or is_side(name) or is_unlabelled(name)
