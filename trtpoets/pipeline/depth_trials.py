"""Tries how many layers `--unfreeze auto` should train: a short fine-tuning for each depth, here or by other workers.

A trial depends on its arguments only, which can be pickled, so that it gives the same result in any process with the
same versions. The result of a trial that other workers computed is stored when it arrives; a trial in this process
keeps its state in a checkpoint.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import RunFailed
from trtpoets.core.files import temporary_folder
from trtpoets.core.fine_tuning import DepthTrial
from trtpoets.core.optional import tensorflow
from trtpoets.core.progress import Progress, silent
from trtpoets.train.finetune import fine_tuned_head
from trtpoets.train.finetune_checkpoint import Checkpoint
from trtpoets.train.networks import assign_variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trtpoets.core.fine_tuning import FineTuneConfig
    from trtpoets.train.finetune import LabelledPhotos
    from trtpoets.train.head import Head
    from trtpoets.train.networks import Network
    from trtpoets.train.workers import Workers

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ShortTraining:
    """What the trials of all depths have in common.

    The trials train on `photos.train` and are judged on `photos.validation`, both training photos of the run.
    `tensorflow_version` is that of the process that starts the trials.
    """

    network: Network
    head: Head
    photos: LabelledPhotos
    config: FineTuneConfig
    class_weights: np.ndarray
    tensorflow_version: str


@dataclass(frozen=True)
class PlannedTrial:
    """A number of layers to try, and the file and the key of its stored state."""

    layers: int
    path: Path
    key: str

    @property
    def training(self) -> Checkpoint:
        """The state of the training, for a trial in this process."""
        return Checkpoint(self.path, self.key)

    @property
    def result(self) -> Checkpoint:
        """The result, for a trial of other workers."""
        return Checkpoint(self.path, f"{self.key} result")


def tried_depths(
    training: ShortTraining, planned: Sequence[PlannedTrial], workers: Workers | None, progress: Progress = silent
) -> tuple[DepthTrial, ...]:
    """Return the result of each trial, in the order of `planned`. The weights of `training.network` do not change.

    Raises what `fine_tuned_head` raises; RunFailed if workers are lost or have another TensorFlow.
    """
    stored = {trial: _stored(trial) for trial in planned}
    missing = [trial for trial, result in stored.items() if result is None]
    results = dict(stored)
    computed = _here(training, missing, progress) if workers is None else _there(training, missing, workers, progress)
    for trial, result in zip(missing, computed, strict=True):
        results[trial] = result
        _log.info(
            "trial of %d layers: cross-entropy %.3f on %d training photos held out",
            *(result.layers, result.cross_entropy, len(training.photos.validation)),
        )
    return tuple(result for result in results.values() if result is not None)


def depth_trial(
    training: ShortTraining, layers: int, checkpoint: Checkpoint, progress: Progress = silent
) -> DepthTrial:
    """Fine-tune `layers` layers and return the lowest cross-entropy on the photos held out."""
    network = training.network
    frozen = [variable.numpy() for variable in network.model.variables]
    try:
        _, course = fine_tuned_head(
            network,
            training.head,
            training.photos,
            layers,
            training.config,
            checkpoint,
            class_weights=training.class_weights,
            progress=progress,
            task=f"trial of {layers} layers",
        )
    finally:
        assign_variables(network, frozen)
    return DepthTrial(layers, float(course.nats[course.best].mean(dtype=np.float64)), course.seconds)


def depth_trial_of_worker(training: ShortTraining, layers: int) -> DepthTrial:
    """Return what `depth_trial` returns, in a process of a worker, which keeps no state.

    Raises RunFailed if the worker has another version of TensorFlow, whose results may differ.
    """
    version = tensorflow().__version__
    if version != training.tensorflow_version:
        raise RunFailed(
            f"a worker has TensorFlow {version}, but this machine has {training.tensorflow_version}",
            hint=f"install TensorFlow {training.tensorflow_version} on all nodes",
            code="TP8330",
        )
    with temporary_folder() as folder:
        return depth_trial(training, layers, Checkpoint(folder / "state", ""))


def _here(training: ShortTraining, planned: Sequence[PlannedTrial], progress: Progress) -> Iterator[DepthTrial]:
    for trial in planned:
        yield depth_trial(training, trial.layers, trial.training, progress)


def _there(
    training: ShortTraining, planned: Sequence[PlannedTrial], workers: Workers, progress: Progress
) -> Iterator[DepthTrial]:
    function = partial(depth_trial_of_worker, training)
    task = f"trials of {len(planned)} depths"
    progress(task, 0, len(planned))
    with closing(workers.map(function, [trial.layers for trial in planned], long=True)) as results:
        for number, (trial, result) in enumerate(zip(planned, results, strict=True), 1):
            trial.result.write({"cross_entropy": np.array(result.cross_entropy), "seconds": np.array(result.seconds)})
            progress(task, number, len(planned))
            yield result


def _stored(trial: PlannedTrial) -> DepthTrial | None:
    """Return the result that other workers computed before; None if there is none."""
    state = trial.result.read()
    return None if state is None else DepthTrial(trial.layers, float(state["cross_entropy"]), float(state["seconds"]))
