"""Caches what reading a photo file gave, so that a file that did not change is not read, hashed and decoded again.

A file is recognised by its path, and by the size, the inode and the times of modification and change that its disk
gives it, as git does, so that machines that share a disk share the readings. Code that uses the photo itself still
compares its bytes with the sha256.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trtpoets.core.verified_files import stamp_of
from trtpoets.train.feature_cache import FeatureCache

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ROW = np.dtype([("sha256", "u1", (32,)), ("levels", "<i4"), ("unused", "<i4")])

_SETTLED_NS = 2 * 10**9
"""A file that changed less than so long ago may change again without another time: disks count it in ticks."""


class Reading(NamedTuple):
    """The sha256 of a photo file that can be decoded, and its `levels` as in `CheckedFile`."""

    sha256: str
    levels: int


class ReadingCache:
    """The readings in the feature cache in `folder`."""

    def __init__(self, folder: Path) -> None:
        # The rows of a feature cache are float32: ten numbers hold the bytes of a reading.
        self._cache = FeatureCache(folder, "readings of photos", _ROW.itemsize // 4)

    def of(self, identities: Sequence[str]) -> list[Reading | None]:
        """Return the reading of each file, given by its `identity_of`; None if there is none. Raises StorageFailed."""
        names = [identity for identity in identities if identity]
        rows = np.zeros((len(names), _ROW.itemsize // 4), np.float32)
        filled = self._cache.fill(names, rows)
        values = rows.view(np.uint8).view(_ROW).reshape(-1)
        found = iter(
            [
                Reading(value["sha256"].tobytes().hex(), int(value["levels"])) if known else None
                for value, known in zip(values, filled.tolist(), strict=True)
            ]
        )
        return [next(found) if identity else None for identity in identities]

    def add(self, identities: Sequence[str], readings: Sequence[Reading]) -> None:
        """Add the readings of files that have an identity. Raises StorageFailed."""
        values = np.zeros(len(readings), _ROW)
        for value, reading in zip(values, readings, strict=True):
            value["sha256"] = np.frombuffer(bytes.fromhex(reading.sha256), np.uint8)
            value["levels"] = reading.levels
        self._cache.append(identities, values.view(np.uint8).reshape(len(readings), -1).view(np.float32))


def identity_of(path: Path) -> str:
    """Return the identity of a file, a sha256, by which its reading is stored.

    It is empty for what is not a regular file, and for a file that may still change without being noticed: one that
    changed a moment ago, or on a disk that keeps no times.
    """
    stamp = stamp_of(path, _SETTLED_NS)
    if stamp is None:
        return ""
    _, inode, size, modified, changed = stamp  # the number of the device differs between machines
    if not changed:
        return ""
    fields = (size, inode, modified, changed)
    return hashlib.sha256(b"\0".join([os.fsencode(path), *(str(field).encode() for field in fields)])).hexdigest()
