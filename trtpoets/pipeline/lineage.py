"""Opens the ONNX files, TFLite files and engines that earlier stages wrote into a workspace.

Every artefact is opened through this module, which checks by the cards that it was made from the present files: an
engine from its ONNX file, FP16 and INT8 from fp32.onnx, fp32.onnx and TFLite files from the classifier, the classifier
from its dataset. An artefact that was made from other files is stale: it is refused with the command that creates it
again, or left out and listed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.tflite_file import read_tflite
from trtpoets.core.types import Int8Form, ModelSpec, OnnxModel, Precision, Skipped, TfliteModel
from trtpoets.core.workspace import Card, Workspace, card_matches, card_of, read_card
from trtpoets.pipeline.artefacts import classifier_identity, classifier_in, dataset_in, has_dataset
from trtpoets.pipeline.photos import photos_command

if TYPE_CHECKING:
    from trtpoets.core.types import Engine

_OTHER_PHOTOS = "was made with other photos than those of dataset.json, some of which may be test photos now"


@dataclass(frozen=True)
class Stale:
    """A file that cannot be used: the reason, and the command that creates it again."""

    path: Path
    why: str
    remedy: str

    @property
    def skipped(self) -> Skipped:
        """The entry for a result's `skipped`."""
        return Skipped(f"using {self.path.name}", f"{self.why}: {self.remedy}")


@dataclass(frozen=True)
class Artefacts:
    """The ONNX files, TFLite files and engines of the present classifier, and the files that cannot be used."""

    onnx: tuple[OnnxModel, ...]
    tflite: tuple[TfliteModel, ...]
    engines: tuple[Engine, ...]
    stale: tuple[Stale, ...]


def opened(space: Workspace, *, trust: bool = False) -> Artefacts:
    """Open all artefacts of a run. Each file is read once. With `trust`, files created by others are accepted too."""
    lineage = _Lineage(space, trust)
    onnx = (*map(lineage.onnx, Precision), lineage.onnx(Precision.INT8, Int8Form.CPU))
    tflite = tuple(map(lineage.tflite, Precision))
    engines = lineage.engines()
    return Artefacts(
        tuple(model for model in onnx if isinstance(model, OnnxModel)),
        tuple(model for model in tflite if isinstance(model, TfliteModel)),
        tuple(engine for engine in engines if not isinstance(engine, Stale)),
        tuple(artefact for artefact in (*onnx, *tflite, *engines) if isinstance(artefact, Stale)),
    )


def without_photos(space: Workspace) -> str:
    """Return the hint for a run that has no photos: how to add some, and what works without."""
    return f"add photos: {photos_command(space)}; without any: {space.command('build', '--precision', 'fp32')}"


def onnx_in(space: Workspace, precision: Precision, form: Int8Form = Int8Form.TENSORRT) -> OnnxModel:
    """Return the ONNX file of a precision, and for INT8 of a form, that was made from the present classifier.

    Raises MissingArtefact if it is missing, damaged or stale, with the first command that is needed to create it.
    """
    lineage = _Lineage(space)
    model = lineage.required_onnx(precision, form)
    if model is None:
        classifier_in(space)
        missing = lineage.missing(precision, form)
        raise MissingArtefact(f"{missing.path} does not exist, or is incomplete", hint=missing.remedy, code="TP8027")
    return model


def onnx_models_in(space: Workspace) -> tuple[OnnxModel, ...]:
    """Return the usable ONNX files that engines can be built from, in the order of Precision.

    `stale_in` returns the others.
    """
    lineage = _Lineage(space)
    return tuple(model for precision in Precision if isinstance(model := lineage.onnx(precision), OnnxModel))


def cpu_form_in(space: Workspace) -> OnnxModel | None:
    """Return int8.cpu.onnx; None if there is none, or if it is not usable. `stale_in` says why."""
    model = _Lineage(space).onnx(Precision.INT8, Int8Form.CPU)
    return model if isinstance(model, OnnxModel) else None


