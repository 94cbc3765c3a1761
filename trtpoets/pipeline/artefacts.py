"""What the stages share: holding a workspace, and opening the classifier and the dataset that are in it."""

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
from trtpoets.core.verified_files import verifying_once
from trtpoets.core.workspace import Workspace, card_of, key_of, open_card, open_details, read_card
from trtpoets.train.classifier import load_classifier
from trtpoets.train.dataset import Dataset, dataset_from_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtpoets.pipeline.card_details import TrainingDetails

ENGINES = DEFAULT_ENGINES

_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())


@contextmanager
def writing(space: Workspace) -> Iterator[None]:
    """Hold a workspace for writing. Inside itself it just goes on, so stages can call each other.

    Raises Busy when another process holds it, StorageFailed where the run's folder or one that trtpoets makes in it is
    a symbolic link. What a killed process left half-written is swept away first.
    """
    if space.lock in _held.get():
        yield
        return
    with locked(space.lock, space.name) as held, verifying_once():
        require_no_link(space.folder, *space.folders)
        if held:  # without it, they may be another process's
            sweep_parts(space.folder)
        token = _held.set(_held.get() | {space.lock})
        try:
            yield
        except TrtPoetsError as error:  # what was raised below knows files, and not which run they are of
            error.hint = space.filled(error.hint)
            raise
        except OSError as error:  # of a disk, where no stage expected it
            failure = stray_failure(error)
            if failure is None:
                raise
            raise failure from error
        finally:
            _held.reset(token)


@dataclass(frozen=True)
class _MadeOf:
    """Of the classifier's card: the weights of its backbone."""

    weights_id: str | None = None


def classifier_in(space: Workspace) -> Classifier:
    """The trained classifier; it may be foreign, and then nothing loads it.

    Raises MissingArtefact when there is none, or it is not whole.
    """
    found = open_details(card_of(space.classifier), _MadeOf)
    if found is None:
        changed = space.classifier.is_dir() and card_of(space.classifier).is_file()
        raise MissingArtefact(
            f"{space.classifier} was changed after it was trained, or a training was interrupted"
            if changed
            else f"{space.folder} holds no trained classifier",
            hint=f"{_meant(space)}{space.command('retrain', 'PHOTOS')}",
            code="TP8001",
        )
    classifier = load_classifier(space.classifier)
    if found.weights_id != classifier.spec.weights_id:
        raise BadArtefact(
            f"{space.classifier} names other weights than its card",
            hint=space.command("retrain", "PHOTOS"),
            code="TP8002",
        )
    return replace(classifier, foreign=read_card(card_of(space.classifier)).foreign)


def _meant(space: Workspace) -> str:
    """The trained runs that a name which is none may stand for, as the beginning of a hint."""
    trained = [] if space.folder.is_dir() else [card.parent.name for card in space.engines.glob("*/classifier.json")]
    near = difflib.get_close_matches(space.name, trained, n=3)
    return f"did you mean {' or '.join(near)}? If not: " if near else ""


def classifier_identity(space: Workspace) -> str:
    """Which classifier is there, by its content: what later stages are made from. Raises MissingArtefact."""
    classifier_in(space)
    card = read_card(card_of(space.classifier))
    return hash_of([card.key, dict(card.files)])


def classifier_key(space: Workspace) -> str:
    """The photos and options that the classifier was made from. Raises MissingArtefact."""
    classifier_in(space)
    return key_of(card_of(space.classifier))


def dataset_in(space: Workspace) -> Dataset:
    """The dataset that the classifier was trained on; for a published classifier the photos that it was given.

    Raises MissingArtefact where there are no photos or no classifier, or the classifier was trained on others: test
    photos of the one may be training photos of the other.
    """
    details = open_card(space.dataset)
    if details is None:
        raise MissingArtefact(f"{space.name} has no photos", hint=space.command("retrain", "PHOTOS"), code="TP8003")
    classifier_in(space)
    dataset, card = dataset_from_json(details), read_card(card_of(space.classifier)).details
    if "dataset" not in card or card["dataset"] not in (None, dataset.hash):
        raise MissingArtefact(
            f"{space.classifier} was not trained on the photos of {space.dataset}: their test photos may have been "
            "training photos"
            if "dataset" in card
            else f"{space.classifier} is of an older trtpoets: which photos it was trained on is not known",
            hint=space.command("retrain", dataset.folder),
            code="TP8004",
        )
    return dataset


def has_dataset(space: Workspace) -> bool:
    """Whether there are photos: a pretrained network may have none."""
    return space.dataset.is_file()


def training_in(space: Workspace) -> TrainingDetails | None:
    """How the classifier was trained; None where it was not trained here. Raises MissingArtefact."""
    from trtpoets.pipeline.card_details import TrainingDetails

    return open_details(space.training, TrainingDetails, classifier_key(space))
