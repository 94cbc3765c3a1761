"""What the stages share: holding a workspace, and finding what an earlier stage left in it."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.commands import DEFAULT_ENGINES
from trtpoets.core.errors import MissingArtefact, TrtPoetsError
from trtpoets.core.files import locked, sha256_of_file, sweep_parts
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.spec import Classifier, OnnxModel, Precision, TfliteModel
from trtpoets.core.tflite_file import read_tflite
from trtpoets.core.workspace import Workspace, card_of, key_of, open_card
from trtpoets.train.classifier import load_classifier
from trtpoets.train.dataset import Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtpoets.core.spec import Engine

ENGINES = DEFAULT_ENGINES

_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())


@contextmanager
def writing(space: Workspace) -> Iterator[None]:
    """Hold a workspace for writing. Inside itself it just goes on, so stages can call each other.

    Raises Busy when another process holds it. What a killed process left half-written is swept away first.
    """
    if space.lock in _held.get():
        yield
        return
    with locked(space.lock, space.name):
        sweep_parts(space.folder)
        token = _held.set(_held.get() | {space.lock})
        try:
            yield
        except TrtPoetsError as error:  # what was raised below knows files, and not which run they are of
            error.hint = space.filled(error.hint)
            raise
        finally:
            _held.reset(token)


def dataset_in(space: Workspace) -> Dataset:
    """The dataset that the classifier was trained on. Raises MissingArtefact."""
    details = open_card(space.dataset)
    if details is None:
        raise MissingArtefact(f"{space.name} has no photos", hint=space.command("retrain", "PHOTOS"))
    return Dataset.from_dict(details)


def has_dataset(space: Workspace) -> bool:
    """Whether there are photos: a pretrained network may have none."""
    return space.dataset.is_file()


def classifier_in(space: Workspace) -> Classifier:
    """The trained classifier. Raises MissingArtefact when there is none, or it is not whole."""
    if open_card(card_of(space.classifier)) is None:
        changed = space.classifier.is_dir() and card_of(space.classifier).is_file()
        raise MissingArtefact(
            f"{space.classifier} was changed after it was trained"
            if changed
            else f"{space.folder} holds no trained classifier",
            hint=f"{_meant(space)}{space.command('retrain', 'PHOTOS')}",
        )
    return load_classifier(space.classifier)


def _meant(space: Workspace) -> str:
    """The trained runs that a name which is none may stand for, as the beginning of a hint."""
    trained = [] if space.folder.is_dir() else [card.parent.name for card in space.engines.glob("*/classifier.json")]
    near = difflib.get_close_matches(space.name, trained, n=3)
    return f"did you mean {' or '.join(near)}? If not: " if near else ""


def classifier_key(space: Workspace) -> str:
    """What the classifier was made from: later stages make their own keys of it. Raises MissingArtefact."""
    classifier_in(space)
    return key_of(card_of(space.classifier))


def onnx_in(space: Workspace, precision: Precision) -> OnnxModel:
    """The ONNX file of a precision, checked. Raises MissingArtefact, with the first of the commands that it takes."""
    path = space.onnx(precision)
    if open_card(card_of(path)) is None:
        classifier_in(space)
        exported = precision is not Precision.FP32 and open_card(card_of(space.onnx(Precision.FP32))) is not None
        stage = "quantize" if exported else "export"
        raise MissingArtefact(f"{path} is not there, or not whole", hint=space.command(stage))
    return read_onnx(path)


def onnx_models_in(space: Workspace) -> tuple[OnnxModel, ...]:
    """The ONNX files that are there, in the order of Precision."""
    return tuple(read_onnx(space.onnx(p)) for p in Precision if open_card(card_of(space.onnx(p))) is not None)


def tflite_models_in(space: Workspace) -> tuple[TfliteModel, ...]:
    """The TFLite files of the classifier as it is now; those of an older one are left aside."""
    found = {precision: open_card(card_of(space.tflite(precision))) for precision in Precision}
    there = {precision: card for precision, card in found.items() if card is not None}
    if not there:
        return ()
    current = classifier_key(space)
    return tuple(read_tflite(space.tflite(p)) for p, card in there.items() if card["classifier"] == current)


def engines_in(space: Workspace) -> tuple[Engine, ...]:
    """The engines that were built from the ONNX files as they are now; those of older files are left aside."""
    from trtpoets.device.engine import in_order, load_engine

    current = {sha256_of_file(space.onnx(p)) for p in Precision if space.onnx(p).is_file()}
    paths = sorted(space.folder.glob("*.engine"))
    engines = (load_engine(path) for path in paths if card_of(path).is_file())
    return in_order(engine for engine in engines if engine.card.onnx_sha256 in current)
