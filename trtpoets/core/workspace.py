"""Paths of the artefacts in engines/<name>/, and the cards that record how they were made.

A card is a JSON file that is written after the files it lists. It contains the hash of everything they were made from
(`key`), the sha256 of each file, and a seal. A file without a valid card counts as missing. The seal is a hash of the
card, which detects accidental changes; `hmac` proves that this user made the files on this machine
(`core/authenticity.py`), which is required of files that run code when they are opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping, TypeVar

from trtpoets.core.authenticity import hmac_of, why_foreign
from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.files import read_long_json, sha256_of_file, sha256_of_folder, write_json
from trtpoets.core.paths import user_path
from trtpoets.core.reading import LARGEST_CARD
from trtpoets.core.runner_id import onnx_file_name
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.shell_commands import command, filled, quote
from trtpoets.core.types import Int8Form, Precision, hash_of

_T = TypeVar("_T")

_STAGES = {
    "fp32.onnx.json": ("export",),
    "fp16.onnx.json": ("quantize",),
    "int8.onnx.json": ("quantize",),
    "ranges.json": ("quantize", "--force"),
    "int8.cpu.onnx.json": ("quantize", "--cpu-form"),
    "int8.half.onnx.json": ("build", "--force"),
    "fp32.tflite.json": ("bundle", "--for", "tflite"),
    "int8.tflite.json": ("bundle", "--for", "tflite"),
    "evaluation.json": ("evaluate",),
    "benchmark.json": ("bench",),
}
"""The commands that write cards of a run again, where they need no photos and no option of the user."""


@dataclass(frozen=True)
class Workspace:
    """The paths in the folder engines/<name>/. No file is read or created."""

    engines: Path
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "engines", user_path(self.engines))
        check_name(self.name)

    @property
    def folder(self) -> Path:
        """engines/<name>."""
        return self.engines / self.name

    def command(self, verb: str, *options: object) -> str:
        """The command `trtpoets VERB NAME OPTION...` for this run, quoted, with --engines if it is not the default.

        `retrain`, `run`, `race`, `sweep`, `pretrained` and `adopt` take the name as an option:
        `command("retrain", "PHOTOS")` gives `trtpoets retrain PHOTOS --name NAME`.
        """
        if verb in ("retrain", "run", "race", "sweep", "pretrained", "adopt"):
            return command(verb, *options, "--name", self.name, engines=self.engines)
        return command(verb, self.name, *options, engines=self.engines)

    def filled(self, hint: str) -> str:
        """`hint` with NAME in each command replaced by the run's name, and --engines if it is not the default."""
        return filled(hint, self.name, self.engines)

    @property
    def lock(self) -> Path:
        """The lock file of the process that writes to the folder; it is beside the folder, not in it."""
        return self.engines / f".{self.name}.lock"

    @property
    def dataset(self) -> Path:
        """The photos with their labels, splits and hashes, and the files that were left out."""
        return self.folder / "dataset.json"

    @property
    def training(self) -> Path:
        """The training of the head: configuration, curves, final accuracy."""
        return self.folder / "training.json"

    @property
    def fine_tuning(self) -> Path:
        """The state of an unfinished fine-tuning; the files of its trials begin with the same name."""
        return self.folder / "fine-tuning"

    @property
    def classifier(self) -> Path:
        """The folder with classifier.keras, saved_model/ and model.json."""
        return self.folder / "classifier"

    @property
    def half_remainder(self) -> Path:
        """The variant of int8.onnx with FP16 outside the Q/DQ pairs, for builders of strongly typed networks."""
        return self.folder / "int8.half.onnx"

    @property
    def ranges(self) -> Path:
        """The range of each tensor on the calibration photos."""
        return self.folder / "ranges.json"

    @property
    def evaluation(self) -> Path:
        """Accuracy and agreement of every runner on the test photos."""
        return self.folder / "evaluation.json"

    @property
    def benchmark(self) -> Path:
        """Latency and throughput of every runner."""
        return self.folder / "benchmark.json"

    @property
    def train_benchmark(self) -> Path:
        """The speed of bottlenecks and head training, and the accuracy for each learning rate."""
        return self.folder / "train-benchmark.json"

    @property
    def sweep(self) -> Path:
        """The comparison of settings of the head's training."""
        return self.folder / "sweep.json"

    @property
    def race(self) -> Path:
        """The race between networks of `--backbone auto`."""
        return self.folder / "race.json"

    @property
    def report(self) -> Path:
        """The report as JSON, for scripts."""
        return self.folder / "report.json"

    @property
    def page(self) -> Path:
        """The report as an HTML page."""
        return self.folder / "report.html"

    @property
    def markdown(self) -> Path:
        """The report as Markdown, for a pull request."""
        return self.folder / "report.md"

    @property
    def logs(self) -> Path:
        """TensorBoard's event files: one folder per training, never deleted."""
        return self.folder / "logs"

    @property
    def golden(self) -> Path:
        """The folder with a few test photos and the expected scores of each precision."""
        return self.folder / "golden"

    @property
    def bundles(self) -> Path:
        """The folder of the bundles."""
        return self.folder / "bundles"

    @property
    def loadgen(self) -> Path:
        """The folder of LoadGen's log files."""
        return self.folder / "loadgen"

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that trtpoets creates in the run's folder."""
        return (self.classifier, self.golden, self.bundles, self.logs, self.loadgen)

    def onnx(self, precision: Precision, form: Int8Form = Int8Form.TENSORRT) -> Path:
        """The ONNX file of a precision, and for INT8 of a form."""
        return self.folder / onnx_file_name(precision, form)

    def tflite(self, precision: Precision) -> Path:
        """The TFLite file of a precision."""
        return self.folder / f"{precision.value}.tflite"


