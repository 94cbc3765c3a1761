"""Thumbnails after their local mean and contrast were evened out, a byte a pixel, and what many of them share."""

from __future__ import annotations

import numpy as np

from trtpoets.core.optional import needs
from trtpoets.train.near_copies.alignment import SIDE, centres, evened, windows

_SAMPLE = 600
"""So many photos, and their mirror images, say what photos share."""

_WIDTH = 32
"""Numbers that describe a window."""

_KEPT = 6000
"""Windows of so many photos are kept (8 KiB a photo), because two searches ask for the same ones."""

_PHOTOS_A_PATTERN = 60
_PATTERNS = 48


class Evened:
    """Evened thumbnails of all photos. `common(images)` is what they have in common with many other photos."""

    def __init__(self, thumbnails: np.ndarray) -> None:
        self._thumbnails = thumbnails
        self._basis = self._patterns()
        self._mean, self._directions = self._whitening()
        self._windows: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._thumbnails)

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Evened thumbnails of the photos `rows`: float32 (N, SIDE, SIDE)."""
        return evened(self._thumbnails[rows])

    def grey(self, rows: np.ndarray) -> np.ndarray:
        """The thumbnails themselves of the photos `rows`: float32 (N, SIDE, SIDE)."""
        result: np.ndarray = self._thumbnails[rows].astype(np.float32)
        return result

    def windows(self, rows: np.ndarray) -> np.ndarray:
        """What describes each window of the photos `rows`: float32 (N, places, k), each of length 1 (to 3 digits)."""
        lacking = [row for row in rows.tolist() if row not in self._windows]
        if not lacking:
            return np.stack([self._windows[row] for row in rows.tolist()]).astype(np.float32)
        # Rounded whether they are kept or not: what is found doesn't depend on which photos were asked for before.
        found = self._described(windows(self.images(rows))).astype(np.float16)
        if len(self._windows) + len(lacking) <= _KEPT:
            self._windows.update(zip(rows.tolist(), found, strict=True))
        return found.astype(np.float32)

    def middles(self, rows: np.ndarray) -> np.ndarray:
        """The same of the middles of the photos `rows` and of their mirror images: float32 (N, 2, k)."""
        found = []
        for start in range(0, len(rows), 256):
            images = self.images(rows[start : start + 256])
            found.append(np.stack([centres(images), centres(images[:, :, ::-1])], axis=1))
        return self._described(np.concatenate(found))

    def common(self, images: np.ndarray) -> np.ndarray:
        """The part of images (N, SIDE, SIDE) that patterns of many photos make up."""
        flat = images.reshape(len(images), -1)
        result: np.ndarray = ((flat @ self._basis) @ self._basis.T).reshape(images.shape)
        return result

    def _described(self, samples: np.ndarray) -> np.ndarray:
        found: np.ndarray = (samples - self._mean) @ self._directions
        result: np.ndarray = found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-9)
        return result

    def _whitening(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and directions of windows, scaled so that what most of them share weighs no more than the rest."""
        rows = np.unique(np.linspace(0, len(self) - 1, min(len(self), _SAMPLE // 4)).astype(np.int64))
        images = self.images(rows)
        samples = np.concatenate([windows(each)[:, ::4] for each in (images, images[:, :, ::-1])])
        samples = samples.reshape(-1, samples.shape[-1])
        mean = samples.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((samples - mean).T).astype(np.float64))
        values, vectors = values[::-1][:_WIDTH], vectors[:, ::-1][:, :_WIDTH]
        scaled: np.ndarray = vectors / np.sqrt(np.maximum(values, 1e-9) + 0.1 * values[-1])
        return mean, scaled.astype(np.float32)

    def _patterns(self) -> np.ndarray:
        """Orthogonal patterns (pixels, k) that many photos share; fewer where photos are few, so that none is of one.

        A pattern counts when the photos that it is strong in are many: a twentieth of all.
        """
        with needs("convert", reason="the search for copies of photos"):
            from scipy.linalg import eigh
        total = len(self)
        rows = np.unique(np.linspace(0, total - 1, min(total, _SAMPLE)).astype(np.int64))
        count = min(_PATTERNS, total // _PHOTOS_A_PATTERN)
        images = self.images(rows)
        flat = np.concatenate([images, images[:, :, ::-1]]).reshape(-1, SIDE * SIDE)
        if not count:
            return np.zeros((SIDE * SIDE, 0), dtype=np.float32)
        last = len(flat) - 1
        _, vectors = eigh(flat @ flat.T, subset_by_index=(max(0, last - 2 * count + 1), last))
        vectors = vectors[:, ::-1]
        many = 1 / np.maximum((vectors**4).sum(axis=0), 1e-12) >= len(flat) / 20
        patterns = flat.T @ vectors[:, many][:, :count].astype(np.float32)
        basis: np.ndarray = patterns / np.maximum(np.linalg.norm(patterns, axis=0), 1e-6)
        return basis
