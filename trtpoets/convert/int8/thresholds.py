"""Where to cut a tensor's range: values beyond it saturate, the rest is stepped more finely.

Each function takes a histogram of |x| in equal bins over 0..top, float64 counts, and gives the threshold in 0..top.
"""

from __future__ import annotations

import numpy as np

BINS = 2048
LEVELS = 128
"""INT8 has 128 magnitudes."""

_STRIDE = 8
"""Thresholds are tried every so many bins: 0.4 % of the range."""


def percentile_threshold(counts: np.ndarray, top: float, percentile: float) -> float:
    """The smallest bin edge that has `percentile` % of all values below it."""
    below = np.cumsum(counts)
    edge = int(np.searchsorted(below, below[-1] * percentile / 100.0)) + 1
    return top * min(edge, len(counts)) / len(counts)


def entropy_threshold(counts: np.ndarray, top: float) -> float:
    """The threshold whose INT8 distribution tells most about the real one: least Kullback-Leibler divergence.

    Migacz, "8-bit Inference with TensorRT" (GTC 2017): the bins below the threshold, with all outliers in the last
    one, against the same bins merged to 128 levels. The zero bin is left out, as exact zeros are exact in INT8 too and
    would outweigh everything after a ReLU.
    """
    counts = counts.astype(np.float64)
    counts[0] = 0.0
    if not counts.sum():
        return top
    best, best_edge = np.inf, len(counts)
    for edge in range(LEVELS, len(counts) + 1, _STRIDE):
        divergence = _divergence(counts, edge)
        if divergence < best:
            best, best_edge = divergence, edge
    return top * best_edge / len(counts)


def mse_threshold(counts: np.ndarray, top: float) -> float:
    """The threshold whose INT8 values lie nearest the real ones: least mean squared error, rounding and cutting alike.

    Sung, Shin, Hwang, "Resiliency of Deep Neural Networks under Quantization" (2015) choose steps by it.
    """
    middles = (np.arange(len(counts)) + 0.5) / len(counts)
    edges = np.arange(LEVELS, len(counts) + 1, _STRIDE) / len(counts)
    steps = edges[:, None] / (LEVELS - 1)
    # Steps finer than a bin: within one, values are taken as spread evenly.
    rounding = np.square(steps) / 12.0
    cut = np.square(np.maximum(middles - edges[:, None], 0.0))
    error = (np.where(middles < edges[:, None], rounding, cut) * counts).sum(axis=1)
    # The bin of zeros holds mostly exact ones after a ReLU; they cost nothing at any step.
    error -= rounding[:, 0] * counts[0]
    return float(top * edges[int(error.argmin())])


def _divergence(counts: np.ndarray, edge: int) -> float:
    inside = counts[:edge]
    real = inside.copy()
    real[-1] += counts[edge:].sum()
    starts = np.arange(LEVELS) * edge // LEVELS
    filled = inside > 0
    merged = np.add.reduceat(inside, starts)
    width = np.add.reduceat(filled.astype(np.float64), starts)
    level = np.repeat(np.divide(merged, width, out=np.zeros(LEVELS), where=width > 0), np.diff(starts, append=edge))
    stepped = np.where(filled, level, 0.0)
    if not stepped.sum():
        return np.inf
    both = (real > 0) & (stepped > 0)
    p, q = real / real.sum(), stepped / stepped.sum()
    lost = p[(real > 0) & ~both].sum()
    # Real values where INT8 has none: as unlikely as can be, instead of infinitely so.
    return float(np.sum(p[both] * np.log(p[both] / q[both])) + lost * np.log(max(lost, 1e-12) / 1e-12))
