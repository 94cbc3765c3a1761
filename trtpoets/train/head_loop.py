"""The training loop of heads, in numpy: one head, or several with other settings side by side on the same batches.

A head is a small matrix, so that a step of it is a few operations of microseconds each. TensorFlow needs longer to
start these operations than to compute them: on two cores, a step of its compiled loop took two to three times as long
for 5 to 100 classes, and a third longer for 1,000.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.threads import map_ahead
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.train.row_file import RowArray, blocks_of, release, take_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

_COPIED_BYTES = 2**26
"""Up to so many bytes of features are standardised once, which takes a third off a step; others in each batch."""

MAX_EVALUATED = 20_000
"""At most this many photos select the step of a head."""

RELEASED_STEPS = 2
"""The pages of mapped features are released after so many steps: the system maps hundreds of KiB around each photo."""

MIN_DEVIATION = 1e-6
"""Features with a smaller standard deviation are not used: they do not distinguish the photos."""


class TrainingLoop:
    """Softmax regressions on standardised features, starting from zero weights. Deterministic.

    A head is not influenced by the others. Only the learning rate, the optimizer, the penalty and the smoothing of
    `configs` are used here.
    """

    def __init__(
        self, features: RowArray, labels: np.ndarray, configs: Sequence[HeadConfig], class_weights: np.ndarray
    ) -> None:
        """`features` float32 (N, D), `labels` int (N,), `class_weights` (C,): the weight of each class's photos."""
        self._features: RowArray = features
        self._labels = labels
        self._class_weights = class_weights.astype(np.float32)
        self._mean, self._scale = standardisation(features)
        self._copied = features.nbytes <= _COPIED_BYTES
        if self._copied:
            self._features = self._standardised(np.array(features[:]))
        by_optimizer = [
            [number for number, config in enumerate(configs) if config.optimizer is optimizer]
            for optimizer in Optimizer
        ]
        self._blocks = [
            _Block(numbers, [configs[number] for number in numbers], features.shape[1], len(class_weights))
            for numbers in by_optimizer
            if numbers
        ]

    @property
    def standards(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and reciprocal standard deviation of the features, (D,) each."""
        return self._mean, self._scale

    def run(self, order: np.ndarray) -> None:
        """Take a training step for each row of `order`, int (steps, batch): the indices of its photos."""

        def all_steps(block: _Block) -> None:
            x = np.empty((order.shape[1], self._features.shape[1]), np.float32)
            with np.errstate(over="ignore", invalid="ignore"):  # a training that diverges is seen when it is evaluated
                for step, rows in enumerate(order):
                    take_rows(self._features, rows, x)
                    if step % RELEASED_STEPS == 0:
                        release(self._features)
                    if not self._copied:
                        self._standardised(x)
                    labels = self._labels[rows]
                    block.step(x, labels, self._class_weights[labels] / np.float32(len(rows)))

        # Blocks are independent: a thread for each, which waits for no other until the last step.
        for _ in map_ahead(all_steps, self._blocks, len(self._blocks), len(self._blocks)):
            pass
        release(self._features)

    def parameters(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Return weights (D, C) and bias (C,) for raw features, by the index of a head's config."""
        return {
            number: self._for_raw_features(values.T)
            for block in self._blocks
            for number, values in zip(block.numbers, block.values, strict=True)
        }

    def keep(self, numbers: Sequence[int]) -> None:
        """Drop all heads but those of the configs with these indices."""
        for block in self._blocks:
            block.keep([place for place, number in enumerate(block.numbers) if number in numbers])
        self._blocks = [block for block in self._blocks if block.numbers]

    def _standardised(self, features: np.ndarray) -> np.ndarray:
        """Standardise features in place, and return them."""
        features -= self._mean
        features *= self._scale
        return features

    def _for_raw_features(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fold the standardisation into the parameters of a head, (D + 1, C)."""
        weights = values[:-1].astype(np.float64) * self._scale[:, None]
        bias = values[-1].astype(np.float64) - self._mean @ weights
        return weights.astype(np.float32), bias.astype(np.float32)


class _Block:
    """K heads with the same optimizer: parameters (K, C, D + 1), of which the last is the bias."""

    def __init__(self, numbers: Sequence[int], configs: Sequence[HeadConfig], width: int, classes: int) -> None:
        self.numbers = list(numbers)
        rates = np.array([config.learning_rate for config in configs])
        self._updates = Updates((len(configs), classes, width + 1), configs[0].optimizer, rates)
        penalties = [2 * config.l2 for config in configs]
        self._penalties = np.repeat(np.array(penalties, np.float32), classes)[:, None]
        self._targets = np.stack([smoothed_targets(classes, config.label_smoothing) for config in configs])

    @property
    def values(self) -> np.ndarray:
        return self._updates.values

    def step(self, x: np.ndarray, labels: np.ndarray, shares: np.ndarray) -> None:
        """Take a step on photos `x` (B, D). `shares` (B,) are their parts of the loss."""
        heads, classes, width = self.values.shape
        flat = self.values.reshape(-1, width)
        logits = flat[:, :-1] @ x.T
        logits += flat[:, -1:]
        errors = softmax_in_place(logits.reshape(heads, classes, -1))
        errors -= self._targets[:, :, labels]
        errors *= shares
        gradient = np.empty_like(flat)
        np.matmul(errors.reshape(len(flat), -1), x, out=gradient[:, :-1])
        np.sum(errors.reshape(len(flat), -1), axis=1, out=gradient[:, -1])
        penalty = self._penalties * flat
        penalty[:, -1] = 0  # not on the bias
        gradient += penalty
        self._updates.apply(gradient.reshape(self.values.shape))

    def keep(self, places: Sequence[int]) -> None:
        self.numbers = [self.numbers[place] for place in places]
        rows = np.arange(len(self._penalties)).reshape(len(self._targets), -1)[places].ravel()
        self._penalties, self._targets = self._penalties[rows], self._targets[places]
        self._updates.keep(places)


class Updates:
    """Changes the parameters of K heads, zero at first, as the optimizers of Keras do with their default settings."""

    def __init__(self, shape: tuple[int, int, int], optimizer: Optimizer, rates: np.ndarray) -> None:
        """`shape` is (K, C, D + 1), `rates` (K,) are the learning rates."""
        second = shape if optimizer is Optimizer.ADAM else (shape[0], 0, 0)
        self.values: np.ndarray = np.zeros(shape, np.float32)
        self._first: np.ndarray = np.zeros(shape, np.float32)  # SGD: the change; Adam: 10 times the mean gradient
        self._second: np.ndarray = np.zeros(second, np.float32)  # 1,000 times the mean square of the gradient
        self._optimizer, self._rates, self._step = optimizer, rates.astype(np.float64)[:, None, None], 0

    def apply(self, gradient: np.ndarray) -> None:
        """Take a step along `gradient`, float32 (K, C, D + 1), which is overwritten."""
        self._step += 1
        self._first *= np.float32(0.9)
        if self._optimizer is Optimizer.SGD:
            gradient *= self._rates.astype(np.float32)
            self._first -= gradient
            self.values += self._first
            return
        self._first += gradient
        gradient *= gradient
        self._second *= np.float32(0.999)
        self._second += gradient
        corrected = self._rates * math.sqrt((1 - 0.999**self._step) / 0.001) / ((1 - 0.9**self._step) / 0.1)
        divisor = np.sqrt(self._second, out=gradient)
        divisor += np.float32(1e-7 / math.sqrt(0.001))
        change = self._first * corrected.astype(np.float32)
        change /= divisor
        self.values -= change

    def keep(self, places: Sequence[int]) -> None:
        """Drop all heads but those at `places`."""
        kept = list(places)
        self.values, self._first, self._second = self.values[kept], self._first[kept], self._second[kept]
        self._rates = self._rates[kept]


class Shuffle:
    """Rows in random order; each row is used once before any is repeated."""

    def __init__(self, random: np.random.Generator, count: int) -> None:
        self._random = random
        self._count = count
        self._left = np.zeros(0, dtype=np.int32)

    def take(self, batches: int, batch_size: int) -> np.ndarray:
        """Return the next rows: int32 (batches, batch_size)."""
        needed = batches * batch_size
        rounds = max(0, -(-(needed - len(self._left)) // self._count))
        fresh = [self._random.permutation(self._count).astype(np.int32) for _ in range(rounds)]
        rows = np.concatenate([self._left, *fresh])
        self._left = rows[needed:]
        return rows[:needed].reshape(batches, batch_size)


def softmax_in_place(logits: np.ndarray) -> np.ndarray:
    """Replace logits, float32 (K, C, N), by their softmax over the classes, and return them."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def right_answers_and_nats(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which answers are right, bool (K, N), and the cross-entropy of each photo, float64 (K, N), in nats.

    `logits` are float32 (K, C, N), `labels` int (N,).
    """
    highest = logits.max(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):  # logits of a training that diverged
        sums = np.exp(logits - highest[:, None], dtype=np.float64).sum(axis=1)
        nats = np.log(sums) + (highest - logits[:, labels, np.arange(len(labels))])
    return logits.argmax(axis=1) == labels, nats


def smoothed_targets(classes: int, smoothing: float) -> np.ndarray:
    """Return the target of each class, float32 (C, C): the columns are labels."""
    return np.asarray(np.eye(classes) * (1 - smoothing) + smoothing / classes, dtype=np.float32)


def standardisation(features: RowArray) -> tuple[np.ndarray, np.ndarray]:
    """Return each feature's mean (D,) and reciprocal standard deviation, 0 if it is tiny. Does not copy `features`."""
    mean = mean_of(features)
    squares = np.zeros_like(mean)
    for block in blocks_of(features):
        squares += np.square(block - mean).sum(axis=0)
    deviation = np.sqrt(squares / len(features))
    return mean.astype(np.float32), reciprocal(deviation).astype(np.float32)


def mean_of(features: RowArray) -> np.ndarray:
    """Return each feature's mean, float64 (D,)."""
    total = np.zeros(features.shape[1])
    for block in blocks_of(features):
        total += block.sum(axis=0, dtype=np.float64)
    return total / len(features)


def chosen_for_evaluation(rows: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows, int (n,), or MAX_EVALUATED of them, drawn at random, in their order.

    The cross-entropy of so many photos distinguishes steps as well as that of all.
    """
    if len(rows) <= MAX_EVALUATED:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, MAX_EVALUATED, replace=False))


def reciprocal(deviation: np.ndarray) -> np.ndarray:
    """Return the reciprocals of standard deviations, 0 for tiny ones."""
    return np.where(deviation > MIN_DEVIATION, 1 / np.maximum(deviation, MIN_DEVIATION), 0)
