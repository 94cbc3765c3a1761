"""Computes perceptual hashes: 64 bits that are similar for similar photos, whatever their size and exposure."""

from __future__ import annotations

from itertools import chain

import numpy as np

from trtpoets.core.optional import needs
from trtpoets.train.row_file import blocks_of


def hashes_of(thumbnails: np.ndarray) -> np.ndarray:
    """Return the pHash of thumbnails uint8 (N, S, S) and of their mirror images: bool (N, 2, 64).

    Raises MissingDependency without the package imagehash.
    """
    with needs("convert", reason="the search for copies of photos"):
        import imagehash
    from PIL import Image

    bits = np.zeros((len(thumbnails), 2, 64), dtype=bool)
    for row, thumbnail in zip(bits, chain.from_iterable(blocks_of(thumbnails)), strict=True):
        for way, pixels in enumerate((thumbnail, np.ascontiguousarray(thumbnail[:, ::-1]))):
            row[way] = imagehash.phash(Image.fromarray(pixels)).hash.reshape(-1)
    return bits
