"""Trains a classifier on a folder of labelled photos."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import MissingArtefact
from trtpoets.core.fine_tuning import AUTO, DistortedTraining, Distortions, FineTuneConfig
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.training import Accuracy, HeadConfig, Training, TrainingDetails
from trtpoets.core.types import Classifier, ModelSpec, Resize, Split, hash_of
from trtpoets.core.workspace import Workspace, open_details
from trtpoets.judge.race import AUTO_BACKBONE, Race, RaceConfig
from trtpoets.pipeline.artefacts import ENGINES, training_in, writing
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.pipeline.distorted_head import VARIANTS, choose_distortions, variants_of_features
from trtpoets.pipeline.extractors import Device, extractor_from_network
from trtpoets.pipeline.finetuning import FrozenRun, delete_checkpoints, fine_tune, trained_head
from trtpoets.pipeline.head_training import head_from_features, rows_in
from trtpoets.pipeline.near_copies import (
    accuracy_of_answers,
    accuracy_on,
    accuracy_text,
    copies_details,
    copies_together,
)
from trtpoets.pipeline.publish import publish, recorded_dataset, seal_dataset, trained_here
from trtpoets.pipeline.ray_workers import ChosenWorkers
from trtpoets.pipeline.recorded_commands import retrain_command
from trtpoets.pipeline.shards import warn_of_incomplete
from trtpoets.train.backbones import DEFAULT_BACKBONE, Backbone, backbone_named
from trtpoets.train.bottlenecks import Extractor, bottleneck_cache, bottlenecks_from_photos
from trtpoets.train.classifier import classifier_from_head, load_classifier
from trtpoets.train.dataset import Dataset, DatasetConfig, dataset_from_folder
from trtpoets.train.downloaded_weights import weights_id
from trtpoets.train.finetune_layers import number_to_unfreeze
from trtpoets.train.folders.photo_files import BeforeReading, unchecked
from trtpoets.train.folders.readings import ReadingCache
from trtpoets.train.head import Head
from trtpoets.train.near_copies.thumbnails import ThumbnailCache
from trtpoets.train.networks import network_from_backbone
from trtpoets.train.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Sequence

_VERSION = 2
"""Increase it when the same photos and configuration may give another classifier."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetrainConfig:
    """The options of `retrain`: with the photos, they determine the classifier.

    With the backbone "auto", a `race` chooses it. With `fine_tuning`, the last layers of the backbone are trained after
    the head. `distortions` are those of the head's training photos; with `try_distortions` those that prove to help are
    chosen.
    """

    backbone: str = DEFAULT_BACKBONE
    weights: Path | None = None
    resize: Resize = Resize.STRETCH
    device: Device = Device.AUTO
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    fine_tuning: FineTuneConfig | None = None
    distortions: Distortions = field(default_factory=Distortions)
    try_distortions: bool = False
    race: RaceConfig = field(default_factory=RaceConfig)


