"""Shared by the stages: locks a workspace for writing, and opens its classifier and dataset."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadArtefact, MissingArtefact, TrtPoetsError
from trtpoets.core.files import locked, sweep_parts
from trtpoets.core.own_files import require_no_link
from trtpoets.core.shell_commands import DEFAULT_ENGINES
from trtpoets.core.storage import stray_failure
from trtpoets.core.types import Classifier, hash_of
from trtpoets.core.verified_files import once, verifying_once
from trtpoets.core.workspace import Workspace, card_of, key_of, open_card, open_details, read_card
from trtpoets.train.classifier import load_classifier
from trtpoets.train.dataset import Dataset, dataset_from_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtpoets.core.training import TrainingDetails

ENGINES = DEFAULT_ENGINES

_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())


@contextmanager
def writing(space: Workspace) -> Iterator[None]:
    """Lock a workspace for writing. The lock is reentrant, so that stages can call each other.

    Temporary files left by a killed process are deleted first. Raises Busy if another process holds the lock, and
    StorageFailed if the run's folder, or a folder that trtpoets creates in it, is a symbolic link.
    """
    if space.lock in _held.get():
        yield
        return
    with locked(space.lock, space.name) as held, verifying_once():
        require_no_link(space.folder, *space.folders)
        if held:  # without the lock, they may belong to another process
            sweep_parts(space.folder)
        token = _held.set(_held.get() | {space.lock})
        try:
            yield
        except TrtPoetsError as error:  # lower layers know the files, but not the run they belong to
            error.hint = space.filled(error.hint)
            raise
        except OSError as error:  # a disk error that no stage handled
            failure = stray_failure(error)
            if failure is None:
                raise
            raise failure from error
        finally:
            _held.reset(token)


@dataclass(frozen=True)
class _WeightsOf:
    """The field of the classifier's card that identifies the weights of its backbone."""

    weights_id: str | None = None


def classifier_in(space: Workspace) -> Classifier:
    """Return the trained classifier. Its `foreign` is set if someone else created it; then it must not be loaded.

    Raises MissingArtefact if there is no classifier, or it does not match its card.
    """
    details = open_details(card_of(space.classifier), _WeightsOf)
    if details is None:
        changed = space.classifier.is_dir() and card_of(space.classifier).is_file()
        raise MissingArtefact(
            f"{space.classifier} was changed after training, or training was interrupted"
            if changed
            else f"{space.folder} holds no trained classifier",
            hint=f"{_similar_names(space)}{space.command('retrain', 'PHOTOS')}",
            code="TP8001",
        )
    classifier = load_classifier(space.classifier)
    if details.weights_id != classifier.spec.weights_id:
        raise BadArtefact(
            f"{space.classifier} and its card name different weights",
            hint=space.command("retrain", "PHOTOS"),
            code="TP8002",
        )
    return replace(classifier, foreign=read_card(card_of(space.classifier)).foreign)


def _similar_names(space: Workspace) -> str:
    """If no run has this name: the beginning of a hint that suggests trained runs with similar names; else ""."""
    trained = [] if space.folder.is_dir() else [card.parent.name for card in space.engines.glob("*/classifier.json")]
    similar = difflib.get_close_matches(space.name, trained, n=3)
    return f"did you mean {' or '.join(similar)}? If not: " if similar else ""


def classifier_identity(space: Workspace) -> str:
    """Return a hash of the classifier's content, from which later stages compute their keys. Raises MissingArtefact."""
    classifier_in(space)
    card = read_card(card_of(space.classifier))
    return hash_of([card.key, dict(card.files)])


def classifier_key(space: Workspace) -> str:
    """Return the key of the photos and options that the classifier was trained with. Raises MissingArtefact."""
    classifier_in(space)
    return key_of(card_of(space.classifier))


def dataset_in(space: Workspace) -> Dataset:
    """Return the dataset that the classifier was trained on, or the photos given to `pretrained`.

    Raises MissingArtefact if there are no photos or no classifier, or if the classifier was trained on other photos:
    then test photos of this dataset may have been training photos.
    """

    def read() -> Dataset | None:
        details = open_card(space.dataset)
        return None if details is None else dataset_from_json(details)

    dataset = once("dataset", space.dataset, read)
    if dataset is None:
        raise MissingArtefact(f"{space.name} has no photos", hint=space.command("retrain", "PHOTOS"), code="TP8003")
    classifier_in(space)
    card = read_card(card_of(space.classifier)).details
    if "dataset" not in card or card["dataset"] not in (None, dataset.hash):
        raise MissingArtefact(
            f"{space.classifier} was not trained on the photos of {space.dataset}: test photos may have been "
            "training photos"
            if "dataset" in card
            else f"{space.classifier} was created by an older trtpoets, which did not record the training photos",
            hint=space.command("retrain", dataset.folder),
            code="TP8004",
        )
    return dataset


def has_dataset(space: Workspace) -> bool:
    """Return whether the run has photos; a pretrained network may have none."""
    return space.dataset.is_file()


def training_in(space: Workspace) -> TrainingDetails | None:
    """Return the details of training.json; None if the classifier was not trained here. Raises MissingArtefact."""
    from trtpoets.core.training import TrainingDetails

    return open_details(space.training, TrainingDetails, classifier_key(space))
