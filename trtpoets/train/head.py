"""Trains the head, a dense layer with softmax, on bottlenecks."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.core.progress import Progress, silent
from trtpoets.core.threads import one_blas_thread
from trtpoets.core.training import HeadConfig, Training
from trtpoets.train.head_graph import loss_graph
from trtpoets.train.head_loop import (
    Shuffle,
    TrainingLoop,
    chosen_for_evaluation,
    mean_of,
    right_answers_and_nats,
)
from trtpoets.train.row_file import ChosenRows, RowArray, blocks_of, is_mapped
from trtpoets.train.tensorboard_events import curve_writer, new_log_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_EVALUATED = 2000
"""At most this many training photos are scored at each evaluation, which is enough for a curve, by all heads together;
also the number of photos that are scored at once."""

_HISTOGRAMS = 10
"""Approximate number of times that histograms are written to the event files during a training."""


@dataclass(frozen=True, eq=False)
class Head:
    """scores = softmax(features @ weights + bias). `weights` (D, C) and `bias` (C,), float32, for raw features."""

    weights: np.ndarray
    bias: np.ndarray


def head_scores(head: Head, features: RowArray) -> np.ndarray:
    """Return the head's scores for features (N, D): float32 (N, C); rows sum to 1."""
    if isinstance(features, ChosenRows) or is_mapped(features):
        return np.concatenate([head_scores(head, np.array(block)) for block in blocks_of(features)])
    logits = features @ head.weights + head.bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def head_from_bottlenecks(
    train: RowArray,
    train_labels: np.ndarray,
    validation: RowArray,
    validation_labels: np.ndarray,
    classes: int,
    config: HeadConfig | None = None,
    logs: Path | None = None,
    progress: Progress = silent,
) -> tuple[Head, Training]:
    """Train a head on bottlenecks, float32 (N, D), and labels, int (N,) from 0 to `classes` - 1.

    Features are standardised by the training photos' mean and standard deviation, which are folded into the head at the
    end. The head is that of the step with the lowest cross-entropy on the validation photos, or on MAX_EVALUATED of
    them. The same inputs and seed give the same head on the same machine. Event files for TensorBoard are written to a
    new folder in `logs`.

    Raises BadInput for arrays that cannot be used for training and if the training diverges, StorageFailed if the event
    files cannot be written.
    """
    photos = (train, train_labels, validation, validation_labels)
    (trained,) = heads_from_bottlenecks(*photos, classes, [config or HeadConfig()], [logs], progress)
    if isinstance(trained, Diverged):
        raise BadInput(
            f"the training diverged: after {trained.step} steps the cross-entropy is {trained.cross_entropy}",
            hint="use a smaller --learning-rate",
            code="TP2067",
        )
    return trained


@dataclass(frozen=True)
class Diverged:
    """A training that ended because its cross-entropy on the validation photos was not finite after `step` steps."""

    step: int
    cross_entropy: float


