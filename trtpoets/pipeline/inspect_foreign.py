"""Describes files that trtpoets does not use: their kind, and details from their headers."""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from trtpoets.adoption.description import NetworkFacts
from trtpoets.adoption.tensorflow.description import facts_of_graph_def, facts_of_saved_model
from trtpoets.adoption.tensorflow.keras_description import facts_of_keras
from trtpoets.adoption.tensorflow.saved_models import SAVED_MODEL
from trtpoets.adoption.tflite.description import facts_of_tflite
from trtpoets.core.errors import BadArtefact, MissingDependency
from trtpoets.core.file_kinds import FileKind, ultralytics_metadata
from trtpoets.core.reading import open_regular
from trtpoets.device.build.plan_header import MAGIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LONGEST = 1 << 24
_LISTED = 5


class _Bounded(io.BufferedReader):
    """A file that limits single reads to _LONGEST bytes, because zipfile reads the directory of an archive at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(_LONGEST + 1 if size is None or size < 0 else min(size, _LONGEST + 1))
        if len(content) > _LONGEST:
            raise ValueError(f"its list of files is larger than {_LONGEST >> 20} MiB")
        return content


@contextmanager
def _zip(path: Path) -> Iterator[zipfile.ZipFile]:
    raw: Any = cast(io.BufferedReader, open_regular(path)).detach()
    with _Bounded(raw) as stream, zipfile.ZipFile(stream) as archive:
        yield archive


@dataclass(frozen=True)
class OtherFacts:
    """A file of a kind that trtpoets only identifies.

    `words` complete the sentence "it is ...", `remedy` is what to do with the file, `details` are values read from it,
    by name; empty if none were read. `network` describes a network that `adopt` may take, None for other files.
    """

    words: str
    remedy: str
    details: Mapping[str, str]
    network: NetworkFacts | None = None


def facts_of_other(path: Path, kind: FileKind) -> OtherFacts:
    """Describe a file of another program, or a SavedModel by its folder. Details say why it can't be described."""
    details: Mapping[str, str] = {}
    network = None
    try:
        details = _DETAILS[kind.name](path) if kind.name in _DETAILS else {}
        network = _NETWORKS[kind.name](path) if kind.name in _NETWORKS else None
    except _DAMAGE as error:
        details = {"damaged": f"{type(error).__name__}: {error}"}
    except BadArtefact as error:
        details = {**details, "cannot be adopted": error.message}
    except MissingDependency as error:
        details = {**details, "not read": f"{error.message}; {error.hint}"}
    remedy = kind.remedy_for(path / SAVED_MODEL if path.is_dir() else path)
    if kind.name == "ultralytics-engine":
        with open_regular(path) as stream:
            metadata = ultralytics_metadata(stream.read(64))
        remedy = f"cut the metadata off: tail -c +{metadata[0] + 1} FILE > NEW.engine" if metadata else remedy
        remedy = FileKind(kind.name, kind.words, remedy).remedy_for(path)
    if network is not None and network.refused:
        remedy = "give a classifier: one photo in, one score for each class out"
    return OtherFacts(kind.words, remedy, details, network)


def _ultralytics(path: Path) -> dict[str, str]:
    with open_regular(path) as stream:
        location = ultralytics_metadata(stream.read(64))
        if location is None:
            return {}
        stream.seek(4)
        metadata = json.loads(stream.read(location[0] - 4))
        header = stream.read(64)
    flavour = MAGIC.get(header[:4])
    built = f"{flavour.value} {'.'.join(map(str, header[24:28]))}" if flavour and len(header) > 28 else "unknown"
    texts = {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    return {"engine begins at byte": f"{location[0]:,}", "built by": built, **texts}


def _keras(path: Path) -> dict[str, str]:
    with _zip(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        documents = {}
        for name in ("metadata.json", "config.json"):
            if name in entries and entries[name].file_size <= _LONGEST:
                documents[name] = json.loads(archive.read(name))
    config = documents.get("config.json", {})
    details = {
        "written by": f"Keras {documents['metadata.json']['keras_version']}" if "metadata.json" in documents else "",
        "network": f"{config.get('class_name', '')} {config.get('config', {}).get('name', '')}".strip(),
    }
    return {name: value for name, value in details.items() if value}


def _archive(path: Path) -> dict[str, str]:
    with _zip(path) as archive:
        names = archive.namelist()
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return {"holds": f"{len(names):,} files: {', '.join(names[:_LISTED])}{more}"}


def _safetensors(path: Path) -> dict[str, str]:
    with open_regular(path) as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > _LONGEST:
            raise ValueError(f"a header of {size:,} bytes")
        names = [name for name in json.loads(stream.read(size)) if name != "__metadata__"]
    return {"tensors": f"{len(names):,}: {', '.join(names[:_LISTED])}"}


_NETWORKS = {
    "keras": facts_of_keras,
    "keras-h5": facts_of_keras,
    "graph-def": facts_of_graph_def,
    "saved-model": facts_of_saved_model,
    "tflite": facts_of_tflite,
}

_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, EOFError, zipfile.BadZipFile)

_DETAILS = {
    "ultralytics-engine": _ultralytics,
    "keras": _keras,
    "zip": _archive,
    "pytorch": _archive,
    "torchscript": _archive,
    "npz": _archive,
    "safetensors": _safetensors,
}
