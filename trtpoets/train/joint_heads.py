"""Trains several heads at once on the same features, each on photos of its own, as cross-fitting needs.

The recipe is that of `head.head_from_bottlenecks`: softmax regression on standardised features, mini-batches, the same
optimizers and penalties, and of all steps the one with the lowest cross-entropy on other photos. All heads see the
same batches; each ignores the photos that it is not trained on, so that one matrix product serves all of them: ten
heads take about the time of one. numpy is enough for that, so TensorFlow is not started.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.progress import Progress, silent
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.train.head import Head, head_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PATIENCE = 500
"""A head without `early_stop` ends after so many steps without an improvement: later ones are hardly ever better."""

_ROWS = 4096
"""Number of photos whose statistics are computed at a time."""

_MIN_DEVIATION = 1e-6
"""Features with a smaller standard deviation are not used, as in `head_loop`."""


def heads_from_parts(
    features: np.ndarray,
    labels: np.ndarray,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    classes: int,
    config: HeadConfig,
    progress: Progress = silent,
    what: str = "cross-fit heads",
) -> tuple[Head | None, ...]:
    """Train a head for each part, on features, float32 (N, D), and labels, int (N,) from 0 to `classes` - 1.

    A part has the indices of the photos that its head is trained on, and of those with which its step is selected. Each
    class needs a training photo. None stands for a head whose training diverged. The batches contain on average
    `config.batch_size` photos of each head. The same inputs give the same heads on the same machine. `what` is the name
    of the progress.
    """
    trained = np.zeros((len(features), len(parts)), np.float32)
    for number, (rows, _) in enumerate(parts):
        trained[rows, number] = 1
    joint = _JointHeads(features, labels, trained, classes, config)
    drawn = np.flatnonzero(trained.any(axis=1))  # photos that no head is trained on are not drawn
    share = float(trained.sum(axis=0).mean()) / len(drawn)
    batches = _batches(len(drawn), max(round(config.batch_size / share), 1), config.seed)
    best: list[tuple[float, int, Head | None]] = [(math.inf, 0, None)] * len(parts)
    patience = config.early_stop or PATIENCE
    active = list(range(len(parts)))
    step = 0
    while step < config.steps and active:
        for _ in range(min(config.eval_interval, config.steps - step)):
            step += 1
            joint.train(drawn[next(batches)], step)
        for place, number in enumerate(active):
            head, rows = joint.head(place), parts[number][1]
            loss = _cross_entropy(head, features[rows], labels[rows])
            if loss < best[number][0]:  # False where the loss is not a number
                best[number] = loss, step, head
        going = [place for place, number in enumerate(active) if step - best[number][1] < patience]
        if len(going) < len(active):
            joint.keep(going)
            active = [active[place] for place in going]
        progress(what, step if active else config.steps, config.steps)
    return tuple(head for _, _, head in best)


def scores_by_fold(heads: Sequence[Head], features: np.ndarray, fold_of: np.ndarray, classes: int) -> np.ndarray:
    """Return the scores of each photo by the head of its fold, float32 (N, C); equal scores for photos without one."""
    scores = np.full((len(features), classes), 1 / classes, np.float32)
    for number, head in enumerate(heads):
        rows = fold_of == number
        scores[rows] = head_scores(head, features[rows])
    return scores


class _JointHeads:
    """Parameters and optimizer state of K heads: weights (D, K, C), biases (K, C), for standardised features."""

    def __init__(
        self, features: np.ndarray, labels: np.ndarray, trained: np.ndarray, classes: int, config: HeadConfig
    ) -> None:
        """`trained` float32 (N, K) is 1 where a head is trained on a photo, otherwise 0."""
        self._features, self._labels, self._trained, self._config = features, labels, trained, config
        self._centre, self._mean, self._scale = _standards(features, trained)
        counts = np.stack([np.bincount(labels, weights=column, minlength=classes) for column in trained.T])
        self._class_weights = np.ones_like(counts, np.float32)
        if config.class_weights:
            self._class_weights = (trained.sum(axis=0)[:, None] / (classes * np.maximum(counts, 1))).astype(np.float32)
        shape = (features.shape[1] + 1, trained.shape[1], classes)  # the last row is the bias
        self._values, self._first, self._second = (np.zeros(shape, np.float32) for _ in range(3))

    def train(self, rows: np.ndarray, step: int) -> None:
        """Take step number `step`, from 1, on the photos `rows`."""
        config = self._config
        _, heads, classes = self._values.shape
        x = self._features[rows] - self._centre
        y, taken = self._labels[rows], self._trained[rows]
        weights, bias = self._raw()
        logits = (x @ weights.reshape(len(weights), -1)).reshape(len(rows), heads, classes) + bias
        change = np.exp(logits - logits.max(axis=2, keepdims=True))
        change /= change.sum(axis=2, keepdims=True)
        change -= config.label_smoothing / classes
        change[np.arange(len(rows)), :, y] -= 1 - config.label_smoothing
        change *= (taken / np.maximum(taken.sum(axis=0), 1) * self._class_weights[:, y].T)[:, :, None]
        of_bias = change.sum(axis=0)
        gradient = np.empty_like(self._values)
        gradient[:-1] = (x.T @ change.reshape(len(rows), -1)).reshape(weights.shape)
        gradient[:-1] -= self._mean * of_bias
        gradient[:-1] *= self._scale
        gradient[:-1] += 2 * config.l2 * self._values[:-1]
        gradient[-1] = of_bias
        self._update(gradient, step)

    def head(self, place: int) -> Head:
        """Return a head for raw features."""
        weights, bias = self._raw()
        own = np.ascontiguousarray(weights[:, place])
        shift = self._centre.astype(np.float64) @ own
        return Head(own, (bias[place] - shift).astype(np.float32))

    def keep(self, places: Sequence[int]) -> None:
        """Drop all heads but those at `places`."""
        for name in ("_values", "_first", "_second", "_mean", "_scale", "_trained"):
            setattr(self, name, np.ascontiguousarray(getattr(self, name)[:, places]))
        self._class_weights = self._class_weights[list(places)]

    def _raw(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (D, K, C) and biases (K, C) for features minus their centre."""
        weights = self._values[:-1] * self._scale
        return weights, self._values[-1] - (self._mean * weights).sum(axis=0)

    def _update(self, gradient: np.ndarray, step: int) -> None:
        """Change the parameters as the optimizers of Keras do with their default settings."""
        rate = self._config.learning_rate
        if self._config.optimizer is Optimizer.SGD:
            self._first *= 0.9
            self._first -= rate * gradient
            self._values += self._first
            return
        self._first *= 0.9
        self._first += 0.1 * gradient
        self._second *= 0.999
        self._second += 0.001 * np.square(gradient)
        corrected = rate * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        self._values -= corrected * self._first / (np.sqrt(self._second) + 1e-7)