def heads_from_bottlenecks(
    train: RowArray,
    train_labels: np.ndarray,
    validation: RowArray,
    validation_labels: np.ndarray,
    classes: int,
    configs: Sequence[HeadConfig],
    logs: Sequence[Path | None] | None = None,
    progress: Progress = silent,
) -> list[tuple[Head, Training] | Diverged]:
    """Train a head for each of `configs` like `head_from_bottlenecks`, side by side on the same batches.

    The configs may differ in the learning rate, optimizer, penalty and smoothing only. Each head is that which it would
    be alone, within rounding. The curves of training photos are of fewer photos the more heads there are. `logs` has a
    folder, or None, for each config; the graph is written only for one head. The `seconds` are those of all heads.
    """
    shared = configs[0]
    _check_shared(configs)
    _check_classes(train, train_labels, validation, validation_labels, classes)
    start = time.perf_counter()
    class_weights = weights_of_classes(shared, train_labels, classes)
    loop = TrainingLoop(train, train_labels, configs, class_weights)
    random = np.random.default_rng(shared.seed)
    choosing = chosen_for_evaluation(np.arange(len(validation)), shared.seed)
    if len(choosing) < len(validation):
        validation, validation_labels = ChosenRows(*_origin(validation, choosing)), validation_labels[choosing]
    measured = np.sort(random.permutation(len(train))[: max(_EVALUATED // len(configs), 1)])
    splits: dict[str, tuple[RowArray, np.ndarray]] = {
        "train": (train[measured], train_labels[measured]),
        "validation": (validation, validation_labels),
    }
    shuffle = Shuffle(random, len(train))
    curves = [_Curves() for _ in configs]
    active = list(range(len(configs)))
    histogram_interval = shared.eval_interval * math.ceil(shared.steps / shared.eval_interval / _HISTOGRAMS)
    step = 0
    with ExitStack() as stack:
        stack.enter_context(one_blas_thread())
        writers = []
        for config, folder in zip(configs, logs or [None] * len(configs), strict=True):
            # Its import of TensorFlow takes seconds; TensorBoard shows one graph, that of a head trained alone.
            graph = loss_graph(config, class_weights, *loop.standards) if folder and len(configs) == 1 else None
            own_folder = new_log_folder(folder, run_name(config)) if folder else None
            writers.append(stack.enter_context(curve_writer(own_folder, graph)))
        while step < shared.steps and active:
            more = min(shared.eval_interval, shared.steps - step)
            loop.run(shuffle.take(more, shared.batch_size))
            step += more
            with_histograms = step % histogram_interval == 0 or step == shared.steps
            heads = {number: Head(*parameters) for number, parameters in loop.parameters().items()}
            values = {name: _accuracies_and_cross_entropies(heads, *split) for name, split in splits.items()}
            for number, head in heads.items():
                own = {name: of_heads[number] for name, of_heads in values.items()}
                if curves[number].add(step, head, own):
                    histograms = logs and logs[number] and with_histograms
                    writers[number](step, own, _histograms(head, validation) if histograms else {})
            going = [number for number in active if not curves[number].ended(shared.early_stop)]
            if len(going) < len(active):
                loop.keep(going)
                active = going
            progress("head" if len(configs) == 1 else "heads", step if active else shared.steps, shared.steps)
    seconds = time.perf_counter() - start
    return [curve.result(config, seconds) for curve, config in zip(curves, configs, strict=True)]


def run_name(config: HeadConfig) -> str:
    """Return the name of a training in TensorBoard."""
    return f"{config.optimizer.value}-{config.learning_rate:g}"


def _origin(rows: RowArray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the array that `rows[chosen]` are in, and their indices in it."""
    return (rows.rows, rows.chosen[chosen]) if isinstance(rows, ChosenRows) else (rows, chosen)


def _histograms(head: Head, validation: RowArray) -> dict[str, np.ndarray]:
    """Return the arrays that TensorBoard shows as histograms: the parameters and the top scores."""
    blocks = blocks_of(validation, size=_EVALUATED)
    top_scores = np.concatenate([head_scores(head, np.array(block)).max(axis=1) for block in blocks])
    return {"head/weights": head.weights, "head/bias": head.bias, "validation/top_score": top_scores}


class _Curves:
    """The values measured so far, and the best head."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._values: list[dict[str, tuple[float, float]]] = []
        self._best: tuple[float, int, Head] | None = None
        self._diverged: Diverged | None = None

    def add(self, step: int, head: Head, values: dict[str, tuple[float, float]]) -> bool:
        """Add the values of a step, and return whether the cross-entropy is finite."""
        self._steps.append(step)
        self._values.append(values)
        cross_entropy = values["validation"][1]
        if not math.isfinite(cross_entropy):
            self._diverged = Diverged(step, cross_entropy)
            return False
        if self._best is None or cross_entropy < self._best[0]:
            self._best = cross_entropy, step, head
        return True

    def ended(self, limit: int | None) -> bool:
        """Return whether the training diverged, or `limit` steps have passed since the best step."""
        if self._diverged is not None or self._best is None:
            return True
        return limit is not None and self._steps[-1] - self._best[1] >= limit

    def result(self, config: HeadConfig, seconds: float) -> tuple[Head, Training] | Diverged:
        if self._diverged is not None:
            return self._diverged
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


def _accuracies_and_cross_entropies(
    heads: Mapping[int, Head], features: RowArray, labels: np.ndarray
) -> dict[int, tuple[float, float]]:
    """Return each head's accuracy and cross-entropy (nats per photo) over all photos, computed in batches."""
    weights = np.concatenate([head.weights.T for head in heads.values()])
    bias = np.stack([head.bias for head in heads.values()])[:, :, None]
    correct, nats = np.zeros(len(heads), np.int64), np.zeros(len(heads))
    for place, block in enumerate(blocks_of(features, size=_EVALUATED)):
        truth = labels[place * _EVALUATED : (place + 1) * _EVALUATED]
        logits = (weights @ block.T).reshape(*bias.shape[:2], -1) + bias
        own_correct, own_nats = right_answers_and_nats(logits, truth)
        correct += own_correct.sum(axis=1)
        nats += own_nats.sum(axis=1)
    return {
        number: (int(right) / len(features), float(total) / len(features))
        for number, right, total in zip(heads, correct, nats, strict=True)
    }


def weights_of_classes(config: HeadConfig, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the weight of each class's photos in the loss, float64 (classes,): ones, unless classes are weighted."""
    if not config.class_weights:
        return np.ones(classes)
    return np.asarray(len(labels) / (classes * np.maximum(np.bincount(labels, minlength=classes), 1)))


def _check_shared(configs: Sequence[HeadConfig]) -> None:
    """Raise BadInput for settings that cannot be trained side by side."""
    own = ("learning_rate", "optimizer", "l2", "label_smoothing")
    others = {name: value for name, value in vars(configs[0]).items() if name not in own}
    for config in configs[1:]:
        different = [name for name, value in others.items() if getattr(config, name) != value]
        if different:
            raise BadInput(
                f"heads that are trained side by side must have the same {different[0]}",
                hint=f"give equal settings, except for {', '.join(own)}",
                code="TP2230",
            )


def _check_classes(
    train: RowArray, train_labels: np.ndarray, validation: RowArray, validation_labels: np.ndarray, classes: int
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
        if not np.isfinite(mean_of(features)).all():
            raise BadInput(
                f"the bottlenecks of the {name} photos contain values that are not finite",
                hint="check the backbone's weights, or use others with --weights FILE",
                code="TP2072",
            )
    counts = np.bincount(train_labels, minlength=classes)
    if not counts.all():
        raise BadInput(
            f"class {int(np.argmin(counts))} has no training photo", hint="add photos to that class", code="TP2073"
        )
