"""A classifier and the dataset that it was trained on are replaced together.

The classifier's card is written last and names the dataset by its hash. The card of before does not match the new
classifier folder, so a process that is killed between two writes leaves either what was there before, or a run that
has no valid classifier.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadArtefact
from trtpoets.core.files import storage_errors
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.pipeline.card_details import ClassifierDetails, TrainingDetails
from trtpoets.train.dataset import Dataset, dataset_from_json

if TYPE_CHECKING:
    from collections.abc import Callable

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
) -> Classifier:
    """Write the classifier's folder, dataset.json, training.json and then the classifier's card, made from `key`.

    Call it when all computation is done. `write_classifier` replaces the folder in one step. `dataset` None leaves
    dataset.json as it is, `training` None removes training.json. `trained_on` is the hash of the dataset that the
    classifier was trained on; None stands for a published classifier, which was trained on none of the photos.
    `command` does the same again.
    """
    classifier = write_classifier()
    if dataset is not None:
        seal_dataset(space, dataset, command)
    if training is None:
        with storage_errors(space.training, "delete"):
            space.training.unlink(missing_ok=True)
    else:
        seal_card(space.training, key=key, files=[], details=training)
    details = ClassifierDetails(classifier.spec.weights_id, trained_on, command)
    seal_card(card_of(space.classifier), key=key, files=[space.classifier], details=details)
    return classifier


def seal_dataset(space: Workspace, dataset: Dataset, command: str) -> None:
    """Write dataset.json, and the command that trains on it. Of a trained classifier only the paths may change.

    Call `publish` for everything else.
    """
    details = replace(dataset.document, counts=dataset.counts, command=command)
    seal_card(space.dataset, key=dataset.hash, files=[], details=details)


def trained_here(space: Workspace, key: str, dataset: Dataset) -> Dataset | None:
    """`dataset` with the splits that the classifier of `key` was trained with; None where it has to be trained.

    The splits are those of dataset.json, photo by photo: training may have changed those of the folder.
    """
    card = open_card(card_of(space.classifier), key, own=True)
    if card is None or card.get("dataset") is None:
        return None
    recorded = _recorded(space)
    if recorded is not None:
        splits = {photo.sha256: photo.split for photo in recorded.photos}
        photos = tuple(replace(photo, split=splits.get(photo.sha256, photo.split)) for photo in dataset.photos)
        dataset = replace(dataset, photos=photos, families=recorded.families)
    return dataset if dataset.hash == card["dataset"] else None


def _recorded(space: Workspace) -> Dataset | None:
    """dataset.json; None where there is none, or a damaged one, which is about to be replaced."""
    try:
        details = open_card(space.dataset)
        return None if details is None else dataset_from_json(details)
    except BadArtefact:
        return None
