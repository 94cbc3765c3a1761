"""Fine-tunes the backbone of a run, and ships the result only if it is significantly better than the frozen network.

Validation photos are used both to select the training step and to compare the networks. So that no photo is used for
both at once, they are divided into two halves of whole groups, and each half is classified at the step that is best on
the other half. `auto` chooses the number of layers by short trials on training photos alone, a quarter of which is held
out.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trtpoets.core.fine_tuning import AUTO, DepthTrial, FineTuning, PairedResult
from trtpoets.core.formatting import percent, point_interval, points
from trtpoets.core.optional import tensorflow, tensorflow_gpus
from trtpoets.core.progress import Progress, about, silent
from trtpoets.core.types import Split, hash_of
from trtpoets.judge.paired import paired_result
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.pipeline.depth_trials import PlannedTrial, ShortTraining, tried_depths
from trtpoets.pipeline.extractors import extractor_from_network
from trtpoets.pipeline.head_training import indices_of_labels, rows_in
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.finetune import Course, LabelledPhotos, best_entry, fine_tuned_head
from trtpoets.train.finetune_checkpoint import Checkpoint
from trtpoets.train.finetune_layers import layers_of, number_to_unfreeze, weights_hash
from trtpoets.train.head import Head, head_from_bottlenecks, head_scores, weights_of_classes
from trtpoets.train.near_copies.grouping import groups_of, positions_of_groups
from trtpoets.train.networks import assign_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from trtpoets.core.fine_tuning import FineTuneConfig
    from trtpoets.core.training import HeadConfig
    from trtpoets.core.types import Photo
    from trtpoets.pipeline.extractors import Device
    from trtpoets.train.dataset import Dataset
    from trtpoets.train.networks import Network
    from trtpoets.train.workers import Workers

_VERSION = 1
"""Increase it when the same photos and settings may give other weights."""

_TRIAL_SHARE = 0.25
"""The part of the passes that a trial of `auto` takes, and of the training photos that it holds out."""

_log = logging.getLogger(__name__)


class Tuned(NamedTuple):
    """What is shipped, fine-tuned or frozen, with how that was decided.

    `right` are the right answers to the test photos of the frozen and of the fine-tuned network, bool (2, N).
    """

    network: Network
    head: Head
    details: FineTuning
    right: np.ndarray


class FrozenRun(NamedTuple):
    """The run before fine-tuning: its network and head, the features (N, D) of all photos of the dataset.

    `workers` connects to those who compute the trials of `auto`: None for this process.
    """

    network: Network
    head: Head
    config: HeadConfig
    dataset: Dataset
    features: np.ndarray
    device: Device
    workers: Callable[[], AbstractContextManager[Workers | None]] = nullcontext


def fine_tune(
    run: FrozenRun, config: FineTuneConfig, checkpoint: Path, logs: Path | None = None, progress: Progress = silent
) -> Tuned:
    """Fine-tune the network of a run, and return what to ship with the comparison.

    The network in `run` is changed in place; where the frozen one is shipped, it has its old weights again. The state
    is kept in files that begin with `checkpoint` until `delete_checkpoints`. Raises BadInput for a number of layers
    that the network does not have, and what `fine_tuned_head` raises.
    """
    dataset, network = run.dataset, run.network
    labels = indices_of_labels(dataset).astype(np.int32)
    parts = {split: rows_in(dataset, split) for split in Split}
    train, validation = parts[Split.TRAIN], parts[Split.VALIDATION]
    frozen = [variable.numpy() for variable in network.model.variables]
    trials: tuple[DepthTrial, ...] = ()
    if config.unfreeze == AUTO:
        trials = _trials(run, config, train, labels, checkpoint, progress)
        layers = min(trials, key=lambda trial: (trial.cross_entropy, trial.layers)).layers
    else:
        layers = number_to_unfreeze(config.unfreeze, network)
    data = _photos(dataset, labels, train, validation)
    weights = weights_of_classes(run.config, labels[train], len(dataset.labels))
    state = Checkpoint(checkpoint, _key(run, config, layers, train))
    head, course = fine_tuned_head(
        network, run.head, data, layers, config, state, class_weights=weights, logs=logs, progress=progress
    )
    groups = _groups(dataset, validation)
    answers = answers_of_other_halves(course, groups, [photo.sha256 for photo in data.validation])
    compared = paired_result(course.right[0], answers, groups)
    tested = parts[Split.TEST]
    right = _on_test_photos(run, network, head, tested, labels, progress)
    kept = compared.improves and course.best > 0
    details = FineTuning(
        config=config,
        layers=layers,
        total=len(layers_of(network)),
        kept=kept,
        why=_why(compared, course),
        best_step=course.steps[course.best],
        seconds=course.seconds,
        photos_per_s=course.photos_per_s,
        steps=course.steps,
        train_accuracy=course.train_accuracy,
        train_cross_entropy=course.train_cross_entropy,
        validation_accuracy=tuple(course.right.mean(axis=1).tolist()),
        validation_cross_entropy=tuple(np.nan_to_num(course.nats.mean(axis=1, dtype=np.float64), posinf=1e9).tolist()),
        validation=compared,
        test=paired_result(right[0], right[1], _groups(dataset, tested)) if len(tested) else None,
        trials=trials,
        mixed_precision=tensorflow_gpus() > 0,
    )
    _log.info("fine-tuning of %d layers: %s", layers, details.why)
    if kept:
        return Tuned(_identified(network), head, details, right)
    assign_variables(network, frozen)
    return Tuned(network, run.head, details, right)


def trained_head(checkpoint: Path, key: str) -> Checkpoint:
    """Return the note that the head of the run with this key was trained and its curves were written.

    A resumed run trains the same head again, and writes its curves for TensorBoard only if there is no note. It begins
    with `checkpoint` like the other files of a fine-tuning.
    """
    return Checkpoint(checkpoint.with_name(f"{checkpoint.name}-head"), key)


def delete_checkpoints(checkpoint: Path) -> None:
    """Delete the state of a fine-tuning and of its trials, after the classifier was written. Raises StorageFailed."""
    trained_head(checkpoint, "").delete()
    for path in (checkpoint, *(_trial_path(checkpoint, place) for place in range(len(_TRIAL_DEPTHS)))):
        Checkpoint(path, "").delete()


def answers_of_other_halves(course: Course, groups: np.ndarray, sha256: Sequence[str]) -> np.ndarray:
    """Return the right answers, bool (n,), of each half of the photos at the step that is best on the other half.

    The photos of a group are in one half, which depends on their content only.
    """
    first = positions_of_groups(groups, sha256, "") < 50
    if first.all() or not first.any():
        return np.asarray(course.right[course.best])
    answers = np.zeros(len(groups), bool)
    for half in (first, ~first):
        answers[half] = course.right[best_entry(course.nats[:, ~half], course.first)][half]
    return answers


_TRIAL_DEPTHS = (0.25, 0.5, 1.0)
"""The shares of the layers that `auto` tries."""


def _trials(
    run: FrozenRun, config: FineTuneConfig, train: np.ndarray, labels: np.ndarray, checkpoint: Path, progress: Progress
) -> tuple[DepthTrial, ...]:
    """Fine-tune a quarter, a half and all of the layers shortly, on three quarters of the training photos."""
    classes = len(run.dataset.labels)
    held = _held_out(run.dataset, train, labels)
    own, other = train[~held], train[held]
    head, _ = head_from_bottlenecks(
        run.features[own], labels[own], run.features[other], labels[other], classes, replace(run.config, early_stop=500)
    )
    short = replace(
        config, epochs=config.epochs * _TRIAL_SHARE, least_steps=max(round(config.least_steps * _TRIAL_SHARE), 1)
    )
    training = ShortTraining(
        run.network,
        head,
        _photos(run.dataset, labels, own, other),
        short,
        weights_of_classes(run.config, labels[own], classes),
        tensorflow().__version__,
    )
    total = len(layers_of(run.network))
    depths = [max(round(share * total), 1) for share in _TRIAL_DEPTHS]
    planned = [
        PlannedTrial(layers, _trial_path(checkpoint, place), _key(run, short, layers, own))
        for place, layers in enumerate(depths)
    ]
    # A GPU of this machine is faster than the processors of several, which have no mixed precision either.
    with nullcontext() if tensorflow_gpus() else run.workers() as workers:
        return tried_depths(training, planned, workers, progress)


def _held_out(dataset: Dataset, train: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return which training photos a trial holds out, bool (n,): whole groups, and no class loses all of its photos."""
    photos = [dataset.photos[row] for row in train.tolist()]
    sha256 = [photo.sha256 for photo in photos]
    held = positions_of_groups(_groups(dataset, train), sha256, "trial:") < 100 * _TRIAL_SHARE
    for label in np.unique(labels[train]):
        if held[labels[train] == label].all():
            held &= labels[train] != label
    if not held.any():
        held[np.argmax(np.bincount(labels[train])[labels[train]])] = True
    return held


