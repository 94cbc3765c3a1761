"""Creates a classifier from a published network: 1,000 ImageNet classes, without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import Classifier, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_card
from trtpoets.pipeline.artefacts import ENGINES, writing
from trtpoets.pipeline.publish import publish, seal_dataset
from trtpoets.pipeline.recorded_commands import pretrained_command
from trtpoets.train.backbones import BACKBONES, Backbone, backbone_named
from trtpoets.train.classifier import imagenet_classifier, load_classifier
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder
from trtpoets.train.downloaded_weights import weights_id
from trtpoets.train.networks import network_from_backbone

_VERSION = 1
"""Increase it when the same weights may give another classifier."""


def models() -> tuple[Backbone, ...]:
    """Return the networks that can be retrained, or used as published."""
    return tuple(BACKBONES.values())


def pretrained(
    backbone: str,
    name: str,
    *,
    photos: Path | str | None = None,
    weights: Path | None = None,
    config: DatasetConfig | None = None,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
) -> Classifier:
    """Create a 1,000-class ImageNet classifier from a published network, with its published preprocessing.

    `photos` is a folder of labelled photos for the calibration of `quantize` and for measurements. Accuracy is measured
    on photos whose label is the name of an ImageNet class. `config` sets how the folder is read.
    """
    chosen = backbone_named(backbone)
    chosen = replace(chosen, preprocess=chosen.published_preprocess)
    space = Workspace(Path(engines), name)
    config = config or DatasetConfig()
    # Check a weights file before reading photos, and read the photos before downloading weights.
    identity = weights_id(chosen, weights) if weights else ""
    with writing(space):
        dataset = None if photos is None else dataset_from_folder(user_path(photos), config, progress)
        if dataset is not None:
            chosen = replace(chosen, preprocess=replace(chosen.preprocess, white=dataset.white))
        identity = identity or weights_id(chosen, None)
        key = hash_of([_VERSION, chosen.name, identity, chosen.preprocess.hash, name])
        command = pretrained_command(space, backbone, photos, weights, config)
        current = None if force else open_card(card_of(space.classifier), key, own=True)
        if current is not None and "dataset" in current:
            if dataset is not None:
                seal_dataset(space, dataset, command)
            return load_classifier(space.classifier)
        network = network_from_backbone(chosen, weights)
        return publish(
            space,
            key,
            lambda: imagenet_classifier(network, name, space.classifier),
            dataset=dataset,
            command=command,
        )
