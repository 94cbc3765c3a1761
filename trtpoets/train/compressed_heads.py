"""Trains many heads on few numbers for each photo, for measurements that compare heads with each other.

The numbers are the first principal components of the standardised features. In them the penalised softmax regression of
`head` is solved by accelerated gradient descent (Nesterov, 1983) on all photos at once, each component at a rate of its
own. A head takes a tenth of the time of one from `joint_heads`. Of the cells and flowers it classifies 95 % in the same
way, which is as many as a head from another seed, and its accuracy is up to 1 point lower. It is therefore compared
with others of its kind only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.threads import one_blas_thread
from trtpoets.train.head import Head
from trtpoets.train.head_loop import smoothed_targets, softmax_in_place, standardisation

if TYPE_CHECKING:
    from trtpoets.core.training import HeadConfig

COMPONENTS = 512
"""The number of components: with half of them the flowers lose another point of accuracy."""

_EXTRA = 32
"""So many more directions are followed than are kept, so that the last of them are accurate too."""

_ITERATIONS = 40
"""Heads trained by 80 iterations are not more accurate."""

_CURVATURE = 0.25
"""The assumed curvature of the loss along a component of variance 1: p (1 - p) for a probability p, at most."""

_LEAST_VARIANCE = 1e-6
"""Components with a smaller share of the variance of the first one are not used."""


@dataclass(frozen=True, eq=False)
class CompressedFeatures:
    """Principal components of photos, float32 (N, R), and their variances, float32 (R,), in descending order.

    `values` are (features - mean) @ basis, with the mean (D,) and the basis (D, R) float32.
    """

    values: np.ndarray
    variances: np.ndarray
    mean: np.ndarray
    basis: np.ndarray

    def for_features(self, head: Head) -> Head:
        """Return the head for features that gives the scores of a head for `values`."""
        with one_blas_thread():
            weights = self.basis @ head.weights
            return Head(weights, head.bias - self.mean @ weights)


def compressed(features: np.ndarray, seed: int = 0) -> CompressedFeatures:
    """Return the first COMPONENTS principal components of standardised features, float32 (N, D), or all if fewer.

    They are found by a randomised decomposition with two passes (Halko, Martinsson, Tropp, 2011).
    """
    with one_blas_thread():
        return _compressed(features, seed)


def _compressed(features: np.ndarray, seed: int) -> CompressedFeatures:
    mean, scale = standardisation(features)
    x = (features - mean) * scale
    directions = min(COMPONENTS + _EXTRA, *x.shape)
    drawn = np.random.default_rng(seed).standard_normal((x.shape[1], directions)).astype(np.float32)
    basis, _ = np.linalg.qr(x.T @ (x @ drawn))
    basis, _ = np.linalg.qr(x.T @ (x @ basis))
    projected = x @ basis
    variances, rotation = np.linalg.eigh((projected.T @ projected).astype(np.float64) / len(x))
    kept = np.flatnonzero(variances > _LEAST_VARIANCE * variances[-1])[::-1][:COMPONENTS]
    own_rotation = rotation[:, kept].astype(np.float32)
    values = np.ascontiguousarray(projected @ own_rotation)
    return CompressedFeatures(values, variances[kept].astype(np.float32), mean, scale[:, None] * (basis @ own_rotation))


def heads_from_weights(
    photos: CompressedFeatures, labels: np.ndarray, classes: int, weights: np.ndarray, config: HeadConfig
) -> list[Head] | None:
    """Train a head for each row of `weights`, (K, N): what each photo counts in its loss; 0 if it is not trained on.

    `labels` are int (N,) from 0 to `classes` - 1. Of `config` the penalty and the label smoothing are used. The heads
    are for `photos.values`. Returns None if a training diverged.
    """
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        return _heads_from_weights(photos, labels, classes, weights, config)


def _heads_from_weights(
    photos: CompressedFeatures, labels: np.ndarray, classes: int, weights: np.ndarray, config: HeadConfig
) -> list[Head] | None:
    x, penalty = photos.values, np.float32(2 * config.l2)
    shares = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    own_variances = shares @ np.square(x)  # of the photos that a head is trained on
    curvature = _CURVATURE * np.maximum(own_variances, photos.variances) + penalty
    rates = (1 / curvature).astype(np.float32)[:, None]
    targets = smoothed_targets(classes, config.label_smoothing)[:, labels]
    heads = len(weights)
    values, bias = np.zeros((heads, classes, x.shape[1]), np.float32), np.zeros((heads, classes), np.float32)
    ahead, bias_ahead, pace = values, bias, 1.0
    for _ in range(_ITERATIONS):
        logits = (ahead.reshape(heads * classes, -1) @ x.T).reshape(heads, classes, -1)
        logits += bias_ahead[:, :, None]
        errors = softmax_in_place(logits)
        errors -= targets
        errors *= shares[:, None]
        gradient = (errors.reshape(heads * classes, -1) @ x).reshape(values.shape)
        gradient += penalty * ahead
        next_values = ahead - rates * gradient
        next_bias = bias_ahead - errors.sum(axis=2) / np.float32(_CURVATURE)
        next_pace = (1 + math.sqrt(1 + 4 * pace * pace)) / 2
        momentum = np.float32((pace - 1) / next_pace)
        ahead = next_values + momentum * (next_values - values)
        bias_ahead = next_bias + momentum * (next_bias - bias)
        values, bias, pace = next_values, next_bias, next_pace
    if not (np.isfinite(values).all() and np.isfinite(bias).all()):
        return None
    return [Head(np.ascontiguousarray(own.T), own_bias) for own, own_bias in zip(values, bias, strict=True)]
