"""What can be told of files that trtpoets does not read: which kind they are, and what their headers say."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.file_kinds import FileKind, ultralytics_metadata
from trtpoets.core.protobuf import fields, message, text
from trtpoets.core.reading import open_regular
from trtpoets.device.plan_header import MAGIC

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST = 1 << 24
_LISTED = 5


@dataclass(frozen=True)
class OtherFacts:
    """A file of a kind that trtpoets only names. `words` continue "it is ...", `remedy` is what to do with it.

    `details` is what was read of it, by name; empty where nothing was.
    """

    words: str
    remedy: str
    details: Mapping[str, str]


def facts_of_other(path: Path, kind: FileKind) -> OtherFacts:
    """Describe a file of a kind of others. Details of one that is damaged are left out."""
    try:
        details = _DETAILS[kind.name](path) if kind.name in _DETAILS else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, EOFError, zipfile.BadZipFile) as error:
        details = {"damaged": f"{type(error).__name__}: {error}"}
    remedy = kind.remedy_for(path)
    if kind.name == "ultralytics-engine":
        with open_regular(path) as stream:
            found = ultralytics_metadata(stream.read(64))
        remedy = f"cut the metadata off: tail -c +{found[0] + 1} FILE > NEW.engine" if found else remedy
        remedy = FileKind(kind.name, kind.words, remedy).remedy_for(path)
    return OtherFacts(kind.words, remedy, details)


def _ultralytics(path: Path) -> dict[str, str]:
    with open_regular(path) as stream:
        found = ultralytics_metadata(stream.read(64))
        if found is None:
            return {}
        stream.seek(4)
        metadata = json.loads(stream.read(found[0] - 4))
        header = stream.read(64)
    flavour = MAGIC.get(header[:4])
    built = f"{flavour.value} {'.'.join(map(str, header[24:28]))}" if flavour and len(header) > 28 else "not told"
    told = {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    return {"engine begins at byte": f"{found[0]:,}", "built by": built, **told}


def _keras(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        told = {}
        for name in ("metadata.json", "config.json"):
            if name in entries and entries[name].file_size <= _LONGEST:
                told[name] = json.loads(archive.read(name))
    config = told.get("config.json", {})
    found = {
        "written by": f"Keras {told['metadata.json']['keras_version']}" if "metadata.json" in told else "",
        "network": f"{config.get('class_name', '')} {config.get('config', {}).get('name', '')}".strip(),
    }
    return {name: value for name, value in found.items() if value}


def _archive(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return {"holds": f"{len(names):,} files: {', '.join(names[:_LISTED])}{more}"}


def _graph_def(path: Path) -> dict[str, str]:
    nodes = [dict(fields(message(value))) for number, value in fields(memoryview(path.read_bytes())) if number == 1]
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