def retrain(
    photos: Path | str,
    name: str,
    config: RetrainConfig | None = None,
    *,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
    workers: str = "",
) -> Classifier:
    """Train a new head for a pretrained network on a folder of labelled photos; fine-tune the network if configured.

    Writes the dataset, the training card and the classifier to engines/<name>/. If the classifier there was trained
    with the same photos and configuration, it is returned unchanged, unless `force` is set. `workers` compute the
    bottlenecks and the trials of `--unfreeze auto`: "ray" or "ray://HOST:PORT"; by default this process does.
    """
    config = config or RetrainConfig()
    workers_to_use = ChosenWorkers(workers, config.device)
    space = Workspace(Path(engines), name)
    with writing(space):
        command = retrain_command(space, photos, config)
        if config.backbone == AUTO_BACKBONE:
            from trtpoets.pipeline.race import race, with_winner  # which reads the photos with `read_dataset`

            result = race(photos, name, config, engines=engines, force=force, progress=progress, workers=workers)
            config = with_winner(config, result)
        if force:
            workers_to_use.require()
        dataset, backbone, weights = photos_and_backbone(
            photos, config, progress, before_reading(space, workers_to_use)
        )
        key = hash_of(
            [
                *(_VERSION, dataset.hash, backbone.name, weights, backbone.preprocess.hash, asdict(config.head), name),
                *([asdict(config.fine_tuning)] if config.fine_tuning else []),
                *([asdict(config.distortions)] if config.distortions.any else []),
                *(["try distortions"] if config.try_distortions else []),
            ]
        )
        current = None if force else trained_here(space, key, dataset)
        if current is not None:
            seal_dataset(space, current, command)  # the photos may have been moved
            return load_classifier(space.classifier)
        workers_to_use.require()
        network = network_from_backbone(backbone, config.weights)
        if config.fine_tuning and config.fine_tuning.unfreeze != AUTO:
            number_to_unfreeze(config.fine_tuning.unfreeze, network)  # a wrong number fails before the bottlenecks
        extractor = extractor_from_network(network, workers_to_use.device)
        as_read = dataset
        with workers_to_use.connected(dataset.folder) as others:
            dataset, features = dataset_with_features(dataset, extractor, progress, others)
        distorted = _distortions(dataset, features, extractor, config, progress)
        variants = _variants(dataset, extractor, distorted, config.head.seed, progress)
        before = trained_head(space.fine_tuning, key)
        logs = space.logs if before.read() is None else None
        head, training, judged = _head_and_training(dataset, features, config.head, logs, progress, variants)
        copies = copies_details(as_read, dataset, features, head, config.head)
        fine_tuning = None
        if config.fine_tuning is not None:
            before.write({})
            frozen = FrozenRun(
                network,
                head,
                config.head,
                dataset,
                features,
                config.device,
                partial(workers_to_use.connected, dataset.folder),
            )
            tuned = fine_tune(frozen, config.fine_tuning, space.fine_tuning, space.logs, progress)
            network, head, fine_tuning = tuned.network, tuned.head, tuned.details
            if fine_tuning.kept:
                judged = accuracy_of_answers(dataset, tuned.right[1], rows_in(dataset, Split.TEST))
                _log.info("%s", accuracy_text(judged, "after fine-tuning, the test accuracy is"))
        details = TrainingDetails(
            **vars(training),
            test_accuracy=judged.test_accuracy,
            test_photos=judged.test_photos,
            test_groups=judged.test_groups,
            test_accuracy_low=judged.low,
            test_accuracy_high=judged.high,
            **vars(copies),
            fine_tuning=fine_tuning,
            distorted=distorted,
            command=command,
        )
        spec = ModelSpec(name, backbone.name, backbone.preprocess, dataset.labels, network.weights_id)
        classifier = publish(
            space,
            key,
            lambda: classifier_from_head(network, head.weights, head.bias, spec, space.classifier),
            dataset=dataset,
            trained_on=dataset.hash,
            training=details,
            command=command,
        )
        delete_checkpoints(space.fine_tuning)
        return classifier


def training_of(name: str, *, engines: Path | str = ENGINES) -> TrainingDetails:
    """Return the details of engines/<name>/training.json: how the classifier was trained. Raises MissingArtefact."""
    space = Workspace(Path(engines), name)
    details = training_in(space)
    if details is None:
        raise MissingArtefact(
            f"{name} was not trained with trtpoets retrain", hint=space.command("retrain", "PHOTOS"), code="TP8035"
        )
    return details


def race_of(name: str, config: RetrainConfig, *, engines: Path | str = ENGINES) -> Race | None:
    """Return the race that chose the network of a run; None if `config` names the network."""
    space = Workspace(Path(engines), name)
    return open_details(space.race, Race) if config.backbone == AUTO_BACKBONE else None


def before_reading(space: Workspace, workers: ChosenWorkers) -> BeforeReading:
    """Return the function to call with the files that have to be read: there is work to do, so `workers` must answer.

    Files that the dataset of the run left out are read in each command, also if the result is up to date.
    """

    def require(files: Sequence[Path]) -> None:
        recorded = recorded_dataset(space) if workers.name else None
        if recorded is None or not set(files) <= {file.path for file in recorded.left_out}:
            workers.require()

    return require


def read_dataset(
    photos: Path | str,
    config: RetrainConfig,
    progress: Progress = silent,
    before_reading: BeforeReading = unchecked,
) -> Dataset:
    """Return the dataset of a folder. Files that have not changed since an earlier command are not read again.

    `before_reading` is called with the files that have to be read, if there are any.
    """
    readings = ReadingCache(bottleneck_folder())
    return dataset_from_folder(
        user_path(photos), config.dataset, progress, readings=readings, before_reading=before_reading
    )


