"""Writes, reads and checks manifest.json, which lists the files of a bundle with their sha256.

Every command on a device checks it first. Files that the device creates (engines, timing caches, logs, its virtual
environment, Python's caches) are in `built/`, which the manifest does not list.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Iterator, Mapping, Sequence

from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.files import read_json, sha256_of_file, write_json
from trtpoets.core.reading import read_errors
from trtpoets.core.serialization import parsed, to_json
from trtpoets.core.signatures import SUFFIX
from trtpoets.core.types import Precision

FORMAT = 1
"""Version of the format. Increase it when an older reader would misread a manifest."""

MANIFEST = "manifest.json"

SIGNATURE = MANIFEST + SUFFIX
"""Signature file of the manifest in a signed bundle. Through the manifest it covers every file."""

BUILT = "built"
"""Folder at the top of a bundle for the files that the device creates."""

_REDO_HINT = "copy the bundle here again, or make it again: trtpoets bundle NAME --for TARGET"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAMED = 5
_UNLESS_ASKED = ("jetpack", "board", "created")
_LATEST = 1 << 40


class Target(str, Enum):
    """Deployment target of a bundle."""

    JETSON = "jetson"
    TRITON = "triton"
    ONNXRUNTIME = "onnxruntime"
    TFLITE = "tflite"


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json.

    `target` is the value of a Target, or one that a later trtpoets defines. `version` is the version of trtpoets that
    wrote it, `model` the sha256 of the run's fp32.onnx, `order` the precisions in the order in which a device tries
    them. `jetpack` and `board` are empty unless the bundle was made for one. `created` is the time at which this
    content was first bundled, in seconds since 1970 (UTC); it increases with the content of a run, and is 0 in bundles
    of an earlier trtpoets. `files` maps every path below the folder, with `/`, to its sha256.
    """

    name: str
    target: str
    version: str
    model: str
    order: tuple[Precision, ...]
    files: Mapping[str, str]
    jetpack: str = ""
    board: str = ""
    created: int = 0


def write_manifest(
    folder: Path,
    *,
    name: str,
    target: str,
    version: str,
    model: str,
    order: Sequence[Precision],
    jetpack: str = "",
    board: str = "",
    created: int = 0,
) -> Manifest:
    """Write the manifest of all files below `folder`. It is the last file of a bundle to be written.

    Raises BadInput for entries that a bundle can't contain (a link, a name that is not UTF-8), StorageFailed.
    """
    files = {}
    for path, entry in _entries(folder):
        if not stat.S_ISREG(entry.st_mode):
            raise BadInput(
                f"{folder / path} is not a regular file; a bundle can contain only regular files",
                hint="copy the file",
                code="TP1025",
            )
        try:
            path.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BadInput(f"the file name {path!r} is not UTF-8", hint="rename it", code="TP1026") from error
        files[path] = sha256_of_file(folder / path)
    manifest = Manifest(name, target, version, model, tuple(order), files, jetpack, board, created)
    write_json(folder / MANIFEST, _document_of(manifest))
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle without checking its files. Raises MissingArtefact or BadArtefact."""
    path = folder / MANIFEST
    if not path.is_file():
        raise MissingArtefact(
            f"{folder} is not a bundle: it has no {MANIFEST}",
            hint="make one: trtpoets bundle NAME --for jetson",
            code="TP1027",
        )
    value = read_json(path)
    if isinstance(value, dict) and value.get("format") not in (FORMAT, None):
        raise BadArtefact(
            f"{path} has format {value['format']}, but this trtpoets reads format {FORMAT}",
            hint="use the trtpoets that is in the bundle, under runtime/",
            code="TP1028",
        )
    try:
        manifest = parsed(Manifest, value)
        _check_values(manifest)
    except ValueError as error:
        raise BadArtefact(f"{path} is not a manifest of trtpoets: {error}", hint=_REDO_HINT, code="TP1029") from error
    return manifest


def check_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle and compare every file with it.

    Raises MissingArtefact if there is no manifest, BadArtefact that names a missing, changed or extra file.
    """
    manifest = read_manifest(folder)
    entries = dict(_entries(folder))
    for path, sha256 in manifest.files.items():
        if path not in entries:
            raise BadArtefact(f"{folder / path} is missing", hint=_REDO_HINT, code="TP1030")
        if not stat.S_ISREG(entries[path].st_mode):
            raise BadArtefact(
                f"{folder / path} is not a regular file, which the manifest lists", hint=_REDO_HINT, code="TP1031"
            )
        with read_errors(BadArtefact, folder / path, hint=_REDO_HINT, code="TP1032"):
            changed = sha256_of_file(folder / path) != sha256
        if changed:
            raise BadArtefact(
                f"{folder / path} was changed or damaged: its sha256 differs from the manifest",
                hint=_REDO_HINT,
                code="TP1033",
            )
    extra = extra_files(folder, manifest)
    if extra:
        more = f" (and {len(extra) - _NAMED} more)" if len(extra) > _NAMED else ""
        raise BadArtefact(
            f"{folder} contains files that its manifest does not list: {', '.join(extra[:_NAMED])}{more}",
            hint=f"delete them, or move them to {BUILT}/",
            code="TP1034",
        )
    return manifest


def extra_files(folder: Path, manifest: Manifest) -> list[str]:
    """Sorted paths of a bundle's files that its manifest does not list, without those in `built/`."""
    return sorted({path for path, _ in _entries(folder)} - set(manifest.files))


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file, link and other entry below a bundle except manifest, signature and `built/`. Follows no links."""

    def below(inside: Path, before: str) -> Iterator[tuple[str, os.stat_result]]:
        for name in sorted(os.listdir(inside)):  # noqa: PTH208 - only names are needed
            path = before + name
            if path in (MANIFEST, SIGNATURE, BUILT):
                continue
            entry = os.lstat(inside / name)
            if stat.S_ISDIR(entry.st_mode):
                yield from below(inside / name, path + "/")
            else:
                yield path, entry

    yield from below(folder, "")


def _document_of(manifest: Manifest) -> object:
    """manifest.json: what was not asked for is left out, and the files come last."""
    value = to_json(manifest)
    files = value.pop("files")
    written = {word: item for word, item in value.items() if item or word not in _UNLESS_ASKED}
    return {"format": FORMAT, **written, "files": dict(sorted(files.items()))}


def _check_values(manifest: Manifest) -> None:
    """Raise ValueError for a value that is not a manifest of trtpoets."""
    if not manifest.files:
        raise ValueError("it lists no files")
    for path, sha256 in manifest.files.items():
        parts = PurePosixPath(path).parts
        inside = parts and ".." not in parts and "/".join(parts) == path and not path.startswith("/")
        if not inside or "\0" in path or parts[0] == BUILT or path in (MANIFEST, SIGNATURE):
            raise ValueError(f"{path!r} is not a valid path of a file in a bundle")
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{path!r} has no sha256")
    order = [precision.value for precision in manifest.order]
    if not order or len(set(order)) < len(order):
        raise ValueError(f"the order to try precisions in is {order!r}: one or more, each once")
    if not 0 <= manifest.created < _LATEST:
        raise ValueError(f"it was created {manifest.created!r} seconds after 1970")