_NAME = "give for example --name flowers"


def check_name(name: str) -> None:
    """Raise BadInput unless `name` is valid as a folder name on any disk and in any script."""
    if name.lower().endswith(".onnx"):
        raise BadInput(
            f"{name} is an ONNX file, but the name of a run was expected: a folder in engines/ that trtpoets run or "
            "retrain creates",
            hint="to build an engine from a file that trtpoets wrote: trtpoets build FILE.onnx",
            code="TP1096",
        )
    if not name.strip():
        raise BadInput(f"the name {name!r} is empty", hint=_NAME, code="TP1097")
    if name in (".", "..") or "/" in name or "\\" in name:
        raise BadInput(
            f"the name {name!r} is a path, but the name of one folder in engines/ was expected",
            hint=_NAME,
            code="TP1102",
        )
    if name[0] in ".-":
        raise BadInput(f"the name {name!r} begins with {name[0]!r}", hint=_NAME, code="TP1103")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise BadInput(f"the name {name!r} has a control character", hint=_NAME, code="TP1104")
    if len(name.encode("utf-8", "surrogateescape")) > 100:
        raise BadInput(f"the name {name!r} is longer than 100 bytes", hint=_NAME, code="TP1105")


def card_of(path: Path) -> Path:
    """The path of an artefact's card: `<path>.json`."""
    return path.with_name(path.name + ".json")


def seal_card(card: Path, *, key: str, files: Iterable[Path], details: object) -> None:
    """Write a card with the sha256 of `files` (files or folders beside the card) and the `key` of their inputs.

    `details` is a dataclass or any JSON; `open_card` returns its JSON. Raises StorageFailed, and BadArtefact if the
    user's key can't be used.
    """
    value = {"key": key, "files": {file.name: _sha256_of(file) for file in files}, "details": to_json(details)}
    _write_card(card, value)


def authenticate_card(card: Path) -> None:
    """Add this user's HMAC to a valid card whose files the user trusts. Raises as `read_card` does."""
    content = read_card(card)
    _write_card(card, {"key": content.key, "files": dict(content.files), "details": dict(content.details)})


def _write_card(card: Path, value: Mapping[str, Any]) -> None:
    """Write a card with its seal and this user's HMAC."""
    digest = hash_of(value)
    write_json(card, {**value, "seal": digest, "hmac": hmac_of(digest)})


@dataclass(frozen=True)
class Card:
    """The content of a card: `files` maps the names of files beside it to their sha256.

    `foreign` is the reason why there is no proof that this user wrote it on this machine; empty if there is proof.
    """

    key: str
    files: Mapping[str, str]
    details: Mapping[str, Any]
    foreign: str = ""


def read_card(path: Path) -> Card:
    """The card at `path`; its files are not checked. Raises MissingArtefact, or BadArtefact if it is damaged."""
    hint = _redo_hint(path)
    value = read_long_json(path, LARGEST_CARD, hint=hint)
    if not isinstance(value, dict) or set(value) - {"hmac"} != {"seal", "key", "files", "details"}:
        raise BadArtefact(f"{path} is not a card of trtpoets", hint=hint, code="TP1098")
    tag = value.pop("hmac", None)
    seal, digest = value.pop("seal"), hash_of(value)
    if seal != digest:
        raise BadArtefact(
            f"{path} was edited or damaged: its seal does not match its content",
            hint=hint,
            code="TP1099",
        )
    files, details = value["files"], value["details"]
    if not isinstance(files, dict) or not isinstance(details, dict):
        raise BadArtefact(
            f"{path} is a card of another version of trtpoets",
            hint=hint,
            code="TP1100",
        )
    return Card(str(value["key"]), files, details, why_foreign(digest, tag))


def _redo_hint(card: Path) -> str:
    """The command that deletes a card and runs the stage that writes it; a sentence before it if that needs more."""
    deletion, stage = f"rm {quote(card)}", _STAGES.get(card.name)
    if stage is None:
        return f"delete it, and run the stage that writes it again: {deletion}"
    verb, *options = stage
    return f"{deletion} && {command(verb, card.parent.name, *options, engines=card.parent.parent)}"


def card_matches(card: Card, file: Path) -> bool:
    """Whether a file or folder exists and has the sha256 that the card lists."""
    return file.exists() and _sha256_of(file) == card.files.get(file.name)


def open_card(card: Path, key: str | None = None, *, own: bool = False) -> Mapping[str, Any] | None:
    """The details of a card, or None if the stage that writes it must run.

    This is the case if there is no card, if it has another key than `key`, which is a hash of the inputs, or if one of
    its files is missing or changed; with `own` also if there is no proof that this user made the card. Raises
    BadArtefact if the card was edited or damaged.
    """
    if not card.is_file():
        return None
    content = read_card(card)
    if (key is not None and content.key != key) or (own and content.foreign):
        return None
    if not all(card_matches(content, card.parent / name) for name in content.files):
        return None
    return content.details


def open_details(card: Path, kind: type[_T], key: str | None = None, *, own: bool = False) -> _T | None:
    """The details of a card as a `kind`; None where `open_card` returns None. Raises BadArtefact for other details."""
    details = open_card(card, key, own=own)
    return None if details is None else from_json(kind, details, str(card), hint=_redo_hint(card))


def key_of(card: Path) -> str:
    """The key of a card: the hash of everything its files were made from. Raises as `read_card` does."""
    return read_card(card).key


def _sha256_of(path: Path) -> str:
    """The sha256 of a file, or of the content of a folder."""
    return sha256_of_folder(path) if path.is_dir() else sha256_of_file(path)