def engines_in(space: Workspace, *, trust: bool = False) -> tuple[Engine, ...]:
    """Return the engines that this user built from the present ONNX files. `stale_in` returns the others.

    With `trust`, engines built by others are accepted too.
    """
    return tuple(engine for engine in _Lineage(space, trust).engines() if not isinstance(engine, Stale))


def stale_in(space: Workspace, *, trust: bool = False) -> tuple[Stale, ...]:
    """Return the ONNX files, TFLite files and engines that exist but cannot be used, each with the reason."""
    return opened(space, trust=trust).stale


class _Lineage:
    """Opens the artefacts of one run and checks what they were made from. Each file is read once, on first use."""

    def __init__(self, space: Workspace, trust: bool = False) -> None:
        self._space, self._trust = space, trust
        self._onnx: dict[tuple[Precision, Int8Form], OnnxModel | MissingArtefact | None] = {}
        self._sha256: dict[Precision, str] = {}

    @cached_property
    def _spec(self) -> ModelSpec:
        return classifier_in(self._space).spec

    @cached_property
    def _identity(self) -> str:
        return classifier_identity(self._space)

    @cached_property
    def _dataset_hash(self) -> str | None:
        return dataset_in(self._space).hash if has_dataset(self._space) else None

    def onnx(self, precision: Precision, form: Int8Form = Int8Form.TENSORRT) -> OnnxModel | Stale | None:
        """Return the file; None if it or its card does not exist."""
        model = self._opened_onnx(precision, form)
        if isinstance(model, MissingArtefact):
            path = self._space.onnx(precision, form)
            return Stale(path, model.reason_about(path), model.hint)
        return model

    def required_onnx(self, precision: Precision, form: Int8Form) -> OnnxModel | None:
        """Return the file; None if it or its card does not exist. Raises MissingArtefact if it can't be used."""
        model = self._opened_onnx(precision, form)
        if isinstance(model, MissingArtefact):
            raise model
        return model

    def _opened_onnx(self, precision: Precision, form: Int8Form) -> OnnxModel | MissingArtefact | None:
        """Return what `_checked_onnx` returns, which is called once."""
        if (precision, form) not in self._onnx:
            self._onnx[precision, form] = self._checked_onnx(precision, form)
        return self._onnx[precision, form]

    def _checked_onnx(self, precision: Precision, form: Int8Form) -> OnnxModel | MissingArtefact | None:
        """Return the file, the error if it can't be used, or None if it or its card does not exist."""
        path = self._space.onnx(precision, form)
        card = _card_at(path)
        if card is None:
            return None
        remedy = self.missing(precision, form).remedy
        if not card_matches(card, path):
            return MissingArtefact(
                "was changed after it was created, or is damaged", hint=remedy, code="TP8056", subject=path
            )
        error = self._made_from_others(path, card, precision, remedy)
        if error is not None:
            return error
        model = read_onnx(path)
        if model.spec != self._spec:
            return MissingArtefact(
                "has labels or preprocessing that differ from the classifier", hint=remedy, code="TP8060", subject=path
            )
        if form is Int8Form.TENSORRT:
            self._sha256[precision] = card.files[path.name]
        return model

    def _made_from_others(self, path: Path, card: Card, precision: Precision, remedy: str) -> MissingArtefact | None:
        """Return the error if an ONNX file was made from other files than the present ones, or None."""
        made_from = card.details.get("made_from")
        if precision is Precision.FP32:
            if made_from == self._identity:
                return None
            return MissingArtefact("was made from an earlier classifier", hint=remedy, code="TP8057", subject=path)
        if not isinstance(self.onnx(Precision.FP32), OnnxModel) or made_from != self._sha256.get(Precision.FP32):
            return MissingArtefact("was made from an earlier fp32.onnx", hint=remedy, code="TP8058", subject=path)
        if self._dataset_hash not in (None, card.details.get("dataset")):
            return MissingArtefact(_OTHER_PHOTOS, hint=remedy, code="TP8059", subject=path)
        return None

    def missing(self, precision: Precision, form: Int8Form = Int8Form.TENSORRT) -> Stale:
        """Return the description of a missing ONNX file, with the first command that is needed to create it."""
        if precision is not Precision.FP32 and not has_dataset(self._space):
            remedy = without_photos(self._space)
        elif precision is Precision.FP32 or not isinstance(self.onnx(Precision.FP32), OnnxModel):
            remedy = self._space.command("export")
        else:
            remedy = self._space.command("quantize", *(["--cpu-form"] if form is Int8Form.CPU else []))
        return Stale(self._space.onnx(precision, form), "does not exist, or is incomplete", remedy)

    def tflite(self, precision: Precision) -> TfliteModel | Stale | None:
        """Return the file; None if it or its card does not exist."""
        path = self._space.tflite(precision)
        card = _card_at(path)
        if card is None:
            return None
        remedy = self._space.command("bundle", "--for", "tflite")
        if not card_matches(card, path):
            return Stale(path, "was changed after it was created, or is damaged", remedy)
        why = ""
        if card.details.get("classifier") != self._identity:
            why = "was made from an earlier classifier"
        elif precision is Precision.INT8 and self._dataset_hash not in (None, card.details.get("dataset")):
            why = _OTHER_PHOTOS
        elif card.foreign and not self._trust:  # the interpreter can run any TensorFlow operator
            why = f"may have been created by someone else: {card.foreign}"
        if why:
            return Stale(path, why, remedy)
        model = read_tflite(path)
        if model.spec != self._spec:
            return Stale(path, "has labels or preprocessing that differ from the classifier", remedy)
        return model

    def engines(self) -> tuple[Engine | Stale, ...]:
        """Return the engines in the order of `in_order`. Engine files without a card are ignored."""
        from trtpoets.device.build.engine import in_order, load_engine

        intact, damaged = [], []
        for path in sorted(self._space.folder.glob("*.engine")):
            if card_of(path).is_file():
                try:
                    intact.append(load_engine(path))
                except BadArtefact as error:
                    damaged.append(Stale(path, error.reason_about(path), self._space.command("build")))
        if self._trust:
            intact = [replace(engine, foreign="") for engine in intact]
        return (*(self._stale(engine) or engine for engine in in_order(intact)), *damaged)

    def _stale(self, engine: Engine) -> Stale | None:
        precision = engine.card.precision
        model = self.onnx(precision)
        file = self._space.onnx(precision).name
        if not isinstance(model, OnnxModel):
            why = f"was built from {file}, which {model.why if model else 'does not exist'}"
            return Stale(engine.path, why, model.remedy if model else self.missing(precision).remedy)
        remedy = self._space.command("build", "--precision", precision.value)
        if engine.card.onnx_sha256 not in (self._sha256[precision], self._half(precision)):
            return Stale(engine.path, f"was built from an earlier {file}", remedy)
        if engine.card.spec != self._spec:
            return Stale(engine.path, "has labels or preprocessing that differ from the classifier", remedy)
        if engine.foreign:  # TensorRT would execute code in it
            return Stale(engine.path, f"may have been built by someone else: {engine.foreign}", remedy)
        return None

    def _half(self, precision: Precision) -> str | None:
        """Return the sha256 of the FP16 variant of int8.onnx; None if there is none that is up to date."""
        path = self._space.half_remainder
        card = _card_at(path) if precision is Precision.INT8 else None
        if card is None or card.details.get("made_from") != self._sha256[precision] or not card_matches(card, path):
            return None
        return card.files[path.name]


def _card_at(path: Path) -> Card | None:
    """Return the card of an artefact; None if either is missing. Raises BadArtefact for a damaged card."""
    card = card_of(path)
    return read_card(card) if path.exists() and card.is_file() else None
