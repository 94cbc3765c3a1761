"""The integers that represent real numbers: symmetric INT8 for TensorRT, unsigned 8 bits with a zero point for CPUs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMALLEST_SCALE = 2.0**-24
"""The smallest scale: the smallest positive number in FP16. TensorRT rejects a scale of zero."""


@dataclass(frozen=True)
class Grid:
    """Consecutive integers, `lowest` to `highest`. With as many negative as positive ones the zero point is always 0.

    `code` is the NumPy type in which they are stored.
    """

    lowest: int
    highest: int
    code: str

    @property
    def is_symmetric(self) -> bool:
        """Whether the zero point is always 0."""
        return self.lowest == -self.highest

    def quantiser(self, low: float, high: float) -> Quantiser:
        """Return the quantiser that represents low..high, and 0 exactly."""
        if self.is_symmetric:
            return Quantiser(self, max(max(-low, high) / self.highest, SMALLEST_SCALE), 0)
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / (self.highest - self.lowest), SMALLEST_SCALE)
        zero = int(np.clip(np.rint(self.lowest - low / scale), self.lowest, self.highest))
        return Quantiser(self, scale, zero)

    def magnitudes(self, low: float, high: float) -> int:
        """Return how many magnitudes, 0 included, the grid has for the wider side of low..high."""
        if self.is_symmetric:
            return self.highest + 1
        low, high = min(low, 0.0), max(high, 0.0)
        widest = max(-low, high)
        return round((self.highest - self.lowest) * widest / (high - low)) + 1 if widest > 0 else self.highest + 1


@dataclass(frozen=True)
class Quantiser:
    """Represents x by the integer round(x / scale) + zero, limited to the grid."""

    grid: Grid
    scale: float
    zero: int

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and highest number that it represents."""
        return self.scale * (self.grid.lowest - self.zero), self.scale * (self.grid.highest - self.zero)

    def nearest(self, values: np.ndarray, factors: np.ndarray | None = None) -> np.ndarray:
        """Return the nearest represented numbers, float32. `factors` scale the channels of (N, C, H, W) before."""
        scale = np.float32(self.scale)
        scales = scale if factors is None else (scale / factors).reshape(1, -1, 1, 1)
        lowest, highest = self.grid.lowest - self.zero, self.grid.highest - self.zero
        nearest = np.asarray(values / scales)
        np.rint(nearest, out=nearest)
        np.clip(nearest, lowest, highest, out=nearest)
        nearest *= scales
        return nearest


SYMMETRIC = Grid(-127, 127, "int8")
"""TensorRT's grid without -128, so that a number and its negative are represented equally well."""

UNSIGNED = Grid(0, 255, "uint8")
"""The grid of activations on CPUs: all 256 levels serve the range, also after a ReLU."""
