"""Finds possible copies by file names: tools and cameras add a suffix or number to the name of a copy.

A name alone does not prove anything: two photos with the same stem are candidates that need less visual evidence than
others.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARKS = re.compile(
    r"""(?:
        \.rf\.[0-9a-z]{6,}                                              # Roboflow
      | [\s._-]*(?:aug(?:mented|mentation)?|copy|kopie|copie|copia|flip(?:ped)?|rot(?:ated?)?|crop(?:ped)?
        |mirror(?:ed)?|bright(?:ness)?|dark|noise|blur(?:red)?|resized?|edited|burst\w*?)[\s._-]*\d*
      | [\s._-]*\(\d+\)                                                 # browsers and Windows
      | [\s._-](?:jpe?g|png|webp|bmp)                                   # Roboflow keeps the old ending
    )$""",
    re.IGNORECASE | re.VERBOSE,
)
_PREFIX = re.compile(r"^(?:aug(?:mented)?_?\d*|copy of|kopie von|copie de)[\s._-]*", re.IGNORECASE)
_FRAME = re.compile(
    r"^(?P<stem>.*(?:frame|video|vid|burst|clip|mov|seq(?:uence)?|snapshot)[^0-9]*)(?P<number>\d{1,9})$", re.IGNORECASE
)
"""Names of video frames. Other names that end in a number are too common to indicate copies."""

_NEAR = 3
"""Largest difference of the numbers of frames that may be near-copies."""


def stem_of(name: str) -> str:
    """Return the name of the original of a file, without copy marks: `rose_aug3.jpg`, `rose (2).jpg` -> `rose`."""
    stem = _PREFIX.sub("", PurePath(name).stem)
    while stem and (shorter := _MARKS.sub("", stem)) != stem and shorter:
        stem = shorter
    return stem.casefold()


def pairs_by_name(names: Sequence[tuple[str, str]], most: int = 12) -> set[tuple[int, int]]:
    """Return pairs (lower, higher index) of files, given as (folder, name), whose names indicate copies.

    These are files with the same stem, and files of one folder with almost the same number at the end of the name; at
    most `most` pairs per file.
    """
    stems: dict[str, list[int]] = defaultdict(list)
    frames: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    hashes = np.fromiter((hash(stem_of(name)) for _, name in names), np.int64, len(names))
    _, stem_number, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    for index, ((folder, name), repeated) in enumerate(zip(names, (counts[stem_number] > 1).tolist(), strict=True)):
        stem = stem_of(name)
        if repeated:  # the stems of all photos would need much memory
            stems[stem].append(index)
        match = _FRAME.match(stem)
        if match:
            frames[folder, match["stem"]].append((int(match["number"]), index))
    pairs: set[tuple[int, int]] = set()
    for group in stems.values():
        for place, first in enumerate(group):
            pairs.update((first, second) for second in group[place + 1 : place + 1 + most])
    for numbered in frames.values():
        numbered.sort()
        for place, (number, first) in enumerate(numbered):
            for other, second in numbered[place + 1 : place + 1 + _NEAR]:
                if other - number <= _NEAR:
                    pairs.add((min(first, second), max(first, second)))
    return pairs
