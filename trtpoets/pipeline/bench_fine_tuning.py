"""Measures the speed of fine-tuning on every device, for `bench --train`."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trtpoets.core.fine_tuning import FineTuneConfig
from trtpoets.core.optional import tensorflow
from trtpoets.judge.train_benchmark import FineTuningRate
from trtpoets.pipeline.extractors import Device
from trtpoets.train.finetune import distorted_batches, fine_tuning_loop
from trtpoets.train.finetune_layers import layers_of, number_to_unfreeze
from trtpoets.train.finetune_schedule import number_of_steps
from trtpoets.train.head import Head

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trtpoets.core.progress import Progress
    from trtpoets.core.types import Photo, Preprocess
    from trtpoets.judge.train_benchmark import TrainBenchConfig
    from trtpoets.train.finetune_loop import FineTuningLoop
    from trtpoets.train.networks import Network


class _Trained(NamedTuple):
    """A network whose variables and step are on one device."""

    loop: FineTuningLoop
    device: Device
    layers: int
    total: int
    preprocess: Preprocess


def fine_tuning_rates(
    network: Callable[[], Network],
    photos: Sequence[Photo],
    labels: np.ndarray,
    classes: int,
    devices: Sequence[Device],
    config: TrainBenchConfig,
    progress: Progress,
) -> tuple[FineTuningRate, ...]:
    """Return the speed of fine-tuning on each of `devices`, with the training photos and their labels, int (N,).

    `network` returns a new network, which is trained and thrown away. The settings are those of `retrain --unfreeze`
    with a learning rate of 0, so that a step computes all, and the weights stay as they are. Before the rounds each
    device takes two steps that are not counted, the first of which compiles. Raises BadInput for a number of layers
    that the network does not have.
    """
    settings = FineTuneConfig(unfreeze=config.unfreeze)
    batch = min(settings.batch_size, len(photos))
    trained = [_on_device(network, device, config, settings, classes) for device in devices]
    rates: dict[Device, list[float]] = {device: [] for device in devices}
    singles: dict[Device, list[float]] = {device: [] for device in devices}
    done, total = 0, (config.rounds + 1) * len(devices)
    for part in range(config.rounds + 1):
        for each in trained:
            steps = range(part * config.steps, (part + 1) * config.steps) if part else range(2)
            start = time.perf_counter()
            batches = distorted_batches(photos, labels, settings, each.preprocess, batch, steps)
            with closing(batches):
                seconds = [_seconds_of_step(each, *pixels_and_labels) for pixels_and_labels in batches]
            if part:
                rates[each.device].append(len(steps) / (time.perf_counter() - start))
                singles[each.device] += seconds
            done += 1
            progress("fine-tuning, timed", done, total)
    needed = number_of_steps(len(photos), batch, settings.epochs, settings.least_steps)
    return tuple(
        FineTuningRate(
            device=each.device.value,
            layers=each.layers,
            total=each.total,
            batch_size=batch,
            steps_per_s=statistics.median(rates[each.device]),
            low=min(rates[each.device]),
            high=max(rates[each.device]),
            step_seconds=statistics.median(singles[each.device]),
            training_steps=needed,
            training_seconds=needed / statistics.median(rates[each.device]),
            mixed_precision=each.device is Device.GPU,
        )
        for each in trained
    )


def _on_device(
    make: Callable[[], Network], device: Device, config: TrainBenchConfig, settings: FineTuneConfig, classes: int
) -> _Trained:
    """Make a network and its loop with all variables and operators on `device`, and a head of zeros."""
    scope = f"/{device.value.upper()}:0"
    with tensorflow().device(scope):
        network = make()
        unfrozen = number_to_unfreeze(config.unfreeze, network)
        weights = np.zeros((network.backbone.feature_width, classes), np.float32)
        loop = fine_tuning_loop(
            network,
            unfrozen,
            Head(weights, np.zeros(classes, np.float32)),
            settings,
            np.ones(classes, np.float32),
            mixed_precision=device is Device.GPU,
            device=scope,
        )
    return _Trained(loop, device, unfrozen, len(layers_of(network)), network.backbone.preprocess)


def _seconds_of_step(trained: _Trained, pixels: np.ndarray, labels: np.ndarray) -> float:
    """Take a step on the device; its result is read, so that the device has completed it."""
    start = time.perf_counter()
    trained.loop.train(pixels, labels, 0.0, 1)
    return time.perf_counter() - start
