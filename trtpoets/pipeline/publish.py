"""Replaces a classifier together with the dataset that it was trained on.

The classifier's card contains the hash of the dataset and is written last. The previous card does not match the new
classifier folder. So a process that is killed between two writes leaves either the previous state or a run without a
valid classifier.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadArtefact
from trtpoets.core.files import storage_errors
from trtpoets.core.training import TrainingDetails
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.pipeline.card_details import ClassifierDetails
from trtpoets.train.dataset import Dataset, dataset_from_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from trtpoets.adoption.trial import Trial
    from trtpoets.core.types import Classifier


def publish(
    space: Workspace,
    key: str,
    write_classifier: Callable[[], Classifier],
    *,
    dataset: Dataset | None,
    command: str,
    trained_on: str | None = None,
    training: TrainingDetails | None = None,
    trial: Trial | None = None,
) -> Classifier:
    """Write the classifier's folder, dataset.json, training.json and last the classifier's card with `key`.

    Call it after all computation. `write_classifier` must replace the folder atomically. With `dataset` None
    dataset.json is kept; with `training` None training.json is deleted. `trained_on` is the hash of the dataset that
    the classifier was trained on, None for a published or adopted classifier. `command` is the command that repeats the
    work, `trial` how the preprocessing of an adopted one was found.
    """
    classifier = write_classifier()
    if dataset is not None:
        seal_dataset(space, dataset, command)
    if training is None:
        with storage_errors(space.training, "delete"):
            space.training.unlink(missing_ok=True)
    else:
        seal_card(space.training, key=key, files=[], details=training)
    details = ClassifierDetails(classifier.spec.weights_id, trained_on, command, trial)
    seal_card(card_of(space.classifier), key=key, files=[space.classifier], details=details)
    return classifier


def seal_dataset(space: Workspace, dataset: Dataset, command: str) -> None:
    """Write dataset.json with the command that trains on it.

    If a classifier was trained on the dataset, only the paths of the photos may change; for other changes call
    `publish`.
    """
    details = replace(dataset.document, counts=dataset.counts, command=command)
    seal_card(space.dataset, key=dataset.hash, files=[], details=details)


def trained_here(space: Workspace, key: str, dataset: Dataset) -> Dataset | None:
    """Return `dataset` with the splits that the classifier with `key` was trained on; None if it must be trained.

    The splits are read from dataset.json for each photo, because training may have moved photos to another split.
    """
    card = open_card(card_of(space.classifier), key, own=True)
    if card is None or card.get("dataset") is None:
        return None
    recorded = recorded_dataset(space)
    if recorded is not None:
        photos = dataset.photos.with_splits_of(recorded.photos)
        dataset = replace(dataset, photos=photos, families=recorded.families)
    return dataset if dataset.hash == card["dataset"] else None


def recorded_dataset(space: Workspace) -> Dataset | None:
    """Return the dataset of dataset.json; None if the file is missing or damaged, as it will be replaced."""
    try:
        details = open_card(space.dataset)
        return None if details is None else dataset_from_json(details)
    except BadArtefact:
        return None
