"""Weights that an ONNX file keeps in other files ("external data"): which they are, and one hash over all of them.

Locations are relative to the ONNX file's folder, whatever the current directory is, and may not lead out of it. The
file is read without the `onnx` package, because a device that compares hashes does not have it. Field numbers are
onnx.proto's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Iterator, Mapping

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.file_kinds import STAND_INS, kind_of_file
from trtpoets.core.files import sha256_of_file
from trtpoets.core.protobuf import fields, message, text
from trtpoets.core.reading import read_bytes

LARGEST_NETWORK = (1 << 31) - (1 << 20)
"""Bytes of weights that one ModelProto can hold, with room for the graph: a protobuf ends at 2 GiB."""

_TOGETHER = "export it again with its weights beside it, or copy both into one folder (cp -L follows links)"

_AGAIN = "export it again, or copy it again"

_DEEPEST = 64
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_TENSOR, _NODE, _ATTRIBUTE, _GRAPH, _SPARSE, _FUNCTION, _MODEL = range(7)
_INSIDE: Mapping[int, Mapping[int, int]] = {
    _MODEL: {7: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _FUNCTION: {7: _NODE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
}
"""Of each message, the fields that tensors are in."""


@dataclass(frozen=True)
class ExternalFile:
    """A file beside an ONNX file that holds weights of it.

    `location` is what the ONNX file says, `tensors` how many it keeps there, `needed` the least size in bytes, and
    `bytes` the size; None where there is no such file. `problem` is "" or says why the file can't be used, and `remedy`
    what to do.
    """

    location: str
    tensors: int
    needed: int
    bytes: int | None
    problem: str
    remedy: str


def external_entries(content: bytes) -> list[dict[str, str]]:
    """What each tensor of an ONNX file with external data says of it: "location", "offset", "length".

    [] for a file without external data. Raises ValueError for what is no ONNX file.
    """
    # Every such tensor has this word, and most files need not be walked.
    return list(_entries(memoryview(content), _MODEL, 0)) if b"location" in content else []


def external_files(path: Path, content: bytes | None = None) -> tuple[ExternalFile, ...]:
    """The files that the ONNX file at `path` keeps weights in, with what is wrong with each.

    `content` saves reading the file again. Raises BadArtefact for what is no ONNX file, OSError.
    """
    try:
        entries = external_entries(read_bytes(path) if content is None else content)
        needed: dict[str, list[int]] = {}
        for entry in entries:
            start, length = (_size(entry.get(key, "0")) for key in ("offset", "length"))
            needed.setdefault(entry.get("location", ""), []).append(start + length)
    except ValueError as error:
        raise BadArtefact(
            f"{path} is not a valid ONNX file: {error}", hint="export it again, or copy it again", code="TP1035"
        ) from error
    return tuple(_external_file(path, location, ends) for location, ends in needed.items())


def require_external(path: Path, content: bytes | None = None) -> tuple[ExternalFile, ...]:
    """The external files of an ONNX file, all of them usable.

    Raises MissingArtefact for one that is not there, BadArtefact for one that can't be used or for weights that are
    too large, OSError.
    """
    found = external_files(path, content)
    for each in found:
        if each.problem:
            error = MissingArtefact if each.problem.endswith("is missing") else BadArtefact
            raise error(f"{path} can't be used: {each.problem}", hint=each.remedy)
    total = sum(each.bytes or 0 for each in found)
    if total > LARGEST_NETWORK:
        raise BadArtefact(
            f"the weights of {path} have {total / (1 << 30):.1f} GiB, and a network may have 2 GiB here",
            hint="export a smaller network, or its weights in FP16",
            code="TP1036",
        )
    return found


def sha256_of_onnx(path: Path) -> str:
    """The identity of an ONNX file: its sha256; with external data, a hash over the file and each file of weights.

    Raises as `require_external` does.
    """
    own = sha256_of_file(path)
    try:
        found = external_entries(read_bytes(path))
    except ValueError:
        return own  # no ONNX file: whoever reads it says so
    if not found:
        return own
    return identity(
        own, {each.location: sha256_of_file(path.parent / each.location) for each in require_external(path)}
    )


def identity(own: str, weights: Mapping[str, str]) -> str:
    """The identity of an ONNX file from its sha256 and, by location, those of its files of weights."""
    if not weights:
        return own
    total = hashlib.sha256(f"onnx with external data\0{own}\0".encode())
    for location, sha256 in sorted(weights.items()):
        total.update(f"{location}\0{sha256}\0".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _entries(content: memoryview, kind: int, depth: int) -> Iterator[dict[str, str]]:
    if depth > _DEEPEST:
        raise ValueError(f"its graphs lie in each other more than {_DEEPEST} deep")
    if kind == _TENSOR:
        yield from _entries_of_tensor(content)
        return
    inside = _INSIDE[kind]
    for number, value in fields(content):
        if number in inside:
            yield from _entries(message(value), inside[number], depth + 1)


def _entries_of_tensor(content: memoryview) -> Iterator[dict[str, str]]:
    entry: dict[str, str] = {}
    external = False
    for number, value in fields(content):
        if number == _DATA_LOCATION:
            external = value == _EXTERNAL
        elif number == _EXTERNAL_DATA:
            pair = dict(fields(message(value)))
            entry[text(pair.get(1, b""))] = text(pair.get(2, b""))
    if external:
        yield entry


def _size(value: str) -> int:
    if not value.isdigit() or len(value) > 18:
        raise ValueError(f"its external data has the offset or length {value!r}")
    return int(value)


def _external_file(path: Path, location: str, ends: list[int]) -> ExternalFile:
    needed, file = max(ends), path.parent / location
    problem, remedy = _place_problem(path, location)
    if problem:
        return ExternalFile(location, len(ends), needed, None, problem, remedy)
    if not file.is_file():
        return ExternalFile(location, len(ends), needed, None, f"the weights file {location} is missing", _copy(path))
    size = file.stat().st_size
    if size < needed:
        problem = f"the weights file {location} is cut short: it has {size:,} bytes, and {needed:,} are needed"
        remedy = f"copy it again: {_copy(path)}"
        kind = kind_of_file(file)
        if kind is not None and kind.name in STAND_INS:
            problem, remedy = f"the weights file {location} is {kind.words}", kind.remedy_for(file)
    return ExternalFile(location, len(ends), needed, size, problem, remedy)


def _copy(path: Path) -> str:
    return f"copy it next to {path}"


def _place_problem(path: Path, location: str) -> tuple[str, str]:
    """Why a location may not be followed, and what to do; empty where it may."""
    pure, windows, folder = PurePosixPath(location), PureWindowsPath(location), path.parent
    problem = ""
    if not location or "\0" in location:
        problem = f"its weights are in a file named {location!r}"
    elif pure.is_absolute() or windows.drive or windows.root:
        problem = f"its weights are in {location}: an absolute path, where one relative to {folder} is expected"
    elif ".." in (*pure.parts, *windows.parts):
        problem = f"its weights are in {location}, which leads out of {folder}"
    else:
        try:
            resolved = (folder / location).resolve()
            if folder.resolve() not in resolved.parents:
                problem = f"its weights are in {location}, a link that leads out of {folder}, to {resolved}"
            elif resolved.is_dir():
                problem = f"its weights are in {location}, which is a folder"
        except (OSError, RuntimeError) as error:  # a loop of links, a name that is too long
            problem = f"its weights are in {location}, which can't be followed: {error}"
    return problem, _TOGETHER if problem else ""
