"""Measures the speed of training on every device, and the validation accuracy of several learning rates."""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.files import temporary_folder
from trtpoets.core.optional import tensorflow_gpus
from trtpoets.core.progress import Progress, silent
from trtpoets.core.serialization import to_json
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Skipped, Split
from trtpoets.core.workspace import Workspace, seal_card
from trtpoets.judge.bench.conditions import Conditions, conditions
from trtpoets.judge.train_benchmark import BottleneckRate, HeadResult, RateCurves, TrainBenchConfig, TrainBenchmark
from trtpoets.pipeline.artefacts import ENGINES, classifier_in, dataset_in, writing
from trtpoets.pipeline.bench_fine_tuning import fine_tuning_rates
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.pipeline.extractors import Device, OnnxExtractor, extractor_from_network
from trtpoets.pipeline.head_training import head_from_features, indices_of_labels, rows_in
from trtpoets.pipeline.photos import verified_photos
from trtpoets.pipeline.recorded_commands import bench_train_command
from trtpoets.pipeline.result_status import train_benchmark_key
from trtpoets.pipeline.retrain import training_of
from trtpoets.train.backbones import backbone_named
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.networks import network_from_backbone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from trtpoets.core.types import ModelSpec, Photo
    from trtpoets.train.backbones import Backbone
    from trtpoets.train.bottlenecks import Extractor
    from trtpoets.train.dataset import Dataset
    from trtpoets.train.networks import Network

_log = logging.getLogger(__name__)


def train_bench_config(learning_rates: Sequence[float] | None, unfreeze: str | None = None) -> TrainBenchConfig:
    """Return the configuration of `bench --train`; options that are None keep the default. Raises BadInput."""
    config = TrainBenchConfig() if unfreeze is None else TrainBenchConfig(unfreeze=unfreeze)
    return replace(config, learning_rates=tuple(learning_rates)) if learning_rates else config


def bench_train(
    name: str,
    config: TrainBenchConfig | None = None,
    *,
    weights: Path | None = None,
    engines: Path | str = ENGINES,
    progress: Progress = silent,
) -> TrainBenchmark:
    """Measure bottlenecks and steps of fine-tuning per second by device, and the training of the head.

    The devices are the CPU and, if TensorFlow finds one, the GPU. Heads are trained on the CPU on every machine.

    Returns the content of engines/<name>/train-benchmark.json. Event files for TensorBoard are written for each
    learning rate. `weights` is the weight file that `retrain` used, None for the published weights. Raises
    MissingArtefact if the classifier was not retrained, BadInput if it was retrained with other weights or its network
    has fewer layers than `unfreeze`.
    """
    config = config or TrainBenchConfig()
    space = Workspace(Path(engines), name)
    with writing(space):
        details = training_of(name, engines=engines)
        if details.fine_tuned:
            raise BadInput(
                f"bench --train measures heads on a published backbone, and that of {name} was fine-tuned",
                hint="train without --unfreeze under another --name, and measure that run",
                code="TP8055",
            )
        trained = details.config
        dataset, before = dataset_in(space), conditions()
        with verified_photos(space, dataset.in_split(Split.TRAIN, Split.VALIDATION)):
            result = _measured(space, dataset, trained, config, weights, before, progress)
        seal_card(space.train_benchmark, key=train_benchmark_key(space, config), files=[], details=to_json(result))
    return result


def _measured(
    space: Workspace,
    dataset: Dataset,
    trained: HeadConfig,
    config: TrainBenchConfig,
    weights: Path | None,
    before: Conditions,
    progress: Progress,
) -> TrainBenchmark:
    """Return the result of `bench_train`; `before` are the conditions at its start."""
    devices = [Device.CPU, *([Device.GPU] if tensorflow_gpus() else [])]
    spec = classifier_in(space).spec
    extractors = _extractors(spec, weights, devices)
    photos = dataset.in_split(Split.TRAIN)
    labels = indices_of_labels(dataset)[rows_in(dataset, Split.TRAIN)]

    def network() -> Network:
        return network_from_backbone(_backbone(spec), weights)

    fine_tuning = fine_tuning_rates(network, photos, labels, len(dataset.labels), devices, config, progress)
    no_gpu = "TensorFlow finds no GPU on this machine"
    skipped = [Skipped(f"{task} on a GPU", no_gpu) for task in ("bottlenecks", "fine-tuning")]
    return TrainBenchmark(
        config=config,
        bottlenecks=_bottlenecks(photos, extractors, config, progress),
        heads=_heads(dataset, extractors[Device.CPU], trained, config, space.logs, progress),
        fine_tuning=fine_tuning,
        skipped=() if Device.GPU in devices else tuple(skipped),
        conditions=before,
        command=bench_train_command(space, config, weights),
    )


