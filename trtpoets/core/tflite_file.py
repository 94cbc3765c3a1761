"""Writes and reads TFLite files: a network followed by a zip archive with labels, model.json and a sha256.

TFLite's metadata calls these associated files; `unzip` and mobile libraries can read them. The interpreter does not
check what it loads, so the network is compared with its sha256 before it is loaded.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtpoets.core.console import labels_text
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.files import atomic_file
from trtpoets.core.own_files import write_own
from trtpoets.core.reading import NotReadable, read_bytes, read_errors
from trtpoets.core.serialization import parsed, to_json
from trtpoets.core.types import ModelSpec, Precision, TfliteModel

if TYPE_CHECKING:
    from pathlib import Path

LABELS_FILE = "labels.txt"
"""The labels, one per line, under the name that readers of TFLite's metadata expect."""

SPEC_FILE = "model.json"
"""The text of model.json."""

DESCRIPTION_FILE = "trtpoets.json"
"""{"precision": "int8", "calibration": hash of the calibration photos or null, "network": sha256 of the network}."""

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every TFLite file."""

_MAX_BYTES = 64 << 20
"""Largest size in bytes of an associated file."""

_DAMAGE = (KeyError, ValueError, TypeError, RuntimeError, EOFError, OSError, zlib.error)
"""Exceptions that reading a damaged zip may raise, besides BadZipFile; NotImplementedError is a RuntimeError."""

_REDO_HINT = "make it again: trtpoets bundle NAME --for tflite --force"


@dataclass(frozen=True)
class TfliteDescription:
    """What a TFLite file says of itself: the hash of its calibration, None in FP32, and the sha256 of its network."""

    precision: Precision
    calibration: str | None
    network: str


def write_tflite(
    network: bytes, spec: ModelSpec, precision: Precision, out: Path, calibration: str | None = None
) -> TfliteModel:
    """Write a TFLite flatbuffer followed by its labels and model.json. Raises StorageFailed.

    The same network gives the same bytes: the zip archive contains no times.
    """
    description = TfliteDescription(precision, calibration, hashlib.sha256(network).hexdigest())
    files = {
        LABELS_FILE: labels_text(spec.labels),
        SPEC_FILE: spec.to_json() + "\n",
        DESCRIPTION_FILE: json.dumps(to_json(description), indent=2) + "\n",
    }
    with atomic_file(out) as part:
        write_own(part, network)
        with zipfile.ZipFile(part, "a") as archive:
            for name, text in files.items():
                entry = zipfile.ZipInfo(name)  # the default time is 1980-01-01
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, text.encode("utf-8", "surrogateescape"))
    return TfliteModel(out, precision, spec)


def read_tflite(path: Path) -> TfliteModel:
    """Check a TFLite file that trtpoets wrote, and read its metadata.

    Raises MissingArtefact, or BadArtefact if it is damaged or was not written by trtpoets.
    """
    _, description, text, labels = _read(path)
    spec = ModelSpec.from_json(text, f"{path}: {SPEC_FILE}")
    if labels != labels_text(spec.labels):
        raise BadArtefact(
            f"{path} has other labels in {LABELS_FILE} than in {SPEC_FILE}", hint=_REDO_HINT, code="TP1088"
        )
    return TfliteModel(path, description.precision, spec)


def replace_network(model: TfliteModel, network: bytes) -> None:
    """Write a file of trtpoets again with another network, and everything else as it is.

    Raises as `read_tflite` does, and StorageFailed.
    """
    _, description, _, _ = _read(model.path)
    write_tflite(network, model.spec, model.precision, model.path, description.calibration)


def network_in(path: Path) -> bytes:
    """The flatbuffer of a TFLite file that trtpoets wrote, without associated files. Raises as `read_tflite` does."""
    return _read(path)[0]


def tflite_bytes(path: Path, if_missing: str = "check the path: ls") -> bytes:
    """The bytes of a file that should be a TFLite network, whose content is not checked.

    Raises MissingArtefact with the hint `if_missing`, or BadArtefact.
    """
    missing = MissingArtefact(f"{path} does not exist", hint=if_missing, code="TP1089")
    with read_errors(BadArtefact, path, hint="check that it is a readable file", code="TP1090", missing=missing):
        try:
            return read_bytes(path)
        except NotReadable as error:
            raise BadArtefact(error.message, hint=error.hint, code="TP1960") from error


def _read(path: Path) -> tuple[bytes, TfliteDescription, str, str]:
    """The network, and the content of DESCRIPTION_FILE, SPEC_FILE and LABELS_FILE."""
    content = tflite_bytes(path, "make it: trtpoets bundle NAME --for tflite")
    if content[4:8] != IDENTIFIER:
        require_kind(path, expected="a TFLite file")
        raise BadArtefact(f"{path} is not a TFLite file: it has no TFL3 identifier", hint=_REDO_HINT, code="TP1091")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            network = content[: min(entry.header_offset for entry in archive.infolist())]
            description = parsed(TfliteDescription, json.loads(_text(archive, DESCRIPTION_FILE)))
            same = description.network == hashlib.sha256(network).hexdigest()
            parts = network, description, _text(archive, SPEC_FILE), _text(archive, LABELS_FILE)
    except (*_DAMAGE, zipfile.BadZipFile) as error:
        raise BadArtefact(
            f"{path} was not written by trtpoets, or is damaged: {type(error).__name__}: {error}",
            hint=_REDO_HINT,
            code="TP1092",
        ) from error
    if not same:
        raise BadArtefact(
            f"{path} is damaged: the sha256 of its network differs from {DESCRIPTION_FILE}",
            hint=_REDO_HINT,
            code="TP1093",
        )
    return parts


def _text(archive: zipfile.ZipFile, name: str) -> str:
    entry = archive.getinfo(name)
    if entry.file_size > _MAX_BYTES:
        raise ValueError(f"{name} must have at most {_MAX_BYTES >> 20} MiB, not {entry.file_size >> 20}")
    return archive.read(entry).decode("utf-8", "surrogateescape")
