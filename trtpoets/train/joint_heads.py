"""Trains several heads at once on the same features, each on photos of its own, as cross-fitting needs.

The recipe is that of `head.head_from_bottlenecks`: softmax regression on standardised features, mini-batches, the same
optimizers and penalties, and of all steps the one with the lowest cross-entropy on other photos. All heads see the
same batches; each ignores the photos that it is not trained on, so that one matrix product serves all of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.progress import Progress, silent
from trtpoets.core.threads import one_blas_thread
from trtpoets.core.training import HeadConfig
from trtpoets.train.head import Head, head_scores
from trtpoets.train.head_loop import (
    RELEASED_STEPS,
    Shuffle,
    Updates,
    chosen_for_evaluation,
    mean_of,
    reciprocal,
    right_answers_and_nats,
    smoothed_targets,
    softmax_in_place,
)
from trtpoets.train.row_file import BLOCK_ROWS, blocks_of, release, rows_at

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 500
"""A head without `early_stop` ends after so many steps without an improvement: later ones are hardly ever better."""


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
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):  # a head that diverges is None
        return _best_heads(features, labels, trained, [rows for _, rows in parts], classes, config, progress, what)


def _best_heads(
    features: np.ndarray,
    labels: np.ndarray,
    trained: np.ndarray,
    choosing: Sequence[np.ndarray],
    classes: int,
    config: HeadConfig,
    progress: Progress,
    what: str,
) -> tuple[Head | None, ...]:
    """Return each head at its best step on the photos `choosing`. `trained` float32 (N, K) is 1 where it is trained."""
    joint = _JointHeads(features, labels, trained, classes, config)
    drawn = np.flatnonzero(trained.any(axis=1))  # photos that no head is trained on are not drawn
    share = float(trained.sum(axis=0).mean()) / len(drawn)
    batch_size = max(round(config.batch_size / share), 1)
    shuffle = Shuffle(np.random.default_rng(config.seed), len(drawn))
    best: list[tuple[float, int, Head | None]] = [(math.inf, 0, None)] * len(choosing)
    patience = config.early_stop or PATIENCE
    choosing = [chosen_for_evaluation(rows, config.seed) for rows in choosing]
    active = list(range(len(choosing)))
    step = 0
    while step < config.steps and active:
        more = min(config.eval_interval, config.steps - step)
        for place, rows in enumerate(shuffle.take(more, batch_size)):
            joint.train(drawn[rows])
            if place % RELEASED_STEPS == 0:
                release(features)
        step += more
        for place, number in enumerate(active):
            head, rows = joint.head(place), choosing[number]
            loss = _cross_entropy(head, features, labels, rows)
            if loss < best[number][0]:  # False where the loss is not a number
                best[number] = loss, step, head
        going = [place for place, number in enumerate(active) if step - best[number][1] < patience]
        if len(going) < len(active):
            joint.keep(going)
            active = [active[place] for place in going]
        progress(what, step if active else config.steps, config.steps)
    return tuple(head for _, _, head in best)


def _cross_entropy(head: Head, features: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> float:
    """Return the mean cross-entropy of the photos `rows`, in nats."""
    nats = []
    for place, block in enumerate(blocks_of(features, rows)):
        logits = head.weights.T @ block.T + head.bias[:, None]
        truth = labels[rows[place * BLOCK_ROWS : (place + 1) * BLOCK_ROWS]]
        nats.append(right_answers_and_nats(logits[None], truth)[1][0])
    return float(np.concatenate(nats).mean())


def scores_by_fold(heads: Sequence[Head], features: np.ndarray, fold_of: np.ndarray, classes: int) -> np.ndarray:
    """Return the scores of each photo by the head of its fold, float32 (N, C); equal scores for photos without one."""
    scores = np.full((len(features), classes), 1 / classes, np.float32)
    for number, head in enumerate(heads):
        rows = np.flatnonzero(fold_of == number)
        scores[rows] = head_scores(head, rows_at(features, rows))
    return scores


class _JointHeads:
    """K heads with the same settings: parameters (K, C, D + 1) for standardised features; the last of them is the bias.

    Each head standardises the features by its own photos. So that one matrix product serves all, this is folded into
    the weights at each step.
    """

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
        heads = trained.shape[1]
        shape = (heads, classes, features.shape[1] + 1)
        self._updates = Updates(shape, config.optimizer, np.full(heads, config.learning_rate))
        self._targets = smoothed_targets(classes, config.label_smoothing)

    def train(self, rows: np.ndarray) -> None:
        """Take a step on the photos `rows`."""
        values = self._updates.values
        heads, classes, _ = values.shape
        x = self._features[rows] - self._centre
        y, taken = self._labels[rows], self._trained[rows]
        weights, bias = self._raw()
        logits = (weights.reshape(heads * classes, -1) @ x.T).reshape(heads, classes, -1)
        logits += bias[:, :, None]
        errors = softmax_in_place(logits)
        errors -= self._targets[:, y]
        errors *= (taken / np.maximum(taken.sum(axis=0), 1)).T[:, None] * self._class_weights[:, y][:, None]
        gradient = np.empty_like(values)
        gradient[:, :, :-1] = (errors.reshape(heads * classes, -1) @ x).reshape(weights.shape)
        of_bias = errors.sum(axis=2)
        gradient[:, :, :-1] -= self._mean * of_bias[:, :, None]
        gradient[:, :, :-1] *= self._scale
        gradient[:, :, :-1] += 2 * self._config.l2 * values[:, :, :-1]
        gradient[:, :, -1] = of_bias
        self._updates.apply(gradient)

    def head(self, place: int) -> Head:
        """Return a head for raw features."""
        weights, bias = self._raw(slice(place, place + 1))
        shift = weights[0] @ self._centre.astype(np.float64)
        return Head(np.ascontiguousarray(weights[0].T), (bias[0] - shift).astype(np.float32))

    def keep(self, places: Sequence[int]) -> None:
        """Drop all heads but those at `places`."""
        self._updates.keep(places)
        self._mean, self._scale = self._mean[list(places)], self._scale[list(places)]
        self._class_weights = self._class_weights[list(places)]
        self._trained = np.ascontiguousarray(self._trained[:, places])

    def _raw(self, heads: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (K, C, D) and biases (K, C) for features minus their centre."""
        values = self._updates.values[heads]
        weights = values[:, :, :-1] * self._scale[heads]
        return weights, values[:, :, -1] - (self._mean[heads] * weights).sum(axis=2)


def _standards(features: np.ndarray, trained: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean of all features (D,), each head's mean relative to it and reciprocal deviation, (K, 1, D).

    All are float32; the reciprocal is 0 for a tiny deviation. `features` is not copied.
    """
    centre = mean_of(features)
    heads = trained.shape[1]
    sums, squares = np.zeros((features.shape[1], heads)), np.zeros((features.shape[1], heads))
    for place, block in enumerate(blocks_of(features)):
        x, own = block - centre, trained[place * BLOCK_ROWS : (place + 1) * BLOCK_ROWS].astype(np.float64)
        sums += x.T @ own
        squares += np.square(x).T @ own
    counts = np.maximum(trained.sum(axis=0, dtype=np.float64), 1)
    mean = sums / counts
    deviation = np.sqrt(np.maximum(squares / counts - mean**2, 0))
    own_mean, own_scale = (
        np.ascontiguousarray(array.T, np.float32)[:, None] for array in (mean, reciprocal(deviation))
    )
    return centre.astype(np.float32), own_mean, own_scale
