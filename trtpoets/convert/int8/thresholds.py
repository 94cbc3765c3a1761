"""Clipping thresholds chosen from a histogram: larger magnitudes saturate, smaller ones get a finer scale.

Each function takes a histogram of |x| with equal bins over 0..top (float64 counts) and returns a threshold in 0..top.
"""

from __future__ import annotations

import numpy as np

BINS = 2048
LEVELS = 128
"""Number of magnitudes that symmetric INT8 can represent, 0 to 127: the default of `levels`."""

_STRIDE = 8
"""Distance in bins between the thresholds that are tried: 0.4 % of the range."""


def percentile_threshold(counts: np.ndarray, top: float, percentile: float) -> float:
    """Return the smallest bin edge that has `percentile` % of all values below it."""
    below = np.cumsum(counts)
    edge = int(np.searchsorted(below, below[-1] * percentile / 100.0)) + 1
    return top * min(edge, len(counts)) / len(counts)


def entropy_threshold(counts: np.ndarray, top: float, levels: int = LEVELS) -> float:
    """Return the threshold whose INT8 distribution has the least Kullback-Leibler divergence from the real one.

    Source: Migacz, "8-bit Inference with TensorRT" (GTC 2017). The bins below the threshold, with all outliers added
    to the last bin, are compared with the same bins merged to `levels` levels. The first bin is ignored: zeros are
    exact in INT8, and after a ReLU there are so many of them that they would outweigh all other values.
    """
    counts = counts.astype(np.float64)
    counts[0] = 0.0
    if not counts.sum():
        return top
    best, best_edge = np.inf, len(counts)
    for edge in range(levels, len(counts) + 1, _STRIDE):
        divergence = _divergence(counts, edge, levels)
        if divergence < best:
            best, best_edge = divergence, edge
    return top * best_edge / len(counts)


def mse_threshold(counts: np.ndarray, top: float, levels: int = LEVELS) -> float:
    """Return the threshold with the least mean squared error of rounding and clipping together.

    Source: Sung, Shin, Hwang, "Resiliency of Deep Neural Networks under Quantization" (2015).
    """
    middles = (np.arange(len(counts)) + 0.5) / len(counts)
    edges = np.arange(levels, len(counts) + 1, _STRIDE) / len(counts)
    scales = edges[:, None] / (levels - 1)
    # A scale may be smaller than a bin, so values are taken as uniformly distributed within each bin.
    rounding = np.square(scales) / 12.0
    clipping = np.square(np.maximum(middles - edges[:, None], 0.0))
    error = (np.where(middles < edges[:, None], rounding, clipping) * counts).sum(axis=1)
    # After a ReLU the first bin holds mostly exact zeros, which have no rounding error at any scale.
    error -= rounding[:, 0] * counts[0]
    return float(top * edges[int(error.argmin())])


def _divergence(counts: np.ndarray, edge: int, levels: int) -> float:
    """Return the Kullback-Leibler divergence of INT8 values clipped at bin `edge` from the real values."""
    inside = counts[:edge]
    real = inside.copy()
    real[-1] += counts[edge:].sum()
    starts = np.arange(levels) * edge // levels
    filled = inside > 0
    merged = np.add.reduceat(inside, starts)
    width = np.add.reduceat(filled.astype(np.float64), starts)
    level = np.repeat(np.divide(merged, width, out=np.zeros(levels), where=width > 0), np.diff(starts, append=edge))
    quantised = np.where(filled, level, 0.0)
    if not quantised.sum():
        return np.inf
    both = (real > 0) & (quantised > 0)
    p, q = real / real.sum(), quantised / quantised.sum()
    lost = p[(real > 0) & ~both].sum()
    # Real values where the INT8 distribution is zero get a small probability, so that the divergence stays finite.
    return float(np.sum(p[both] * np.log(p[both] / q[both])) + lost * np.log(max(lost, 1e-12) / 1e-12))
