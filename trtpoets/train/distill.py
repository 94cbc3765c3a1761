"""Distils a head onto another base: the new head reproduces the scores that the old head has on the old base.

No labels are needed, so it works for published heads too (Hinton et al., 2015, "Distilling the Knowledge in a Neural
Network", with the logits as the target). The method is ridge regression towards the old head, so that weights about
which the photos carry no information do not change.
"""

from __future__ import annotations

import numpy as np

from trtpoets.core.threads import one_blas_thread
from trtpoets.train.head import Head, head_scores
from trtpoets.train.head_loop import standardisation

PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Penalties to try, from hardly any change of the weights to a close fit to the photos."""

_EVERY = 5
"""Every fifth photo is held out to choose the penalty; the final head is fitted to all photos."""


def divergence(reference: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the Kullback-Leibler divergence of scores from the reference, per photo, in nats: (N,)."""
    p, q = (np.maximum(array.astype(np.float64), 1e-12) for array in (reference, scores))
    return np.asarray((p * np.log(p / q)).sum(axis=1))


def distilled_head(head: Head, features: np.ndarray, logits: np.ndarray, penalty: float) -> Head:
    """Return a head close to `head` that gives approximately `logits` (N, C) for `features` (N, D), float32.

    It minimises the mean squared error of the logits plus `penalty` x the squared change of the weights, which act on
    standardised features. The bias is not penalised. The result is the same for any number of cores.
    """
    with one_blas_thread():
        return _distilled(head, features, logits, penalty)


def best_distilled_head(head: Head, features: np.ndarray, logits: np.ndarray) -> tuple[Head, float]:
    """Return `distilled_head` with the penalty that is best on held-out photos, and that penalty."""
    fitted = np.arange(len(features)) % _EVERY != _EVERY - 1
    unit = Head(np.eye(logits.shape[1], dtype=np.float32), np.zeros(logits.shape[1], np.float32))
    target = head_scores(unit, logits[~fitted].astype(np.float32))

    def held_out_divergence(penalty: float) -> float:
        candidate = _distilled(head, features[fitted], logits[fitted], penalty)
        return float(divergence(target, head_scores(candidate, features[~fitted])).mean())

    with one_blas_thread():
        penalty = min(PENALTIES, key=held_out_divergence)
        return _distilled(head, features, logits, penalty), penalty


def _distilled(head: Head, features: np.ndarray, logits: np.ndarray, penalty: float) -> Head:
    residual = logits.astype(np.float64) - (features @ head.weights + head.bias)
    mean, scale = (array.astype(np.float64) for array in standardisation(features))
    standard = (features - mean) * scale
    shift = residual.mean(axis=0)
    target, ridge = residual - shift, penalty * len(features)
    # Both forms give the same weights; the smaller matrix is that of the photos or that of the features.
    if len(features) < features.shape[1]:
        kernel = standard @ standard.T + ridge * np.eye(len(features))
        change = standard.T @ np.linalg.solve(kernel, target)
    else:
        kernel = standard.T @ standard + ridge * np.eye(features.shape[1])
        change = np.linalg.solve(kernel, standard.T @ target)
    change *= scale[:, None]
    weights = head.weights + change
    bias = head.bias + shift - mean @ change
    return Head(weights.astype(np.float32), bias.astype(np.float32))
