"""Normalises the local contrast of thumbnails, and determines the patterns that many of them share."""

from __future__ import annotations

import numpy as np

from trtpoets.core.optional import needs
from trtpoets.train.near_copies.alignment import SIDE, centres, normalise_contrast, windows
from trtpoets.train.row_file import release

_SAMPLE = 600
"""Number of photos, with their mirror images, from which shared patterns are computed."""

_WIDTH = 32
"""Size of the descriptor of a window."""

_KEPT = 6000
"""Number of photos whose window descriptors are kept (8 KiB per photo), because two searches use them."""

_PHOTOS_PER_PATTERN = 60
_PATTERNS = 48


class NormalisedThumbnails:
    """Thumbnails of all photos with normalised local contrast, window descriptors, and shared patterns."""

    def __init__(self, thumbnails: np.ndarray) -> None:
        self._thumbnails = thumbnails
        self._basis = self._patterns()
        self._mean, self._directions = self._whitening()
        self._windows: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._thumbnails)

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Return the normalised thumbnails of the photos `rows`: float32 (N, SIDE, SIDE)."""
        return normalise_contrast(self._taken(rows))

    def grey(self, rows: np.ndarray) -> np.ndarray:
        """Return the original thumbnails of the photos `rows`: float32 (N, SIDE, SIDE)."""
        result: np.ndarray = self._taken(rows).astype(np.float32)
        return result

    def _taken(self, rows: np.ndarray) -> np.ndarray:
        thumbnails: np.ndarray = self._thumbnails[rows]
        release(self._thumbnails)
        return thumbnails

    def window_descriptors(self, rows: np.ndarray) -> np.ndarray:
        """Return a unit vector for each window of the photos `rows`, to 3 digits: float32 (N, windows, k)."""
        lacking = [row for row in rows.tolist() if row not in self._windows]
        if not lacking:
            return np.stack([self._windows[row] for row in rows.tolist()]).astype(np.float32)
        # Always rounded to float16, so that results do not depend on which descriptors are kept.
        descriptors = self._describe(windows(self.images(rows))).astype(np.float16)
        if len(self._windows) + len(lacking) <= _KEPT:
            self._windows.update(zip(rows.tolist(), descriptors, strict=True))
        return descriptors.astype(np.float32)

    def centre_descriptors(self, rows: np.ndarray) -> np.ndarray:
        """Return a unit vector for the centre of the photos `rows` and of their mirror images: float32 (N, 2, k)."""
        parts = []
        for start in range(0, len(rows), 256):
            images = self.images(rows[start : start + 256])
            parts.append(self._describe(np.stack([centres(images), centres(images[:, :, ::-1])], axis=1)))
        return np.concatenate(parts)

    def common(self, images: np.ndarray) -> np.ndarray:
        """Return the part of images (N, SIDE, SIDE) that consists of patterns shared by many photos."""
        flat = images.reshape(len(images), -1)
        result: np.ndarray = ((flat @ self._basis) @ self._basis.T).reshape(images.shape)
        return result

    def _describe(self, samples: np.ndarray) -> np.ndarray:
        projected: np.ndarray = (samples - self._mean) @ self._directions
        result: np.ndarray = projected / np.maximum(np.linalg.norm(projected, axis=-1, keepdims=True), 1e-9)
        return result

    def _whitening(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and the principal directions of windows, scaled to equal variance."""
        rows = np.unique(np.linspace(0, len(self) - 1, min(len(self), _SAMPLE // 4)).astype(np.int64))
        images = self.images(rows)
        samples = np.concatenate([windows(array)[:, ::4] for array in (images, images[:, :, ::-1])])
        samples = samples.reshape(-1, samples.shape[-1])
        mean = samples.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((samples - mean).T).astype(np.float64))
        values, vectors = values[::-1][:_WIDTH], vectors[:, ::-1][:, :_WIDTH]
        scaled: np.ndarray = vectors / np.sqrt(np.maximum(values, 1e-9) + 0.1 * values[-1])
        return mean, scaled.astype(np.float32)

    def _patterns(self) -> np.ndarray:
        """Return orthogonal patterns (pixels, k) that many photos share; fewer patterns if there are few photos.

        A pattern counts if it is strong in many photos, at least a twentieth of all.
        """
        with needs("convert", reason="the search for copies of photos"):
            from scipy.linalg import eigh
        total = len(self)
        rows = np.unique(np.linspace(0, total - 1, min(total, _SAMPLE)).astype(np.int64))
        count = min(_PATTERNS, total // _PHOTOS_PER_PATTERN)
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