def photos_and_backbone(
    photos: Path | str,
    config: RetrainConfig,
    progress: Progress = silent,
    before_reading: BeforeReading = unchecked,
) -> tuple[Dataset, Backbone, str]:
    """Return the dataset as it is read, the backbone with the preprocessing for it, and the identity of its weights.

    `before_reading` is that of `read_dataset`.
    """
    backbone = backbone_of(config)
    # Check a weights file before reading photos, and read the photos before downloading weights.
    weights = weights_id(backbone, config.weights) if config.weights else ""
    dataset = read_dataset(photos, config, progress, before_reading)
    weights = weights or weights_id(backbone, None)
    return dataset, backbone_for(dataset, config), weights


def backbone_for(dataset: Dataset, config: RetrainConfig) -> Backbone:
    """Return the backbone of a configuration with the preprocessing for these photos."""
    backbone = backbone_of(config)
    return replace(backbone, preprocess=replace(backbone.preprocess, white=dataset.white))


def dataset_with_features(
    dataset: Dataset, extractor: Extractor, progress: Progress = silent, workers: Workers | None = None
) -> tuple[Dataset, np.ndarray]:
    """Return a dataset with copies of a photo in one split, and the features of all its photos, float32 (N, D)."""
    cache = bottleneck_folder()
    warn_of_incomplete(dataset, extractor, bottleneck_cache(extractor, cache))
    thumbnails = ThumbnailCache(cache, extractor.preprocess)
    features = bottlenecks_from_photos(
        dataset.photos, extractor, cache, progress=progress, pixel_rows=thumbnails, workers=workers
    )
    return copies_together(dataset, features, thumbnails.of(dataset.photos, progress), progress), features


def backbone_of(config: RetrainConfig) -> Backbone:
    """Return the backbone with the resize rule of `config`. Raises BadInput for an unknown one."""
    backbone = backbone_named(config.backbone)
    return replace(backbone, preprocess=replace(backbone.preprocess, resize=config.resize))


def _distortions(
    dataset: Dataset, features: np.ndarray, extractor: Extractor, config: RetrainConfig, progress: Progress
) -> DistortedTraining | None:
    """Return the distortions of the head's training photos, given or chosen by trials; None if there are none."""
    if config.try_distortions:
        return choose_distortions(dataset, features, extractor, config.head, progress)
    return DistortedTraining(config.distortions, VARIANTS) if config.distortions.any else None


def _variants(
    dataset: Dataset, extractor: Extractor, distorted: DistortedTraining | None, seed: int, progress: Progress
) -> np.ndarray | None:
    """Return the features of the distorted training photos, float32 (V, n, D)."""
    if distorted is None or not distorted.variants:
        return None
    rows = rows_in(dataset, Split.TRAIN)
    return variants_of_features(dataset, rows, extractor, distorted.distortions, distorted.variants, seed, progress)


def _head_and_training(
    dataset: Dataset,
    features: np.ndarray,
    config: HeadConfig,
    logs: Path | None,
    progress: Progress,
    variants: np.ndarray | None = None,
) -> tuple[Head, Training, Accuracy]:
    """Train the head; return it, how it was trained, and its accuracy on the test photos."""
    head, training = head_from_features(dataset, features, config, logs, progress, variants)
    warn_of_guesses(training, len(dataset.labels))
    accuracy = accuracy_on(dataset, features, head, rows_in(dataset, Split.TEST))
    _log.info("%s", accuracy_text(accuracy, "the test accuracy is"))
    return head, training, accuracy


def warn_of_guesses(training: Training, classes: int) -> None:
    """Log a warning if the best step of a head is no better on the validation photos than equal scores."""
    lowest, equal = min(training.validation_cross_entropy), math.log(classes)
    if lowest >= equal:
        _log.warning(
            "the head is no better than guessing: its cross-entropy on the validation photos is %.3g at best, that of "
            "equal scores is %.3g; check the labels, or use retrain with a smaller --learning-rate than %g",
            *(lowest, equal, training.config.learning_rate),
        )
