"""How fast training is here: bottlenecks and head on every device, and what the learning rates come to."""

from __future__ import annotations

import logging
import math
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.core.errors import BadInput
from trtpoets.core.files import temporary_folder
from trtpoets.core.optional import tensorflow
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import Split
from trtpoets.core.workspace import Workspace, seal_card
from trtpoets.judge.bench.conditions import conditions
from trtpoets.pipeline.artefacts import ENGINES, classifier_in, dataset_in, writing
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.pipeline.extractors import Device, OnnxExtractor, extractor_from_network
from trtpoets.pipeline.head_training import head_from_features
from trtpoets.pipeline.photos import verified_photos
from trtpoets.pipeline.recorded_commands import bench_train_command
from trtpoets.pipeline.result_status import train_benchmark_key
from trtpoets.pipeline.retrain import training_of
from trtpoets.train.backbones import backbone_named
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.head import HeadConfig
from trtpoets.train.networks import network_from_backbone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from trtpoets.core.types import ModelSpec, Photo
    from trtpoets.train.bottlenecks import Extractor
    from trtpoets.train.dataset import Dataset

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainBenchConfig:
    """`learning_rates` are trained with everything else as the classifier was; bottlenecks of `photos`, `rounds` times.

    More photos or rounds tell the rate more closely; devices take turns, so that a drifting machine hurts all alike.
    """

    learning_rates: tuple[float, ...] = (0.0001, 0.0003, 0.001, 0.01)
    photos: int = 256
    rounds: int = 3

    def __post_init__(self) -> None:
        if not self.learning_rates or len(set(self.learning_rates)) != len(self.learning_rates):
            raise BadInput(
                f"learning rates {list(self.learning_rates)}",
                hint="give different ones: --learning-rate 0.001 --learning-rate 0.01",
                code="TP8005",
            )
        wrong = [rate for rate in self.learning_rates if not 0 < rate < math.inf]
        if wrong:
            raise BadInput(
                f"a learning rate of {wrong[0]:g}",
                hint="give finite ones above 0: --learning-rate 0.001",
                code="TP8006",
            )
        if self.photos < 1 or self.rounds < 1:
            raise BadInput(
                f"{self.photos} photos in {self.rounds} rounds", hint="give at least one of each", code="TP8007"
            )


def train_bench_config(learning_rates: Sequence[float] | None) -> TrainBenchConfig:
    """The configuration of `bench --train`."""
    return TrainBenchConfig(tuple(learning_rates)) if learning_rates else TrainBenchConfig()


def bench_train(
    name: str,
    config: TrainBenchConfig | None = None,
    *,
    weights: Path | None = None,
    engines: Path | str = ENGINES,
    progress: Progress = silent,
) -> Mapping[str, Any]:
    """Measure bottlenecks a second and the head's training on the CPU, and on the GPU where TensorFlow sees one.

    Returns the details of engines/<name>/train-benchmark.json: "bottlenecks" (photos/s, decoding included, with the
    slowest and fastest round), "heads" (seconds, best step, validation accuracy 0..1 and cross-entropy in nats for each
    learning rate and device, with curves), "skipped", "conditions". Each rate also leaves a folder of event files for
    TensorBoard. The test photos are not looked at. `weights` is the file that `retrain` was given, if it was. Raises
    MissingArtefact where nothing was retrained, BadInput where it was with other weights.
    """
    config = config or TrainBenchConfig()
    space = Workspace(Path(engines), name)
    with writing(space):
        trained = training_of(name, engines=engines).config
        dataset, before = dataset_in(space), conditions()
        used = [photo for photo in dataset.photos if photo.split is not Split.TEST]
        with verified_photos(space, used):
            found = _measured(space, dataset, trained, config, weights, before, progress)
        seal_card(space.train_benchmark, key=train_benchmark_key(space, asdict(config)), files=[], details=found)
    return found


def _measured(
    space: Workspace,
    dataset: Dataset,
    trained: HeadConfig,
    config: TrainBenchConfig,
    weights: Path | None,
    before: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """What `bench_train` returns; `before` are the conditions that it began in."""
    devices = [Device.CPU, *([Device.GPU] if tensorflow().config.list_physical_devices("GPU") else [])]
    extractors = _extractors(classifier_in(space).spec, weights, devices)
    return {
        "config": asdict(config),
        "bottlenecks": _bottlenecks(dataset.in_split(Split.TRAIN), extractors, config, progress),
        "heads": _heads(dataset, extractors[Device.CPU], devices, trained, config, space.logs, progress),
        "skipped": []
        if Device.GPU in devices
        else [{"what": "training on a GPU", "why": "TensorFlow sees no GPU here"}],
        "conditions": before,
        "command": bench_train_command(space, config, weights),
    }


def _extractors(spec: ModelSpec, weights: Path | None, devices: Sequence[Device]) -> dict[Device, Extractor]:
    network = network_from_backbone(replace(backbone_named(spec.backbone), preprocess=spec.preprocess), weights)
    if network.weights_id != spec.weights_id:
        raise BadInput(
            f"{spec.name} was not retrained with {weights or 'the published weights'}",
            hint="give the weights that retrain was given: --weights FILE",
            code="TP8008",
        )
    return {device: extractor_from_network(network, device) for device in devices}


def _bottlenecks(
    photos: Sequence[Photo], extractors: Mapping[Device, Extractor], config: TrainBenchConfig, progress: Progress
) -> list[dict[str, Any]]:
    """Photos/s from file to features, each round into a new store; the first round of all is not counted."""
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
    return [
        {
            "device": device.value,
            "by": "onnxruntime" if isinstance(extractors[device], OnnxExtractor) else "tensorflow",
            "photos": len(chosen),
            "photos_per_s": statistics.median(each[1:]),
            "low": min(each[1:]),
            "high": max(each[1:]),
        }
        for device, each in rates.items()
    ]


def _heads(
    dataset: Dataset,
    extractor: Extractor,
    devices: Sequence[Device],
    trained: HeadConfig,
    config: TrainBenchConfig,
    logs: Path,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Each learning rate on each device; before them a short training that is not counted."""
    features = bottlenecks_from_photos(dataset.photos, extractor, bottleneck_folder(), progress=progress)
    rows = []
    for number, device in enumerate(devices):
        with tensorflow().device(f"/{device.value.upper()}:0"):
            head_from_features(dataset, features, replace(trained, steps=trained.eval_interval))
            for rate in config.learning_rates:
                # One set of curves is enough for TensorBoard: devices differ in speed, not in what is learnt.
                told = logs if number == 0 else None
                rows.append(_head(dataset, features, replace(trained, learning_rate=rate), device, told, progress))
    return rows


def _head(
    dataset: Dataset, features: np.ndarray, config: HeadConfig, device: Device, logs: Path | None, progress: Progress
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "device": device.value,
        "learning_rate": config.learning_rate,
        "optimizer": config.optimizer.value,
    }
    try:
        _, training = head_from_features(dataset, features, config, logs, progress)
    except BadInput as error:  # a rate that is too large is an answer, not the end
        _log.warning("learning rate %g: %s", config.learning_rate, error.message)
        return {**row, "failed": error.message}
    best = training.steps.index(training.best_step)
    return {
        **row,
        "seconds": training.seconds,
        "best_step": training.best_step,
        "validation_accuracy": training.validation_accuracy[best],
        "validation_cross_entropy": training.validation_cross_entropy[best],
        "curves": {
            "steps": training.steps,
            "validation_accuracy": training.validation_accuracy,
            "validation_cross_entropy": training.validation_cross_entropy,
        },
    }
