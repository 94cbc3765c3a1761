"""What the stages share: holding a workspace, and opening what earlier stages left in it.

Every artefact is opened through this module, which follows its card back: an engine to its ONNX file, FP16 and INT8 to
fp32.onnx, fp32.onnx and TFLite files to the classifier, the classifier to its dataset. What was made from something
that is no longer there is stale: it is refused with the command that makes it again, or left out and listed.
"""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.commands import DEFAULT_ENGINES
from trtpoets.core.errors import BadArtefact, MissingArtefact, TrtPoetsError
from trtpoets.core.files import locked, sweep_parts
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.spec import Classifier, ModelSpec, OnnxModel, Precision, TfliteModel, hash_of
from trtpoets.core.tflite_file import read_tflite
from trtpoets.core.workspace import Card, Workspace, card_of, key_of, open_card, read_card, vouches_for
from trtpoets.train.classifier import load_classifier
from trtpoets.train.dataset import Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

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


@dataclass(frozen=True)
class Stale:
    """A file that was not made from what is there now: why, and the command that makes it again."""

    path: Path
    why: str
    remedy: str

    def to_dict(self) -> dict[str, str]:
        """As an entry of a result's "skipped"."""
        return {"what": f"using {self.path.name}", "why": f"{self.why}: {self.remedy}"}


