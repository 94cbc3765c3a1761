"""Describes files without running them: engines, ONNX and TFLite files, cards, model.json, calibration caches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.adoption.folders import classifier_in_folder
from trtpoets.convert.graph.onnx_facts import OnnxFacts, facts_of_onnx
from trtpoets.convert.int8.tensorrt_cache import CalibrationCache, read_cache
from trtpoets.core.authenticity import NO_HMAC, OTHER_HMAC
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact, StorageFailed
from trtpoets.core.file_kinds import FileKind, kind_named, kind_of_file
from trtpoets.core.files import read_long_json, sha256_of_file, sha256_of_folder, size_of_folder
from trtpoets.core.model_json import MODEL_JSON
from trtpoets.core.paths import user_path
from trtpoets.core.reading import LARGEST_CARD, read_bytes, read_errors, read_start, read_text
from trtpoets.core.shell_commands import command
from trtpoets.core.tflite_file import DESCRIPTION_FILE, read_tflite
from trtpoets.core.types import EngineCard, Int8Form, ModelSpec, TfliteModel
from trtpoets.core.workspace import card_matches, card_of, open_details, read_card
from trtpoets.device.build.engine_card import card_from_details
from trtpoets.device.build.plan_header import SUFFIXES, PlanHeader, read_plan_header
from trtpoets.pipeline.inspect_foreign import OtherFacts, facts_of_other

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class EngineFacts:
    """The header of an engine, and its card if both are intact; otherwise `not_intact` is the reason.

    `foreign` is the reason why the engine may have been built by someone else; "" if this user built it here.
    """

    header: PlanHeader
    card: EngineCard | None
    not_intact: str
    foreign: str


@dataclass(frozen=True)
class CardFacts:
    """An intact card. `files` maps each file that it describes to "intact", "changed" or "missing".

    `details` are those of the stage that wrote it; `foreign` is as in EngineFacts.
    """

    key: str
    files: Mapping[str, str]
    details: Mapping[str, Any]
    foreign: str


@dataclass(frozen=True)
class Inspection:
    """The kind of a file and its facts, whose type depends on the kind.

    `kind` is "engine", "onnx", "tflite", "card", "model" or "calibration-cache"; or another name in
    `core/file_kinds.py`, such as "git-lfs-pointer", and then `facts` are OtherFacts.
    """

    path: Path
    kind: str
    bytes: int
    sha256: str
    facts: EngineFacts | OnnxFacts | TfliteModel | CardFacts | ModelSpec | CalibrationCache | OtherFacts

    @property
    def of_ours(self) -> bool:
        """Whether trtpoets can read files of this kind, and not only identify them."""
        return not isinstance(self.facts, OtherFacts)


def inspect(file: Path | str) -> Inspection:
    """Describe a file. Nothing in it is deserialised or run; neither TensorRT nor a GPU is needed.

    The kind of a file is detected from its first bytes, not from its name. A folder is described if it is a SavedModel,
    a run (by its model.json), or has one classifier. Raises MissingArtefact, BadInput for another folder, BadArtefact
    for a file that is damaged or of an unknown kind, MissingDependency for an ONNX file if onnx is not installed.
    """
    path = user_path(file)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise MissingArtefact(f"{path} does not exist", hint="trtpoets inspect FILE", code="TP8017")
    with read_errors(StorageFailed, path, hint="check the file and its disk", code="TP8018"):
        detected = kind_of_file(path)
        kind = _kind(path, detected)
        facts = _READERS[kind](path) if kind in _READERS else facts_of_other(path, kind_named(kind))
        return Inspection(path, kind, path.stat().st_size, sha256_of_file(path), facts)


def _folder(path: Path) -> Inspection:
    """Describe a SavedModel, the classifier of a run, or the one classifier in a folder. Raises BadInput for others."""
    graph = path / "saved_model.pb"
    if not graph.is_file():
        if (path / "classifier" / MODEL_JSON).is_file():
            return inspect(path / "classifier" / MODEL_JSON)
        try:
            return inspect(classifier_in_folder(path))
        except BadArtefact as error:
            if error.code not in ("TP9501", "TP9506"):
                raise
        raise BadInput(
            f"{path} is a folder; a SavedModel, a run, or one classifier in it can be inspected",
            hint=f"name a file in it: {command('inspect', path / 'FILE')}",
            code="TP8019",
        )
    kind = kind_named("saved-model")
    facts = replace(facts_of_other(path, kind), words="a TensorFlow SavedModel (a folder)")
    return Inspection(path, kind.name, size_of_folder(path), sha256_of_folder(path), facts)


def _kind(path: Path, detected: FileKind | None) -> str:
    """Return the kind of a file by its content; by its name if the content is unknown, so that the reader can report
    what is damaged. Raises BadArtefact.
    """
    name = detected.name if detected is not None else ""
    if name == "empty":
        raise BadArtefact(f"{path} is empty", hint="create or copy it again", code="TP8020")
    if name not in ("", "text"):
        return _kind_of_json(path) if name == "json" else name
    start = read_start(path, 256)
    if path.suffix in SUFFIXES and not name:
        return "engine"
    if start.lstrip()[:1] == b"{":
        return _kind_of_json(path)
    if (path.suffix == ".onnx" or start[0] == 0x08) and not name:  # ONNX begins with its version: field 1, a number
        return "onnx"
    raise BadArtefact(
        f"{path} is {name and 'text and '}of an unknown kind: it starts with {start[:8]!r}",
        hint="give an engine, a network, a card or a calibration cache",
        code="TP8021",
    )


def _kind_of_json(path: Path) -> str:
    value = read_long_json(path, LARGEST_CARD)
    for kind, mark in (("card", "seal"), ("model", "preprocess_hash")):
        if mark in value:
            return kind
    raise BadArtefact(
        f"{path} is JSON, but neither a card nor a model.json of trtpoets",
        hint="give the card of the engine, FILE.engine.json",
        code="TP8022",
    )


def _engine(path: Path) -> EngineFacts:
    header = read_plan_header(path)
    card = card_of(path)
    if not card.is_file():
        return EngineFacts(header, None, "it has no card", NO_HMAC)
    try:
        contents = read_card(card)
        if not card_matches(contents, path):
            return EngineFacts(
                header, None, f"it does not match its card {card.name}: the file was changed", OTHER_HMAC
            )
        return EngineFacts(header, card_from_details(contents.details, path), "", contents.foreign)
    except BadArtefact as error:
        return EngineFacts(header, None, error.message, OTHER_HMAC)


@dataclass(frozen=True)
class _IslandNotes:
    islands: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _IslandsOnly:
    notes: _IslandNotes | None = None


def _onnx(path: Path) -> OnnxFacts:
    """Describe an ONNX file; what ONNX Runtime computes in float is taken from its card, as nothing is run here."""
    facts = facts_of_onnx(path)
    if facts.form is not Int8Form.CPU or not card_of(path).is_file():
        return facts
    try:
        details = open_details(card_of(path), _IslandsOnly)
    except BadArtefact:  # a damaged card says nothing about the file
        return facts
    return replace(facts, islands=details.notes.islands if details and details.notes else None)


def _card(path: Path) -> CardFacts:
    card = read_card(path)
    states = {}
    for name in card.files:
        file = path.parent / name
        states[name] = "missing" if not file.exists() else "intact" if card_matches(card, file) else "changed"
    return CardFacts(card.key, states, card.details, card.foreign)


def _model(path: Path) -> ModelSpec:
    return ModelSpec.from_json(read_text(path, errors="surrogateescape"), str(path))


def _tflite(path: Path) -> TfliteModel | OtherFacts:
    try:
        return read_tflite(path)
    except BadArtefact:
        if DESCRIPTION_FILE.encode() in read_bytes(path):
            raise  # a damaged file of trtpoets
        return facts_of_other(path, kind_named("tflite"))


_READERS: dict[str, Callable[[Path], Any]] = {
    "engine": _engine,
    "onnx": _onnx,
    "tflite": _tflite,
    "card": _card,
    "model": _model,
    "calibration-cache": read_cache,
}
