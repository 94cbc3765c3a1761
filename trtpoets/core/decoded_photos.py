"""Keeps decoded photos for the length of one command, so that its steps decode each photo once."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from trtpoets.core.types import Photo, Preprocess
from trtpoets.core.verified_files import Stamp, kept_in_block, stamp_of

LIMIT = 384 << 20
"""Bytes of pixels that are kept: 2,600 photos of 224 x 224."""

_Key = Tuple[str, str, Stamp]


class DecodedStore:
    """The pixels of photos of a dataset, verified when they were decoded; photos beyond the limit are not kept.

    The key contains the state of the file, so that a photo that changed is read and verified again. Threads may share
    it: each operation on the dict is atomic, and two threads that decode the same photo store equal pixels.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._pixels: dict[_Key, np.ndarray] = {}
        self._free = limit

    def holds(self, photos: int, preprocess: Preprocess) -> bool:
        """Return whether so many photos more can be kept."""
        return photos * preprocess.height * preprocess.width * 3 <= self._free

    def key(self, photo: object, preprocess: Preprocess) -> _Key | None:
        """Return the key of a photo as its file is now; None where its pixels can't be kept.

        A path has no sha256 with which its bytes were compared. Call it before the file is read.
        """
        stamp = stamp_of(photo.path) if isinstance(photo, Photo) and photo.sha256 else None
        if stamp is None or not isinstance(photo, Photo):
            return None
        return photo.sha256, preprocess.hash, stamp

    def get(self, key: _Key | None) -> np.ndarray | None:
        """Return the pixels of a photo, uint8 (H, W, 3), read only; None if they are not kept."""
        return None if key is None else self._pixels.get(key)

    def add(self, key: _Key | None, pixels: np.ndarray) -> None:
        """Keep a copy of pixels that were decoded from the file of `key`, unless the limit is reached."""
        if key is None or key in self._pixels or pixels.nbytes > self._free:
            return
        self._free -= pixels.nbytes
        own = pixels.copy()
        own.flags.writeable = False
        self._pixels[key] = own


def decoded_store() -> DecodedStore | None:
    """Return the store of the present command; None outside of one."""
    return kept_in_block("decoded photos", DecodedStore)
