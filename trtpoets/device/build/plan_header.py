"""Reads the header of an engine file without TensorRT: library, version and targets.

TensorRT writes "ftrt" and its version since 8.6: the fields that `trtexec --getPlanVersionOnly` reads. The layout of
TensorRT-RTX is not documented; it was derived from engines of 1.7 for every combination of targets. Fields with an
unknown layout are reported as unknown.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.reading import open_regular
from trtpoets.core.types import Flavour

MAGIC = {b"vtrt": Flavour.RTX, b"ftrt": Flavour.TENSORRT}
"""The first bytes of an engine, and its library."""

SUFFIXES = (".engine", ".plan", ".trt")
"""File name suffixes of engines."""

_HEADER = 64
_TARGETS = {1: "sm75", 2: "sm80", 4: "sm86", 8: "sm89", 16: "sm120", 32: "sm121"}
_LATER = 64
_AMPERE_AND_LATER = sum(_TARGETS) - 1 + _LATER
_SECTION = struct.Struct("<4sIQQ")
_FOOTER = b"\x99\x8b\x8d\x8b"
_AGAIN = "build it again, or copy it again"


@dataclass(frozen=True)
class PlanHeader:
    """The header of an engine file.

    `version` is that of the library that built it, in four numbers such as "1.7.1.116". `targets` are compute
    capabilities such as "sm86", or ("sm80+",) for Ampere and later; empty if unknown, as in engines of TensorRT.
    `whole` is True if the file has the size in its header, None if the header has no known size.
    """

    flavour: Flavour
    version: str
    targets: tuple[str, ...]
    whole: bool | None


def read_plan_header(engine: Path) -> PlanHeader:
    """Read an engine's header. Raises MissingArtefact, or BadArtefact with the reason if it is not a valid engine."""
    if not engine.is_file():
        raise MissingArtefact(f"{engine} does not exist", hint="build it: trtpoets build NAME", code="TP4046")
    size = engine.stat().st_size
    with open_regular(engine) as stream:
        header = stream.read(_HEADER)
        flavour = MAGIC.get(header[:4])
        if flavour is None:
            require_kind(engine, "empty", expected="a TensorRT engine")
            reason = f"it begins with {header[:4]!r}" if header else "it is empty"
            raise BadArtefact(
                f"{engine} is not an engine of TensorRT 8.6 or later or of TensorRT-RTX: {reason}",
                hint="build it again, as those before 8.6 can't be identified: trtpoets build NAME --force",
                code="TP4047",
            )
        if len(header) < _HEADER:
            raise BadArtefact(
                f"{engine} is a damaged engine: it ends after {len(header)} bytes, inside its header",
                hint=_AGAIN,
                code="TP4048",
            )
        version = ".".join(map(str, header[24:28]))
        (recorded,) = struct.unpack_from("<Q", header, 16)
        if flavour is Flavour.TENSORRT:
            (layout,) = struct.unpack_from("<I", header, 4)
            if layout:
                raise BadArtefact(
                    f"{engine} is a damaged engine: the layout in its header must be 0, not {layout}",
                    hint=_AGAIN,
                    code="TP4116",
                )
            return PlanHeader(flavour, version, (), True if recorded == size else None)
        if header[28:32] != header[:4]:
            raise BadArtefact(
                f"{engine} is a damaged engine: bytes 28 to 32 of its header must repeat the first four, not be "
                f"{header[28:32]!r}",
                hint=_AGAIN,
                code="TP4117",
            )
        if size < recorded:
            raise BadArtefact(
                f"{engine} is a damaged engine: it is truncated: it has {size:,} bytes instead of {recorded:,}",
                hint=_AGAIN,
                code="TP4118",
            )
        if size > recorded:
            raise BadArtefact(
                f"{engine} is a damaged engine: its {recorded:,} bytes are followed by {size - recorded:,} others",
                hint=_AGAIN,
                code="TP4136",
            )
        table = _SECTION.size * _sections(engine, header)
        _check_sections(engine, stream.read(table), table, size)
        stream.seek(-len(_FOOTER), 2)
        if stream.read() != _FOOTER:
            raise BadArtefact(
                f"{engine} is a damaged engine: its last bytes are not those of a complete engine",
                hint=_AGAIN,
                code="TP4119",
            )
    return PlanHeader(flavour, version, _targets(header), True)


def rtx_targets(engine: Path) -> tuple[str, ...]:
    """The compute capabilities that a TensorRT-RTX engine was built for; () if its header does not contain them."""
    try:
        return read_plan_header(engine).targets
    except BadArtefact:
        return ()


def _sections(engine: Path, header: bytes) -> int:
    (count,) = struct.unpack_from("<Q", header, 8)
    if not 0 < count <= 64:  # known engines have two
        raise BadArtefact(
            f"{engine} is a damaged engine: its header gives an invalid number of sections: {count}",
            hint=_AGAIN,
            code="TP4120",
        )
    return int(count)


def _check_sections(engine: Path, table: bytes, expected: int, size: int) -> None:
    if len(table) != expected:
        raise BadArtefact(f"{engine} is a damaged engine: it ends inside its section table", hint=_AGAIN, code="TP4121")
    for tag, _, offset, length in _SECTION.iter_unpack(table):
        if offset + length > size:
            name = tag[::-1].decode("ascii", "replace")
            raise BadArtefact(
                f"{engine} is a damaged engine: its section {name!r} ends at byte {offset + length:,}, but the file "
                f"has {size:,}",
                hint=_AGAIN,
                code="TP4122",
            )


def _targets(header: bytes) -> tuple[str, ...]:
    (mask,) = struct.unpack_from("<Q", header, 32)
    if mask == _AMPERE_AND_LATER:
        return ("sm80+",)
    if not mask or mask & ~sum(_TARGETS):
        return ()
    return tuple(name for bit, name in _TARGETS.items() if mask & bit)
