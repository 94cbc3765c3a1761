"""Trains the head, a dense layer with softmax, in TensorFlow on bottlenecks."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.core.progress import Progress, silent
from trtpoets.core.training import HeadConfig, Training
from trtpoets.train.head_loop import TrainingLoop
from trtpoets.train.tensorboard_events import curve_writer

if TYPE_CHECKING:
    from pathlib import Path

_EVALUATED = 2000
"""At most this many training photos are scored at each evaluation, which is enough for a curve; also the batch size."""

_HISTOGRAMS = 10
"""Approximate number of times that histograms are written to the event files during a training."""


@dataclass(frozen=True, eq=False)
class Head:
    """scores = softmax(features @ weights + bias). `weights` (D, C) and `bias` (C,), float32, for raw features."""

    weights: np.ndarray
    bias: np.ndarray


def head_scores(head: Head, features: np.ndarray) -> np.ndarray:
    """Return the head's scores for features (N, D): float32 (N, C); rows sum to 1."""
    logits = features @ head.weights + head.bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def head_from_bottlenecks(
    train: np.ndarray,
    train_labels: np.ndarray,
    validation: np.ndarray,
    validation_labels: np.ndarray,
    classes: int,
    config: HeadConfig | None = None,
    logs: Path | None = None,
    progress: Progress = silent,
) -> tuple[Head, Training]:
    """Train a head on bottlenecks, float32 (N, D), and labels, int (N,) from 0 to `classes` - 1.

    Features are standardised by the training photos' mean and standard deviation, which are folded into the head at the
    end. The head is that of the step with the lowest validation cross-entropy. The same inputs and seed give the same
    head on the same machine. Event files for TensorBoard are written to a new folder in `logs`.

    Raises BadInput for arrays that cannot be used for training, StorageFailed if the event files cannot be written.
    """
    config = config or HeadConfig()
    _check_classes(train, train_labels, validation, validation_labels, classes)
    start = time.perf_counter()
    loop = TrainingLoop(
        train,
        train_labels.astype(np.int32),
        optimizer=config.optimizer.value,
        learning_rate=config.learning_rate,
        l2=config.l2,
        label_smoothing=config.label_smoothing,
        class_weights=weights_of_classes(config, train_labels, classes),
    )
    random = np.random.default_rng(config.seed)
    measured = np.sort(random.permutation(len(train))[:_EVALUATED])
    splits = {"train": (train[measured], train_labels[measured]), "validation": (validation, validation_labels)}
    shuffle = _Shuffle(random, len(train))
    curves = _Curves()
    histogram_interval = config.eval_interval * math.ceil(config.steps / config.eval_interval / _HISTOGRAMS)
    step = 0
    with curve_writer(logs, f"{config.optimizer.value}-{config.learning_rate:g}", loop.graph) as write:
        while step < config.steps and not curves.stalled(config.early_stop):
            more = min(config.eval_interval, config.steps - step)
            loop.run(shuffle.take(more, config.batch_size))
            step += more
            head = Head(*loop.parameters())
            values = {name: _accuracy_and_cross_entropy(head, *split) for name, split in splits.items()}
            curves.add(step, head, values)
            with_histograms = step % histogram_interval == 0 or step == config.steps
            write(step, values, _histograms(head, validation) if logs and with_histograms else {})
            progress("head", step, config.steps)
    return curves.result(config, time.perf_counter() - start)


def _histograms(head: Head, validation: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays that TensorBoard shows as histograms: the parameters and the top scores."""
    top_scores = np.concatenate(
        [
            head_scores(head, validation[at : at + _EVALUATED]).max(axis=1)
            for at in range(0, len(validation), _EVALUATED)
        ]
    )
    return {"head/weights": head.weights, "head/bias": head.bias, "validation/top_score": top_scores}


class _Shuffle:
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


class _Curves:
    """The values measured so far, and the best head."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._values: list[dict[str, tuple[float, float]]] = []
        self._best: tuple[float, int, Head] | None = None

    def add(self, step: int, head: Head, values: dict[str, tuple[float, float]]) -> None:
        self._steps.append(step)
        self._values.append(values)
        cross_entropy = values["validation"][1]
        if not math.isfinite(cross_entropy):
            raise BadInput(
                f"the training diverged: after {step} steps the cross-entropy is {cross_entropy}",
                hint="use a smaller --learning-rate",
                code="TP2067",
            )
        if self._best is None or cross_entropy < self._best[0]:
            self._best = cross_entropy, step, head

    def stalled(self, limit: int | None) -> bool:
        """Return whether `limit` steps have passed since the best step."""
        return limit is not None and self._best is not None and self._steps[-1] - self._best[1] >= limit

    def result(self, config: HeadConfig, seconds: float) -> tuple[Head, Training]:
        assert self._best is not None
        curve = {
            (split, number): tuple(value[split][number] for value in self._values)
            for split in ("train", "validation")
            for number in (0, 1)
        }
        training = Training(
            config=config,
            best_step=self._best[1],
            seconds=seconds,
            steps=tuple(self._steps),
            train_accuracy=curve["train", 0],
            train_cross_entropy=curve["train", 1],
            validation_accuracy=curve["validation", 0],
            validation_cross_entropy=curve["validation", 1],
        )
        return self._best[2], training


def _accuracy_and_cross_entropy(head: Head, features: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return accuracy and cross-entropy (nats per photo) over all photos, computed in batches."""
    correct, nats = 0, 0.0
    for start in range(0, len(features), _EVALUATED):
        logits = (features[start : start + _EVALUATED] @ head.weights + head.bias).astype(np.float64)
        truth = labels[start : start + _EVALUATED]
        highest = logits.max(axis=1)
        log_sums = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
        correct += int(np.sum(logits.argmax(axis=1) == truth))
        nats += float(np.sum(log_sums - logits[np.arange(len(truth)), truth]))
    return correct / len(features), nats / len(features)


def weights_of_classes(config: HeadConfig, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the weight of each class's photos in the loss, float64 (classes,): ones, unless classes are weighted."""
    if not config.class_weights:
        return np.ones(classes)
    return np.asarray(len(labels) / (classes * np.maximum(np.bincount(labels, minlength=classes), 1)))


def _check_classes(
    train: np.ndarray, train_labels: np.ndarray, validation: np.ndarray, validation_labels: np.ndarray, classes: int
) -> None:
    """Raise BadInput for arrays that cannot be used."""
    if classes < 2:
        raise BadInput(
            f"there must be at least 2 classes, not {classes}", hint="add photos of another class", code="TP2068"
        )
    for name, features, labels in (("training", train, train_labels), ("validation", validation, validation_labels)):
        if not len(features):
            raise BadInput(
                f"there are no {name} photos", hint="add photos, or increase the share of that split", code="TP2069"
            )
        if features.ndim != 2 or labels.shape != (len(features),) or features.shape[1] != train.shape[1]:
            raise BadInput(
                f"the shapes of {name} features {features.shape} and labels {labels.shape} do not match", code="TP2070"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise BadInput(
                f"{name} labels range from {labels.min()} to {labels.max()}, but there are {classes} classes",
                code="TP2071",
            )
        if not np.isfinite(features.sum(axis=0, dtype=np.float64)).all():
            raise BadInput(
                f"the bottlenecks of the {name} photos contain values that are not finite",
                hint="check the backbone's weights, or use others: --weights FILE",
                code="TP2072",
            )
    counts = np.bincount(train_labels, minlength=classes)
    if not counts.all():
        raise BadInput(
            f"class {int(np.argmin(counts))} has no training photo", hint="add photos to that class", code="TP2073"
        )