def _extractors(spec: ModelSpec, weights: Path | None, devices: Sequence[Device]) -> dict[Device, Extractor]:
    if spec.original is not None:
        raise BadInput(
            f"bench --train measures the training of trtpoets, and {spec.name} was adopted from {spec.original.file}",
            hint="leave --train out: trtpoets bench NAME",
            code="TP8046",
        )
    network = network_from_backbone(_backbone(spec), weights)
    if network.weights_id != spec.weights_id:
        raise BadInput(
            f"{spec.name} was not retrained with {weights or 'the published weights'}",
            hint="give the weights that retrain was given with --weights FILE",
            code="TP8008",
        )
    return {device: extractor_from_network(network, device) for device in devices}


def _backbone(spec: ModelSpec) -> Backbone:
    return replace(backbone_named(spec.backbone), preprocess=spec.preprocess)


def _bottlenecks(
    photos: Sequence[Photo], extractors: Mapping[Device, Extractor], config: TrainBenchConfig, progress: Progress
) -> tuple[BottleneckRate, ...]:
    """Return photos/s from file to features. Each round uses a new cache; the first round is not counted."""
    chosen = sorted(photos, key=lambda photo: photo.sha256)[: config.photos]
    rates: dict[Device, list[float]] = {device: [] for device in extractors}
    done, total = 0, (config.rounds + 1) * len(extractors) * len(chosen)
    for _ in range(config.rounds + 1):
        for device, extractor in extractors.items():
            with temporary_folder() as store:
                start = time.perf_counter()
                bottlenecks_from_photos(chosen, extractor, store)
                rates[device].append(len(chosen) / (time.perf_counter() - start))
            done += len(chosen)
            progress("bottlenecks, timed", done, total)
    return tuple(
        BottleneckRate(
            device=device.value,
            by="onnxruntime" if isinstance(extractors[device], OnnxExtractor) else "tensorflow",
            photos=len(chosen),
            photos_per_s=statistics.median(measured[1:]),
            low=min(measured[1:]),
            high=max(measured[1:]),
        )
        for device, measured in rates.items()
    )


def _heads(
    dataset: Dataset,
    extractor: Extractor,
    trained: HeadConfig,
    config: TrainBenchConfig,
    logs: Path,
    progress: Progress,
) -> tuple[HeadResult, ...]:
    """Return the result of each learning rate. A short training before them is not counted."""
    features = bottlenecks_from_photos(dataset.photos, extractor, bottleneck_folder(), progress=progress)
    head_from_features(dataset, features, replace(trained, steps=trained.eval_interval))
    return tuple(
        _head(dataset, features, replace(trained, learning_rate=rate), logs, progress) for rate in config.learning_rates
    )


def _head(dataset: Dataset, features: np.ndarray, config: HeadConfig, logs: Path, progress: Progress) -> HeadResult:
    row = HeadResult(Device.CPU.value, config.learning_rate, config.optimizer.value)
    try:
        _, training = head_from_features(dataset, features, config, logs, progress)
    except BadInput as error:  # a rate that is too large is a result
        _log.warning("learning rate %g: %s", config.learning_rate, error.message)
        return replace(row, failed=error.message)
    best = training.steps.index(training.best_step)
    return replace(
        row,
        seconds=training.seconds,
        best_step=training.best_step,
        validation_accuracy=training.validation_accuracy[best],
        validation_cross_entropy=training.validation_cross_entropy[best],
        curves=RateCurves(training.steps, training.validation_accuracy, training.validation_cross_entropy),
    )
