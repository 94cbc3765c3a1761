"""Lists and checks the external data files of an ONNX file, and hashes the file together with them.

Locations are relative to the ONNX file's folder (not to the current directory) and may not lead out of it. The file is
read without the `onnx` package, which a device does not have. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Iterator, Mapping

from trtpoets.core.errors import BadArtefact, MissingArtefact, TrtPoetsError
from trtpoets.core.file_kinds import PLACEHOLDER_KINDS, kind_of_file
from trtpoets.core.files import sha256_of_file
from trtpoets.core.protobuf import fields, message, text
from trtpoets.core.reading import read_bytes
from trtpoets.core.shell_commands import quote

LARGEST_NETWORK = (1 << 31) - (1 << 20)
"""Largest size in bytes of a network's weights: a protobuf is limited to 2 GiB, 1 MiB of which is for the graph."""

_TOGETHER_HINT = (
    "export it again with its weights in the same folder, or copy both into one folder (cp -L follows links)"
)

_MAX_DEPTH = 64
"""The largest depth of nested graphs."""

_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1  # two fields of TensorProto, and TensorProto.EXTERNAL
_TENSOR, _NODE, _ATTRIBUTE, _GRAPH, _SPARSE, _FUNCTION, _MODEL = range(7)
_SUBMESSAGES: Mapping[int, Mapping[int, int]] = {
    _MODEL: {7: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _FUNCTION: {7: _NODE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
}
"""For each message, the fields that can contain tensors, and the kind of message of each field."""


@dataclass(frozen=True)
class ExternalFile:
    """An external data file of an ONNX file.

    `location` is its path in the ONNX file, `tensors` the number of tensors in it, `needed` its minimum size in bytes,
    and `bytes` its size (None if it is missing). `problem` is the reason why the file can't be used ("" if it can), and
    `remedy` a way to correct that.
    """

    location: str
    tensors: int
    needed: int
    bytes: int | None
    problem: str
    remedy: str


def external_entries(content: bytes) -> list[dict[str, str]]:
    """The external data entry of each tensor of an ONNX file: a dict with "location", "offset", "length".

    The list is empty for a file without external data. Raises ValueError if `content` is not an ONNX file.
    """
    # The entry of each external tensor contains this word. Most files do not contain it, and need not be parsed.
    return list(_entries(memoryview(content), _MODEL, 0)) if b"location" in content else []


def external_files(path: Path, content: bytes | None = None) -> tuple[ExternalFile, ...]:
    """The external data files of the ONNX file at `path`, each with its problem if it has one.

    `content` saves reading the file again. Raises BadArtefact if it is not an ONNX file, OSError.
    """
    ends = _ends_by_location(path, content)
    return tuple(_external_file(path, location, own)[0] for location, own in ends.items())


def _ends_by_location(path: Path, content: bytes | None) -> Mapping[str, list[int]]:
    """The offsets of the ends of the tensors in each external data file. Raises BadArtefact, OSError."""
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
    return needed


def require_external(path: Path, content: bytes | None = None) -> tuple[ExternalFile, ...]:
    """The external data files of an ONNX file, after checking that all of them can be used.

    Raises MissingArtefact if one is missing, BadArtefact if one can't be used or if the weights are too large, OSError.
    """
    files = []
    for location, ends in _ends_by_location(path, content).items():
        file, error = _external_file(path, location, ends)
        if error is not None:
            raise error
        files.append(file)
    total = sum(file.bytes or 0 for file in files)
    if total > LARGEST_NETWORK:
        raise BadArtefact(
            f"the weights of {path} have {total / (1 << 30):.1f} GiB, but at most 2 GiB are supported",
            hint="use a smaller network; TensorRT's own program builds a file of any size, without measurements: "
            f"trtexec --onnx={quote(path)} --saveEngine={quote(path.with_suffix('.engine'))}",
            code="TP1036",
        )
    return tuple(files)


def sha256_of_onnx(path: Path) -> str:
    """The identity of an ONNX file: its sha256 or, with external data, a hash over it and all external data files.

    Raises as `require_external` does.
    """
    own = sha256_of_file(path)
    try:
        entries = external_entries(read_bytes(path))
    except ValueError:
        return own  # not an ONNX file: the code that parses it reports that
    if not entries:
        return own
    return identity(
        own, {file.location: sha256_of_file(path.parent / file.location) for file in require_external(path)}
    )


def identity(own: str, weights: Mapping[str, str]) -> str:
    """The identity of an ONNX file from its own sha256 and the sha256 of each external data file by location."""
    if not weights:
        return own
    total = hashlib.sha256(f"onnx with external data\0{own}\0".encode())
    for location, sha256 in sorted(weights.items()):
        total.update(f"{location}\0{sha256}\0".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _entries(content: memoryview, kind: int, depth: int) -> Iterator[dict[str, str]]:
    """Yield the external data entries in a message of this kind. Raises ValueError."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"its graphs are nested more than {_MAX_DEPTH} deep")
    if kind == _TENSOR:
        yield from _entries_of_tensor(content)
        return
    submessages = _SUBMESSAGES[kind]
    for number, value in fields(content):
        if number in submessages:
            yield from _entries(message(value), submessages[number], depth + 1)


def _entries_of_tensor(content: memoryview) -> Iterator[dict[str, str]]:
    """Yield the external data entry of a TensorProto, if its data are external."""
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
    """An offset or a length as a number. Raises ValueError."""
    if not value.isdigit() or len(value) > 18:
        raise ValueError(f"the offset or length {value!r} of its external data is not a valid number")
    return int(value)


def _external_file(path: Path, location: str, ends: list[int]) -> tuple[ExternalFile, TrtPoetsError | None]:
    """Check the external data file at `location`. `ends` are the offsets of the ends of the tensors in it.

    Returns the error if the file can't be used.
    """
    needed, size = max(ends), None
    try:
        _require_location(path, location)
        size = (path.parent / location).stat().st_size
        _require_size(path, location, size, needed)
    except (BadArtefact, MissingArtefact) as error:
        return ExternalFile(location, len(ends), needed, size, error.reason, error.hint), error
    return ExternalFile(location, len(ends), needed, size, "", ""), None


def _require_size(path: Path, location: str, size: int, needed: int) -> None:
    """Raise BadArtefact if an external data file is too short."""
    if size >= needed:
        return
    kind = kind_of_file(path.parent / location)
    if kind is not None and kind.name in PLACEHOLDER_KINDS:
        raise BadArtefact(
            f"the weights file {location} is {kind.words}",
            hint=kind.remedy_for(path.parent / location),
            code="TP1961",
            subject=f"{path} can't be used:",
        )
    raise BadArtefact(
        f"the weights file {location} is truncated: it has {size:,} bytes, but {needed:,} are needed",
        hint=f"copy it again: {_copy_hint(path)}",
        code="TP1951",
        subject=f"{path} can't be used:",
    )


def _copy_hint(path: Path) -> str:
    return f"copy it next to {path}"


def _require_location(path: Path, location: str) -> None:
    """Raise BadArtefact if a location is not allowed, MissingArtefact if there is no file."""
    pure, windows, folder = PurePosixPath(location), PureWindowsPath(location), path.parent
    if not location or "\0" in location:
        raise BadArtefact(
            f"its weights are in a file named {location!r}",
            hint=_TOGETHER_HINT,
            code="TP1962",
            subject=f"{path} can't be used:",
        )
    if pure.is_absolute() or windows.drive or windows.root:
        raise BadArtefact(
            f"its weights are in {location}: an absolute path, where one relative to {folder} is expected",
            hint=_TOGETHER_HINT,
            code="TP1963",
            subject=f"{path} can't be used:",
        )
    if ".." in (*pure.parts, *windows.parts):
        raise BadArtefact(
            f"its weights are in {location}, which leads out of {folder}",
            hint=_TOGETHER_HINT,
            code="TP1964",
            subject=f"{path} can't be used:",
        )
    try:
        resolved = (folder / location).resolve()
        is_inside, is_folder, is_file = folder.resolve() in resolved.parents, resolved.is_dir(), resolved.is_file()
    except (OSError, RuntimeError) as error:  # a loop of links, or a name that is too long
        raise BadArtefact(
            f"its weights are in {location}, which can't be followed: {error}",
            hint=_TOGETHER_HINT,
            code="TP1965",
            subject=f"{path} can't be used:",
        ) from error
    if not is_inside:
        raise BadArtefact(
            f"its weights are in {location}, a link that leads out of {folder}, to {resolved}",
            hint=_TOGETHER_HINT,
            code="TP1966",
            subject=f"{path} can't be used:",
        )
    if is_folder:
        raise BadArtefact(
            f"its weights are in {location}, which is a folder",
            hint=_TOGETHER_HINT,
            code="TP1967",
            subject=f"{path} can't be used:",
        )
    if not is_file:
        raise MissingArtefact(
            f"the weights file {location} is missing",
            hint=_copy_hint(path),
            code="TP1950",
            subject=f"{path} can't be used:",
        )