def _photos(dataset: Dataset, labels: np.ndarray, train: np.ndarray, validation: np.ndarray) -> LabelledPhotos:
    def of(rows: np.ndarray) -> list[Photo]:
        return [dataset.photos[row] for row in rows.tolist()]

    return LabelledPhotos(of(train), labels[train], of(validation), labels[validation])


def _on_test_photos(
    run: FrozenRun, network: Network, head: Head, rows: np.ndarray, labels: np.ndarray, progress: Progress
) -> np.ndarray:
    """Return the right answers of the frozen and the fine-tuned network, as exported, to test photos: bool (2, n)."""
    if not len(rows):
        return np.zeros((2, 0), bool)
    photos = [run.dataset.photos[row] for row in rows.tolist()]
    extractor = extractor_from_network(_identified(network), run.device)
    own_progress = about("the fine-tuned network", progress)
    tuned = bottlenecks_from_photos(photos, extractor, bottleneck_folder(), progress=own_progress)
    before = head_scores(run.head, run.features[rows]).argmax(axis=1) == labels[rows]
    after = head_scores(head, tuned).argmax(axis=1) == labels[rows]
    return np.stack([before, after])


def _groups(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    return np.asarray(groups_of([dataset.photos[row] for row in rows.tolist()], dataset))


def _identified(network: Network) -> Network:
    """Return the network with the identity of its present weights, so that no cache of other weights is used."""
    return replace(network, weights_id=weights_hash(network), imagenet_head=None)


def _key(run: FrozenRun, config: FineTuneConfig, layers: int, train: np.ndarray) -> str:
    """Return a hash of all that determines the course of a training."""
    head = hashlib.sha256(run.head.weights.tobytes() + run.head.bias.tobytes()).hexdigest()
    preprocess = run.network.backbone.preprocess.hash
    photos = [run.dataset.photos[row].sha256 for row in train.tolist()]
    own = [_VERSION, run.network.weights_id, preprocess, run.dataset.hash, head, asdict(config), layers, photos]
    return hash_of([*own, run.config.class_weights])


def _trial_path(checkpoint: Path, place: int) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}-trial-{place}")


def _why(compared: PairedResult, course: Course) -> str:
    """Return the reason why the fine-tuned or the frozen network is shipped, as a sentence without its full stop."""
    if not course.best:
        return (
            "the fine-tuning diverged, so the frozen network is shipped; retrain with a smaller --fine-tuning-rate may "
            "help"
        )
    measured = (
        f"on {compared.photos} validation photos the fine-tuned network is right on {percent(compared.after)} and the "
        f"frozen one on {percent(compared.before)} ({points(compared.after - compared.before)} points, "
        f"{point_interval(compared.low, compared.high)}, p = {compared.p_value:.2g})"
    )
    if compared.improves:
        return f"{measured}, so the fine-tuned network is shipped"
    if compared.after > compared.before:
        return f"{measured}, which may be chance, so the frozen network is shipped"
    return f"{measured}, so the frozen network is shipped"
