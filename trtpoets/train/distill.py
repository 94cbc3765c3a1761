"""A head fitted to another base: it gives nearly the scores that the first head gave on the first base.

No labels are needed, so it works for published heads too (Hinton et al., 2015, "Distilling the Knowledge in a Neural
Network", with the logits themselves as the target). It is ridge regression towards the head that is there: where
photos say nothing, nothing changes.
"""

from __future__ import annotations

import numpy as np

from trtpoets.train.head import Head, head_scores
from trtpoets.train.head_loop import standardisation

PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""What is tried, from nearly no change of the weights to one that follows the photos closely."""

_EVERY = 5
"""Every fifth photo decides which penalty; the head is then fitted to all."""


def divergence(reference: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The Kullback-Leibler divergence of scores from the reference's, photo by photo, in nats: (N,)."""
    p, q = (np.maximum(each.astype(np.float64), 1e-12) for each in (reference, scores))
    return np.asarray((p * np.log(p / q)).sum(axis=1))


def head_near(head: Head, features: np.ndarray, logits: np.ndarray, penalty: float) -> Head:
    """The head that gives about `logits` (N, C) on `features` (N, D), float32, and lies near `head`.

    It minimises the mean squared error of the logits plus `penalty` x the squared change of the weights, which act on
    standardised features. The bias is free.
    """
    residual = logits.astype(np.float64) - (features @ head.weights + head.bias)
    mean, scale = (each.astype(np.float64) for each in standardisation(features))
    standard = (features - mean) * scale
    shift = residual.mean(axis=0)
    kernel = standard.T @ standard + penalty * len(features) * np.eye(features.shape[1])
    change = scale[:, None] * np.linalg.solve(kernel, standard.T @ (residual - shift))
    weights = head.weights + change
    bias = head.bias + shift - mean @ change
    return Head(weights.astype(np.float32), bias.astype(np.float32))


def best_head_near(head: Head, features: np.ndarray, logits: np.ndarray) -> tuple[Head, float]:
    """`head_near` with the penalty that serves photos best that were not fitted to; returns it too."""
    kept = np.arange(len(features)) % _EVERY != _EVERY - 1
    unit = Head(np.eye(logits.shape[1], dtype=np.float32), np.zeros(logits.shape[1], np.float32))
    wanted = head_scores(unit, logits[~kept].astype(np.float32))

    def lost(penalty: float) -> float:
        fitted = head_near(head, features[kept], logits[kept], penalty)
        return float(divergence(wanted, head_scores(fitted, features[~kept])).mean())

    penalty = min(PENALTIES, key=lost)
    return head_near(head, features, logits, penalty), penalty