def _standards(features: np.ndarray, trained: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean of all features (D,), each head's mean relative to it and reciprocal deviation, (D, K, 1).

    All are float32; the reciprocal is 0 for a tiny deviation. `features` is not copied.
    """
    centre = features.mean(axis=0, dtype=np.float64)
    heads = trained.shape[1]
    sums, squares = np.zeros((features.shape[1], heads)), np.zeros((features.shape[1], heads))
    for start in range(0, len(features), _ROWS):
        x, own = features[start : start + _ROWS] - centre, trained[start : start + _ROWS].astype(np.float64)
        sums += x.T @ own
        squares += np.square(x).T @ own
    counts = np.maximum(trained.sum(axis=0, dtype=np.float64), 1)
    mean = sums / counts
    deviation = np.sqrt(np.maximum(squares / counts - mean**2, 0))
    scale = np.where(deviation > _MIN_DEVIATION, 1 / np.maximum(deviation, _MIN_DEVIATION), 0)
    return centre.astype(np.float32), mean.astype(np.float32)[:, :, None], scale.astype(np.float32)[:, :, None]


def _batches(count: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield batches of `size` indices below `count` in random order; each is used once before any is repeated."""
    random = np.random.default_rng(seed)
    left = np.zeros(0, dtype=np.int64)
    while True:
        while len(left) < size:
            left = np.concatenate([left, random.permutation(count)])
        yield left[:size]
        left = left[size:]


def _cross_entropy(head: Head, features: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross-entropy in nats per photo."""
    logits = (features @ head.weights + head.bias).astype(np.float64)
    highest = logits.max(axis=1)
    nats = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return float(nats.mean())
