"""manifest.json: what a bundle holds, file by file, with the sha256 of each. Every command on a device checks it first.

What a device makes for itself (engines, timing caches, logs, its virtual environment, Python's own caches) lies in
`built/`, of which a manifest says nothing.
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
from trtpoets.core.serialization import parsed, to_json
from trtpoets.core.signatures import SUFFIX
from trtpoets.core.types import Precision

FORMAT = 1
"""Raise it when an older reader would misread a manifest."""

MANIFEST = "manifest.json"

SIGNATURE = MANIFEST + SUFFIX
"""The signature of the manifest, where the bundle is signed; with the manifest it covers every file."""

BUILT = "built"
"""The folder, at the top of a bundle, of what the device makes for itself."""

_AGAIN = "copy the bundle here again, or make it again: trtpoets bundle NAME --for TARGET"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAMED = 5
_UNLESS_ASKED = ("jetpack", "board", "created")
_LATEST = 1 << 40


class Target(str, Enum):
    """Whom a bundle is for."""

    JETSON = "jetson"
    TRITON = "triton"
    ONNXRUNTIME = "onnxruntime"
    TFLITE = "tflite"


@dataclass(frozen=True)
class Manifest:
    """What a bundle is.

    `target` is a Target, or one of a later trtpoets. `version` is the trtpoets that made it, `model` the sha256 of the
    run's fp32.onnx, `order` the precisions in the order in which they are to be tried. `jetpack` and `board` are empty
    where none was asked for. `created` is when this content was first bundled, in seconds since 1970 (UTC), and later
    for later content of a run; 0 where an earlier trtpoets made it. `files` maps every path below the folder, with `/`,
    to its sha256.
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
    """Write the manifest of everything that lies below `folder`: the last file of a bundle.

    Raises BadInput for what a bundle can't hold (a link, a name that is not UTF-8), StorageFailed.
    """
    files = {}
    for path, entry in _entries(folder):
        if not stat.S_ISREG(entry.st_mode):
            raise BadInput(
                f"{folder / path} is no plain file, and a bundle holds nothing else",
                hint="copy the file",
                code="TP1025",
            )
        try:
            path.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BadInput(f"the name {path!r} is not UTF-8", hint="rename it", code="TP1026") from error
        files[path] = sha256_of_file(folder / path)
    made = Manifest(name, target, version, model, tuple(order), files, jetpack, board, created)
    write_json(folder / MANIFEST, _document_of(made))
    return made


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle; its files are not looked at. Raises MissingArtefact or BadArtefact."""
    path = folder / MANIFEST
    if not path.is_file():
        raise MissingArtefact(
            f"{folder} is no bundle: it has no {MANIFEST}",
            hint="make one: trtpoets bundle NAME --for jetson",
            code="TP1027",
        )
    value = read_json(path)
    if isinstance(value, dict) and value.get("format") not in (FORMAT, None):
        raise BadArtefact(
            f"{path} has format {value['format']}, and this trtpoets reads format {FORMAT}",
            hint="use the trtpoets that is in the bundle, under runtime/",
            code="TP1028",
        )
    try:
        manifest = parsed(Manifest, value)
        _check_values(manifest)
    except ValueError as error:
        raise BadArtefact(f"{path} is not a manifest of trtpoets: {error}", hint=_AGAIN, code="TP1029") from error
    return manifest


def check_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle and hold every file against it.

    Raises MissingArtefact where there is no manifest, BadArtefact that names what is missing, changed or extra.
    """
    manifest = read_manifest(folder)
    found = dict(_entries(folder))
    for path, sha256 in manifest.files.items():
        if path not in found:
            raise BadArtefact(f"{folder / path} is missing", hint=_AGAIN, code="TP1030")
        if not stat.S_ISREG(found[path].st_mode):
            raise BadArtefact(
                f"{folder / path} is a link, or no file: the manifest has a file there", hint=_AGAIN, code="TP1031"
            )
        try:
            changed = sha256_of_file(folder / path) != sha256
        except OSError as error:
            raise BadArtefact(f"{folder / path} can't be read: {error.strerror}", hint=_AGAIN, code="TP1032") from error
        if changed:
            raise BadArtefact(
                f"{folder / path} was changed or damaged: its sha256 is not the manifest's", hint=_AGAIN, code="TP1033"
            )
    extra = extra_files(folder, manifest)
    if extra:
        more = f" (and {len(extra) - _NAMED} more)" if len(extra) > _NAMED else ""
        raise BadArtefact(
            f"{folder} holds what its manifest does not name: {', '.join(extra[:_NAMED])}{more}",
            hint=f"delete it, or keep it in {BUILT}/",
            code="TP1034",
        )
    return manifest


def extra_files(folder: Path, manifest: Manifest) -> list[str]:
    """What lies in a bundle and is not in its manifest, but for `built/`: files that someone else put there."""
    return sorted({path for path, _ in _entries(folder)} - set(manifest.files))


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file, link and other entry below a bundle but manifest, signature and `built/`; no link is followed."""

    def below(inside: Path, before: str) -> Iterator[tuple[str, os.stat_result]]:
        for name in sorted(os.listdir(inside)):  # noqa: PTH208 - names only: a Path of each would be thrown away
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
    told = {word: item for word, item in value.items() if item or word not in _UNLESS_ASKED}
    return {"format": FORMAT, **told, "files": dict(sorted(files.items()))}


def _check_values(manifest: Manifest) -> None:
    """Raise ValueError for what no manifest of ours says."""
    if not manifest.files:
        raise ValueError("it names no files")
    for path, sha256 in manifest.files.items():
        parts = PurePosixPath(path).parts
        inside = parts and ".." not in parts and "/".join(parts) == path and not path.startswith("/")
        if not inside or "\0" in path or parts[0] == BUILT or path in (MANIFEST, SIGNATURE):
            raise ValueError(f"{path!r} is no path of a file in a bundle")
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{path!r} has no sha256")
    order = [precision.value for precision in manifest.order]
    if not order or len(set(order)) < len(order):
        raise ValueError(f"the order to try precisions in is {order!r}: one or more, each once")
    if not 0 <= manifest.created < _LATEST:
        raise ValueError(f"it was created {manifest.created!r} seconds after 1970")
