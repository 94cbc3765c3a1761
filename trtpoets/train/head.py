"""The head: one dense layer with softmax, trained in TensorFlow on bottlenecks that were computed before."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.core.progress import Progress, silent
from trtpoets.train.head_loop import Loop
from trtpoets.train.tensorboard_events import curve_writer

if TYPE_CHECKING:
    from pathlib import Path

_WATCHED = 2000
"""At most so many training photos are scored at each evaluation, and so many at a time: a curve needs no more."""

_HISTOGRAMS = 10
"""About so many times in a training the event files get histograms."""


class Optimizer(str, Enum):
    """How steps follow from gradients: plain descent with momentum 0.9, or Adam (Kingma & Ba, 2015)."""

    SGD = "sgd"
    ADAM = "adam"


@dataclass(frozen=True)
class HeadConfig:
    """How the head is trained.

    `l2` is the penalty's factor: l2 x the sum of the squared weights, which act on standardised features. With
    `class_weights` every class counts alike, however many photos it has. `early_stop` ends the training after so many
    steps without a better validation. Validation is looked at every `eval_interval` steps.

    The defaults were measured on five flowers (1,200 photos) and four kinds of solar cell (2,223), with
    EfficientNet-Lite0 and MobileNetV2, five divisions each: rates from 0.0001 to 0.001 and both optimizers come out
    alike (88.3 to 88.7 % right), a penalty of 0.01 lowers the cross-entropy by 2 %, label smoothing of 0.1 costs 0.4
    points. On the cells, where classes differ in size, class weights add 1 to 2 points to the mean recall and cost up
    to 0.8 of accuracy, so they are for who asks for them.
    """

    steps: int = 4000
    batch_size: int = 100
    learning_rate: float = 0.0003
    optimizer: Optimizer = Optimizer.ADAM
    l2: float = 0.01
    label_smoothing: float = 0.0
    class_weights: bool = False
    seed: int = 0
    early_stop: int | None = None
    eval_interval: int = 50

    def __post_init__(self) -> None:
        """Raise BadInput for values that nothing can be learnt with: before minutes of work, not after."""
        for name in ("steps", "batch_size", "eval_interval", "early_stop"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"{name} is {value}", hint="give a whole number of at least 1", code="TP2063")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise BadInput(
                f"the learning rate is {self.learning_rate}",
                hint="give one above 0: --learning-rate 0.001",
                code="TP2064",
            )
        if not (math.isfinite(self.l2) and self.l2 >= 0):
            raise BadInput(f"the L2 penalty is {self.l2}", hint="give one of at least 0: --l2 0.0001", code="TP2065")
        if not 0 <= self.label_smoothing < 1:
            raise BadInput(
                f"label smoothing is {self.label_smoothing}", hint="give one from 0 to below 1", code="TP2066"
            )


@dataclass(frozen=True, eq=False)
class Head:
    """scores = softmax(features @ weights + bias). `weights` (D, C) and `bias` (C,), float32, on plain features."""

    weights: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Training:
    """How a training went: one entry of each curve for each of `steps`. The head is that of `best_step`.

    Cross-entropy is in nats a photo, without penalty, smoothing or class weights. The training curves are of at most
    2,000 photos, the same ones throughout.
    """

    config: HeadConfig
    best_step: int
    seconds: float
    steps: tuple[int, ...]
    train_accuracy: tuple[float, ...]
    train_cross_entropy: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    validation_cross_entropy: tuple[float, ...]


def head_scores(head: Head, features: np.ndarray) -> np.ndarray:
    """The head's answer to features (N, D): float32 (N, C), rows summing to 1."""
    logits = features @ head.weights + head.bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def head_from_bottlenecks(
    train: np.ndarray,
    train_labels: np.ndarray,
    validation: np.ndarray,
    validation_labels: np.ndarray,
    classes: int,
    config: HeadConfig = HeadConfig(),
    logs: Path | None = None,
    progress: Progress = silent,
) -> tuple[Head, Training]:
    """Train a head on bottlenecks, float32 (N, D), and labels, int (N,) from 0 to `classes` - 1.

    Features are standardised by the training photos' mean and deviation, which are folded into the head at the end.
    The head is that of the step with the lowest validation cross-entropy. The same inputs and seed give the same head
    on the same machine. Event files for TensorBoard go to a new folder in `logs`.

    Raises BadInput for arrays that nothing can be learnt from, StorageFailed when the event files
    can't be written.
    """
    counts = _check_classes(train, train_labels, validation, validation_labels, classes)
    start = time.perf_counter()
    loop = Loop(
        train,
        train_labels.astype(np.int32),
        optimizer=config.optimizer.value,
        learning_rate=config.learning_rate,
        l2=config.l2,
        label_smoothing=config.label_smoothing,
        class_weights=len(train) / (classes * counts) if config.class_weights else np.ones(classes),
    )
    random = np.random.default_rng(config.seed)
    watched = np.sort(random.permutation(len(train))[:_WATCHED])
    splits = {"train": (train[watched], train_labels[watched]), "validation": (validation, validation_labels)}
    shuffle = _Shuffle(random, len(train))
    course = _Course()
    drawn_every = config.eval_interval * math.ceil(config.steps / config.eval_interval / _HISTOGRAMS)
    step = 0
    with curve_writer(logs, f"{config.optimizer.value}-{config.learning_rate:g}", loop.graph) as write:
        while step < config.steps and not course.waited(config.early_stop):
            more = min(config.eval_interval, config.steps - step)
            loop.run(shuffle.take(more, config.batch_size))
            step += more
            head = Head(*loop.parameters())
            values = {name: _accuracy_and_cross_entropy(head, *split) for name, split in splits.items()}
            course.add(step, head, values)
            drawn = step % drawn_every == 0 or step == config.steps
            write(step, values, _histograms(head, validation) if logs and drawn else {})
            progress("head", step, config.steps)
    return course.result(config, time.perf_counter() - start)


