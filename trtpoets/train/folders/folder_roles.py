"""Recognises folder names that describe the purpose of a folder, not a class: train, test, images, labels."""

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
    """Return the split in the name of a folder or file: "train", "Training", "valid", "test_images", ..."""
    name = name.strip()
    return next((split for split, pattern in _SPLITS.items() if pattern.fullmatch(name)), None)


def splits_of(names: Sequence[str]) -> dict[str, Split]:
    """Return the splits of those names that have one. Names with a common prefix count too: seg_train, seg_test."""
    splits = {name: split for name in names if (split := split_of(name))}
    ends: dict[str, dict[str, Split]] = {}
    for name in names:
        for split, pattern in _ENDS.items():
            if match := pattern.fullmatch(name.strip()):
                ends.setdefault(match[1].lower(), {})[name] = split
    for by_name in ends.values():
        if len(set(by_name.values())) > 1 and Split.TRAIN in by_name.values():
            splits.update(by_name)
    return splits


def is_container(name: str) -> bool:
    """Return whether a folder's name only means that it contains photos or their folders: images, data, photos."""
    return bool(_CONTAINERS.fullmatch(name.strip()))


def is_side(name: str) -> bool:
    """Return whether a folder's name means that it contains no photos: labels, annotations, masks."""
    return bool(_SIDES.fullmatch(name.strip()))


def is_unlabelled(name: str) -> bool:
    """Return whether a folder's name means that its photos have no labels: pred, unlabeled."""
    return bool(_UNLABELLED.fullmatch(name.strip()))


def class_like(names: Sequence[str]) -> frozenset[str]:
    """Return those role names that are classes, because another name contains the same word: mask beside no_mask.

    Names of splits are never classes: test beside test_2 are two folders for testing.
    """
    parts = {name: set(re.split(r"[^\w]|_", name.lower())) for name in names if not is_role(name)}
    return frozenset(
        name
        for name in names
        if (is_side(name) or is_container(name)) and any(name.strip().lower() in own for own in parts.values())
    )


def is_role(name: str) -> bool:
    """Return whether a folder of this name is not used as a class unless the user requests it."""
    return split_of(name) is not None or is_container(name) or is_side(name) or is_unlabelled(name)
