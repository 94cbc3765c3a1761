"""What a file says of itself: engines, ONNX and TFLite files, cards, models, calibration caches, on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.convert.graph.onnx_facts import OnnxFacts, facts_of_onnx
from trtpoets.convert.int8.tensorrt_cache import CalibrationCache, read_cache
from trtpoets.core.authenticity import NO_HMAC, OTHER_HMAC
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact, StorageFailed
from trtpoets.core.file_kinds import FileKind, kind_named, kind_of_file
from trtpoets.core.files import read_json, sha256_of_file, sha256_of_folder
from trtpoets.core.paths import user_path
from trtpoets.core.reading import read_bytes, read_start, read_text
from trtpoets.core.shell_commands import command
from trtpoets.core.tflite_file import FACTS_FILE, read_tflite
from trtpoets.core.types import EngineCard, ModelSpec, TfliteModel
from trtpoets.core.workspace import card_of, read_card, vouches_for
from trtpoets.device.build.engine_card import card_from_details
from trtpoets.device.build.plan_header import SUFFIXES, PlanHeader, read_plan_header
from trtpoets.pipeline.inspect_foreign import OtherFacts, facts_of_other

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class EngineFacts:
    """An engine: its header, and its card when one lies beside it and both are intact; else `not_intact` says why not.

    `foreign` is why this user is not known to have built it here; empty where they have.
    """

    header: PlanHeader
    card: EngineCard | None
    not_intact: str
    foreign: str


@dataclass(frozen=True)
class CardFacts:
    """A card that is intact. `files` says of each file that it is for whether that is "intact", "changed" or "missing".

    `details` is what the stage that wrote it keeps there; `foreign` is as in EngineFacts.
    """

    key: str
    files: Mapping[str, str]
    details: Mapping[str, Any]
    foreign: str


@dataclass(frozen=True)
class Inspection:
    """What a file is, and `facts` that depend on that.

    `kind` is "engine", "onnx", "tflite", "card", "model" or "calibration-cache", or one of the names in
    `core/file_kinds.py`, as "git-lfs-pointer": then `facts` are OtherFacts.
    """

    path: Path
    kind: str
    bytes: int
    sha256: str
    facts: EngineFacts | OnnxFacts | TfliteModel | CardFacts | ModelSpec | CalibrationCache | OtherFacts

    @property
    def of_ours(self) -> bool:
        """Whether trtpoets reads files of this kind, beyond naming them."""
        return not isinstance(self.facts, OtherFacts)


def inspect(file: Path | str) -> Inspection:
    """Read what a file says of itself. Nothing is deserialised or run; neither TensorRT nor a GPU is needed.

    What a file is, is read from its first bytes, not from its name. A folder may be a SavedModel. Raises
    MissingArtefact, BadInput for another folder, BadArtefact with what is wrong with a file that is damaged or of no
    known kind, MissingDependency for an ONNX file where onnx is not installed.
    """
    path = user_path(file)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise MissingArtefact(f"{path} is not there", hint="trtpoets inspect FILE", code="TP8017")
    try:
        found = kind_of_file(path)
        kind = _kind(path, found)
        facts = _READERS[kind](path) if kind in _READERS else facts_of_other(path, kind_named(kind))
        return Inspection(path, kind, path.stat().st_size, sha256_of_file(path), facts)
    except OSError as error:
        raise StorageFailed(
            f"{path} can't be read: {error.strerror}", hint="check the file and its disk", code="TP8018"
        ) from error


def _folder(path: Path) -> Inspection:
    """A SavedModel; nothing else that is a folder is described."""
    graph = path / "saved_model.pb"
    if not graph.is_file():
        raise BadInput(
            f"{path} is a folder", hint=f"name a file in it: {command('inspect', path / 'FILE')}", code="TP8019"
        )
    kind = kind_named("saved-model")
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    facts = OtherFacts("a TensorFlow SavedModel (a folder)", kind.remedy_for(graph), {})
    return Inspection(path, kind.name, size, sha256_of_folder(path), facts)


def _kind(path: Path, found: FileKind | None) -> str:
    """The kind of a file: by its content, and by its name where its content is of no known kind: it is damaged."""
    name = found.name if found is not None else ""
    if name == "empty":
        raise BadArtefact(f"{path} is empty", hint="make it again, or copy it again", code="TP8020")
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
        f"{path} is {name and 'text, and '}of no kind that is known here: it begins with {start[:8]!r}",
        hint="trtpoets inspect describes engines, networks of several frameworks, cards and calibration caches",
        code="TP8021",
    )


def _kind_of_json(path: Path) -> str:
    value = read_json(path)
    for kind, mark in (("card", "seal"), ("model", "preprocess_hash")):
        if mark in value:
            return kind
    raise BadArtefact(
        f"{path} is JSON, and neither a card nor a model.json of trtpoets",
        hint="engines have cards: FILE.engine.json",
        code="TP8022",
    )


def _engine(path: Path) -> EngineFacts:
    header = read_plan_header(path)
    card = card_of(path)
    if not card.is_file():
        return EngineFacts(header, None, "no card lies beside it", NO_HMAC)
    try:
        found = read_card(card)
        if not vouches_for(found, path):
            return EngineFacts(
                header, None, f"{card.name} is the card of other bytes: this file was changed", OTHER_HMAC
            )
        return EngineFacts(header, card_from_details(found.details, path), "", found.foreign)
    except BadArtefact as error:
        return EngineFacts(header, None, error.message, OTHER_HMAC)


def _card(path: Path) -> CardFacts:
    card = read_card(path)
    states = {}
    for name in card.files:
        file = path.parent / name
        states[name] = "missing" if not file.exists() else "intact" if vouches_for(card, file) else "changed"
    return CardFacts(card.key, states, card.details, card.foreign)


def _model(path: Path) -> ModelSpec:
    return ModelSpec.from_json(read_text(path, errors="surrogateescape"), str(path))


def _tflite(path: Path) -> TfliteModel | OtherFacts:
    try:
        return read_tflite(path)
    except BadArtefact:
        if FACTS_FILE.encode() in read_bytes(path):
            raise  # one of ours, and damaged
        kind = kind_named("tflite")
        return OtherFacts(kind.words, "run it with TFLite's own interpreter", {"of trtpoets": "no"})


_READERS: dict[str, Callable[[Path], Any]] = {
    "engine": _engine,
    "onnx": facts_of_onnx,
    "tflite": _tflite,
    "card": _card,
    "model": _model,
    "calibration-cache": read_cache,
}
