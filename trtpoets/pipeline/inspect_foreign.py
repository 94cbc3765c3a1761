"""Describes files that trtpoets does not use: their kind, and details from their headers."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from trtpoets.core.file_kinds import FileKind, ultralytics_metadata
from trtpoets.core.protobuf import fields, message, text
from trtpoets.core.reading import open_regular, read_bytes
from trtpoets.device.build.plan_header import MAGIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LONGEST = 1 << 24
_LISTED = 5
_MAX_NODES = 1_000_000
"""Maximum number of graph nodes to parse: a node takes about 500 bytes of memory, and as few as 2 in the file."""


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
    by name; empty if none were read.
    """

    words: str
    remedy: str
    details: Mapping[str, str]


def facts_of_other(path: Path, kind: FileKind) -> OtherFacts:
    """Describe a file of another program. If it is damaged, the only detail is the error."""
    try:
        details = _DETAILS[kind.name](path) if kind.name in _DETAILS else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, EOFError, zipfile.BadZipFile) as error:
        details = {"damaged": f"{type(error).__name__}: {error}"}
    remedy = kind.remedy_for(path)
    if kind.name == "ultralytics-engine":
        with open_regular(path) as stream:
            metadata = ultralytics_metadata(stream.read(64))
        remedy = f"cut the metadata off: tail -c +{metadata[0] + 1} FILE > NEW.engine" if metadata else remedy
        remedy = FileKind(kind.name, kind.words, remedy).remedy_for(path)
    return OtherFacts(kind.words, remedy, details)


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


def _graph_def(path: Path) -> dict[str, str]:
    node_fields = (value for number, value in fields(memoryview(read_bytes(path))) if number == 1)
    nodes = [dict(fields(message(value))) for value in islice(node_fields, _MAX_NODES + 1)]
    if len(nodes) > _MAX_NODES:
        raise ValueError(f"it has more than {_MAX_NODES:,} nodes")
    operators = Counter(text(node.get(2, b"")) for node in nodes)
    common = ", ".join(f"{count:,} {name}" for name, count in operators.most_common(_LISTED))
    inputs = ", ".join(text(node.get(1, b"")) for node in nodes if text(node.get(2, b"")) == "Placeholder")
    return {"nodes": f"{len(nodes):,}: {common}", "takes": inputs, "gives": text(nodes[-1].get(1, b""))}


def _safetensors(path: Path) -> dict[str, str]:
    with open_regular(path) as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > _LONGEST:
            raise ValueError(f"a header of {size:,} bytes")
        names = [name for name in json.loads(stream.read(size)) if name != "__metadata__"]
    return {"tensors": f"{len(names):,}: {', '.join(names[:_LISTED])}"}


_DETAILS = {
    "ultralytics-engine": _ultralytics,
    "keras": _keras,
    "zip": _archive,
    "pytorch": _archive,
    "torchscript": _archive,
    "npz": _archive,
    "graph-def": _graph_def,
    "safetensors": _safetensors,
}
