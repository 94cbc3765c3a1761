"""Features of classes that are far apart."""

from __future__ import annotations

import numpy as np

CLASSES, WIDTH = 3, 24


def clouds(count: int, seed: int, shares: tuple[float, ...] = (1, 1, 1)) -> tuple[np.ndarray, np.ndarray]:
    """Features of three classes that overlap a little, on very different scales, one of them always the same."""
    random = np.random.default_rng(seed)
    labels = random.choice(CLASSES, count, p=np.array(shares) / sum(shares))
    middles = np.random.default_rng(99).normal(0, 0.8, (CLASSES, WIDTH))
    features = (middles[labels] + random.normal(0, 1, (count, WIDTH))) * np.logspace(-3, 3, WIDTH) + 5
    features[:, 7] = 2.5
    return features.astype(np.float32), labels