def _histograms(head: Head, validation: np.ndarray) -> dict[str, np.ndarray]:
    """What TensorBoard shows the spread of: the parameters, and how sure the head is of its answers."""
    sure = np.concatenate(
        [head_scores(head, validation[at : at + _WATCHED]).max(axis=1) for at in range(0, len(validation), _WATCHED)]
    )
    return {"head/weights": head.weights, "head/bias": head.bias, "validation/top_score": sure}


class _Shuffle:
    """Rows in random order, each once before any comes again."""

    def __init__(self, random: np.random.Generator, count: int) -> None:
        self._random = random
        self._count = count
        self._left = np.zeros(0, dtype=np.int32)

    def take(self, batches: int, batch_size: int) -> np.ndarray:
        """The next rows: int32 (batches, batch_size)."""
        needed = batches * batch_size
        rounds = max(0, -(-(needed - len(self._left)) // self._count))
        fresh = [self._random.permutation(self._count).astype(np.int32) for _ in range(rounds)]
        rows = np.concatenate([self._left, *fresh])
        self._left = rows[needed:]
        return rows[:needed].reshape(batches, batch_size)


class _Course:
    """What was seen so far, and the best head."""

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
                f"the head's training went astray: after {step} steps its cross-entropy is {cross_entropy}",
                hint="use a smaller --learning-rate",
                code="TP2067",
            )
        if self._best is None or cross_entropy < self._best[0]:
            self._best = cross_entropy, step, head

    def waited(self, limit: int | None) -> bool:
        """Whether `limit` steps went by since the best one."""
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
    """Over all photos, some at a time; cross-entropy in nats a photo."""
    right, nats = 0, 0.0
    for start in range(0, len(features), _WATCHED):
        logits = (features[start : start + _WATCHED] @ head.weights + head.bias).astype(np.float64)
        truth = labels[start : start + _WATCHED]
        highest = logits.max(axis=1)
        log_sums = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
        right += int(np.sum(logits.argmax(axis=1) == truth))
        nats += float(np.sum(log_sums - logits[np.arange(len(truth)), truth]))
    return right / len(features), nats / len(features)


def _check_classes(
    train: np.ndarray, train_labels: np.ndarray, validation: np.ndarray, validation_labels: np.ndarray, classes: int
) -> np.ndarray:
    """How many training photos each class has. Raises BadInput when nothing can be learnt from them."""
    if classes < 2:
        raise BadInput(f"{classes} class to tell apart", hint="give photos of at least two classes", code="TP2068")
    for name, features, labels in (("training", train, train_labels), ("validation", validation, validation_labels)):
        if not len(features):
            raise BadInput(
                f"there are no {name} photos", hint="add photos, or give each split a larger share", code="TP2069"
            )
        if features.ndim != 2 or labels.shape != (len(features),) or features.shape[1] != train.shape[1]:
            raise BadInput(
                f"{name} features {features.shape} and labels {labels.shape} don't belong together", code="TP2070"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise BadInput(
                f"{name} labels run from {labels.min()} to {labels.max()}, but there are {classes} classes",
                code="TP2071",
            )
        if not np.isfinite(features.sum(axis=0, dtype=np.float64)).all():
            raise BadInput(
                f"the bottlenecks of the {name} photos hold values that are not numbers",
                hint="check the backbone's weights: --weights FILE",
                code="TP2072",
            )
    counts = np.bincount(train_labels, minlength=classes)
    if not counts.all():
        raise BadInput(
            f"class {int(np.argmin(counts))} has no training photo", hint="add photos to that class", code="TP2073"
        )
    return counts