def classifier_in(space: Workspace) -> Classifier:
    """The trained classifier; it may be foreign, and then nothing loads it.

    Raises MissingArtefact when there is none, or it is not whole.
    """
    found = open_card(card_of(space.classifier))
    if found is None:
        changed = space.classifier.is_dir() and card_of(space.classifier).is_file()
        raise MissingArtefact(
            f"{space.classifier} was changed after it was trained, or a training was interrupted"
            if changed
            else f"{space.folder} holds no trained classifier",
            hint=f"{_meant(space)}{space.command('retrain', 'PHOTOS')}",
        )
    classifier = load_classifier(space.classifier)
    if found.get("weights_id") != classifier.spec.weights_id:
        raise BadArtefact(
            f"{space.classifier} names other weights than its card", hint=space.command("retrain", "PHOTOS")
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
        raise MissingArtefact(f"{space.name} has no photos", hint=space.command("retrain", "PHOTOS"))
    classifier_in(space)
    dataset, card = Dataset.from_dict(details), read_card(card_of(space.classifier)).details
    if "dataset" not in card or card["dataset"] not in (None, dataset.hash):
        raise MissingArtefact(
            f"{space.classifier} was not trained on the photos of {space.dataset}: their test photos may have been "
            "training photos"
            if "dataset" in card
            else f"{space.classifier} is of an older trtpoets: which photos it was trained on is not known",
            hint=space.command("retrain", dataset.folder),
        )
    return dataset


def has_dataset(space: Workspace) -> bool:
    """Whether there are photos: a pretrained network may have none."""
    return space.dataset.is_file()


def training_in(space: Workspace) -> Mapping[str, Any] | None:
    """How the classifier was trained; None where it was not trained here. Raises MissingArtefact."""
    return open_card(space.training, classifier_key(space))


def onnx_in(space: Workspace, precision: Precision) -> OnnxModel:
    """The ONNX file of a precision, of the classifier as it is now.

    Raises MissingArtefact for one that is missing, damaged or stale, with the first of the commands that it takes.
    """
    found = _Lineage(space).onnx(precision)
    if isinstance(found, OnnxModel):
        return found
    if found is None:
        classifier_in(space)
        found = _Lineage(space).missing(precision)
    raise MissingArtefact(f"{found.path} {found.why}", hint=found.remedy)


def onnx_models_in(space: Workspace) -> tuple[OnnxModel, ...]:
    """The ONNX files of the classifier as it is now, in the order of Precision; others are in `stale_in`."""
    lineage = _Lineage(space)
    return tuple(found for p in Precision if isinstance(found := lineage.onnx(p), OnnxModel))


def tflite_models_in(space: Workspace) -> tuple[TfliteModel, ...]:
    """The TFLite files of the classifier as it is now; others are in `stale_in`."""
    lineage = _Lineage(space)
    return tuple(found for p in Precision if isinstance(found := lineage.tflite(p), TfliteModel))


def engines_in(space: Workspace, *, trust: bool = False) -> tuple[Engine, ...]:
    """The engines that this user built from the ONNX files as they are now; others are in `stale_in`.

    With `trust` also those of others. Raises BadArtefact for an engine that is not what its card says.
    """
    return tuple(found for found in _Lineage(space, trust).engines() if not isinstance(found, Stale))


def stale_in(space: Workspace, *, trust: bool = False) -> tuple[Stale, ...]:
    """The ONNX files, TFLite files and engines that are there and can't be used, each with the reason."""
    lineage = _Lineage(space, trust)
    found = (*map(lineage.onnx, Precision), *map(lineage.tflite, Precision), *lineage.engines())
    return tuple(each for each in found if isinstance(each, Stale))


class _Lineage:
    """What a run's files were made from. Each file is read once, when it is first asked for."""

    def __init__(self, space: Workspace, trust: bool = False) -> None:
        self._space, self._trust = space, trust
        self._onnx: dict[Precision, OnnxModel | Stale | None] = {}
        self._sha256: dict[Precision, str] = {}

    @cached_property
    def _spec(self) -> ModelSpec:
        return classifier_in(self._space).spec

    @cached_property
    def _identity(self) -> str:
        return classifier_identity(self._space)

    def onnx(self, precision: Precision) -> OnnxModel | Stale | None:
        """None where there is no such file, or no card of it."""
        if precision not in self._onnx:
            self._onnx[precision] = self._opened_onnx(precision)
        return self._onnx[precision]

    def _opened_onnx(self, precision: Precision) -> OnnxModel | Stale | None:
        path = self._space.onnx(precision)
        card = _card_at(path)
        if card is None:
            return None
        remedy = self.missing(precision).remedy
        if not vouches_for(card, path):
            return Stale(path, "was changed after it was made, or is damaged", remedy)
        made_from: str | None
        if precision is Precision.FP32:
            made_from, why = self._identity, "was made from an earlier classifier"
        else:
            current = isinstance(self.onnx(Precision.FP32), OnnxModel)
            made_from, why = self._sha256.get(Precision.FP32) if current else None, "was made from an earlier fp32.onnx"
        if made_from is None or card.details.get("made_from") != made_from:
            return Stale(path, why, remedy)
        model = read_onnx(path)
        if model.spec != self._spec:
            return Stale(path, "has other labels or another preprocessing than the classifier", remedy)
        self._sha256[precision] = card.files[path.name]
        return model

    def missing(self, precision: Precision) -> Stale:
        """What to say of an ONNX file that is not there: the first command that it takes."""
        first = precision is Precision.FP32 or not isinstance(self.onnx(Precision.FP32), OnnxModel)
        remedy = self._space.command("export" if first else "quantize")
        return Stale(self._space.onnx(precision), "is not there, or not whole", remedy)

    def tflite(self, precision: Precision) -> TfliteModel | Stale | None:
        """None where there is no such file, or no card of it."""
        path = self._space.tflite(precision)
        card = _card_at(path)
        if card is None:
            return None
        remedy = self._space.command("bundle", "--for", "tflite")
        if not vouches_for(card, path):
            return Stale(path, "was changed after it was made, or is damaged", remedy)
        if card.details.get("classifier") != self._identity:
            return Stale(path, "was made from an earlier classifier", remedy)
        if card.foreign and not self._trust:  # TensorFlow's interpreter runs any operator of TensorFlow's
            return Stale(path, f"is not known to be made here by you: {card.foreign}", remedy)
        model = read_tflite(path)
        if model.spec != self._spec:
            return Stale(path, "has other labels or another preprocessing than the classifier", remedy)
        return model

    def engines(self) -> tuple[Engine | Stale, ...]:
        """In the order of `in_order`; engine files without a card are not of trtpoets."""
        from trtpoets.device.engine import in_order, load_engine

        paths = sorted(self._space.folder.glob("*.engine"))
        engines = in_order(load_engine(path) for path in paths if card_of(path).is_file())
        if self._trust:
            engines = tuple(replace(engine, foreign="") for engine in engines)
        return tuple(self._stale(engine) or engine for engine in engines)

    def _stale(self, engine: Engine) -> Stale | None:
        precision = engine.card.precision
        model = self.onnx(precision)
        file = self._space.onnx(precision).name
        if not isinstance(model, OnnxModel):
            why = f"was built from {file}, which {model.why if model else 'is not there'}"
            return Stale(engine.path, why, model.remedy if model else self.missing(precision).remedy)
        remedy = self._space.command("build", "--precision", precision.value)
        if engine.card.onnx_sha256 != self._sha256[precision]:
            return Stale(engine.path, f"was built from an earlier {file}", remedy)
        if engine.card.spec != self._spec:
            return Stale(engine.path, "has other labels or another preprocessing than the classifier", remedy)
        if engine.foreign:  # TensorRT would run what is in it
            return Stale(engine.path, f"is not known to be built here by you: {engine.foreign}", remedy)
        return None


def _card_at(path: Path) -> Card | None:
    """The card of an artefact; None where either is missing. Raises BadArtefact for a card that is not whole."""
    card = card_of(path)
    return read_card(card) if path.exists() and card.is_file() else None
