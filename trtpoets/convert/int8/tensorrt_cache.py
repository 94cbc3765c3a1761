"""Reads and writes TensorRT calibration caches: INT8 without Q/DQ pairs, for TensorRT 8 to 10 and `trtexec --calib`.

A cache is a text file. Its first line names the TensorRT version and the calibration algorithm. Each other line is the
name of a tensor, a colon, and its scale as eight hexadecimal digits of a big-endian float32. The scale times 127 is the
magnitude at which values saturate. TensorRT 11 and TensorRT-RTX do not read caches; they take int8.onnx.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.calibration import Ranges
from trtpoets.convert.int8.grid import SYMMETRIC
from trtpoets.convert.int8.int8_graph import magnitudes_of
from trtpoets.convert.int8.placement import Placement, placement_from_onnx
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.files import write_text
from trtpoets.core.onnx_external import sha256_of_onnx
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.reading import LARGEST_JSON, read_bytes
from trtpoets.core.types import OnnxModel

TENSORRT = "10.3.0"
"""Default version of caches: the TensorRT of JetPack 6.1 and 6.2."""

ALGORITHM = "EntropyCalibration2"
"""The algorithm that `trtexec --calib` expects, whatever method was used: TensorRT ignores caches of any other."""

_HEADER = re.compile(r"TRT-([0-9]{4,7})-([A-Za-z0-9]+)")
_HEX = re.compile(r"[0-9a-fA-F]{8}")
_FIRST, LAST = 8, 10
"""The major versions of TensorRT that support calibration caches."""


@dataclass(frozen=True)
class CalibrationCache:
    """`scales` is the scale, a positive float32, of each tensor that is to be INT8.

    `without` are the other computed float tensors of the graph. Those inside a kernel that TensorRT fuses need no
    scale; around the others TensorRT stays in floating point.
    """

    tensorrt: str
    algorithm: str
    scales: Mapping[str, float]
    without: tuple[str, ...] = ()


def cache_from_ranges(
    model: OnnxModel, ranges: Ranges, out: Path, tensorrt: str = TENSORRT, keep_float: Mapping[str, str] | None = None
) -> CalibrationCache:
    """Write the cache for an FP32 ONNX file to `out` and read it back. Scales and places equal those of the INT8 file.

    `keep_float` names the nodes kept in FP32, as `Int8Notes.in_float` does. A tensor that is 0 for every photo gets no
    scale. Raises BadInput for a TensorRT version without caches, BadArtefact if the ranges belong to another file,
    StorageFailed.
    """
    header_of(tensorrt)
    if ranges.onnx_sha256 != sha256_of_onnx(model.path):
        raise BadArtefact(
            f"the ranges belong to another network than {model.path}",
            hint="calibrate again: trtpoets quantize NAME --force",
            code="TP3032",
        )
    proto = check_onnx(model.path)
    scales = _scales(placement_from_onnx(proto, keep_float), ranges)
    view = GraphView(proto)
    without = tuple(name for node in view.nodes for name in node.output if view.is_float(name) and name not in scales)
    cache = CalibrationCache(tensorrt, ALGORITHM, scales, without)
    write_text(out, text_of_cache(cache))
    if read_cache(out).scales != cache.scales:
        raise BadArtefact(
            f"{out} was written, but has another content when it is read",
            hint="write it to another disk",
            code="TP3033",
        )
    return cache


def header_of(tensorrt: str) -> int:
    """Return the version number in a cache's header: 8502 for TensorRT 8.5.2, 100300 for 10.3.0.

    Raises BadInput for anything but a version, and for versions without calibration caches.
    """
    match = re.fullmatch(r"([0-9]{1,3})\.([0-9]{1,2})(?:\.([0-9]{1,2}))?(?:\.[0-9]{1,4})?", tensorrt, re.ASCII)
    if match is None:
        raise BadInput(
            f"{tensorrt!r} is not a version of TensorRT such as {TENSORRT}",
            hint=f"give for example --tensorrt {TENSORRT}",
            code="TP3034",
        )
    major, minor, patch = (int(number or 0) for number in match.groups())
    if not _FIRST <= major <= LAST:
        raise BadInput(
            f"only TensorRT {_FIRST} to {LAST} support calibration caches, not {tensorrt}",
            hint="build from int8.onnx, which contains the ranges for every TensorRT from 8.5 on",
            code="TP3035",
        )
    if major < LAST and minor > 9:
        raise BadInput(
            f"TensorRT {tensorrt} does not exist: minor versions of TensorRT {major} end at 9",
            hint=f"give for example --tensorrt {TENSORRT}",
            code="TP3036",
        )
    return major * (1000 if major < LAST else 10000) + minor * 100 + patch


def text_of_cache(cache: CalibrationCache) -> str:
    """Return the text of a cache file. Raises BadInput for a tensor name with line breaks or a scale not above 0."""
    lines = [f"TRT-{header_of(cache.tensorrt)}-{cache.algorithm}"]
    for name, scale in cache.scales.items():
        if not name or "\n" in name:
            raise BadInput(
                f"the tensor name {name!r} is empty or has a line break, which a calibration cache can't contain",
                code="TP3037",
            )
        lines.append(f"{name}: {_hex_of_scale(name, scale)}")
    return "\n".join(lines) + "\n"


def read_cache(path: Path) -> CalibrationCache:
    """Read a cache file from any source. Raises MissingArtefact, or BadArtefact that names the line."""
    try:
        content = read_bytes(path, LARGEST_JSON)
    except FileNotFoundError:
        raise MissingArtefact(
            f"{path} does not exist", hint="write it: trtpoets quantize NAME --calibration-cache FILE", code="TP3038"
        ) from None
    require_kind(path, "calibration-cache", "text", "json", "empty", expected="a calibration cache")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(path, f"it is not UTF-8 text ({error.reason} at byte {error.start})") from error
    return cache_from_text(text, path)


def cache_from_text(text: str, path: Path | str = "the text") -> CalibrationCache:
    """Parse the text of a cache. `path` is its name in errors. Raises BadArtefact."""
    first, *rest = text.split("\n")
    header = _HEADER.fullmatch(first.rstrip("\r"))
    if header is None:
        raise _bad(path, f"its first line is {first[:60]!r}, not TRT-<version>-<algorithm>")
    scales: dict[str, float] = {}
    for number, line in enumerate(rest, 2):
        if not line.strip():
            continue
        # Split at the last colon, because tensor names contain colons too.
        name, colon, digits = line.rpartition(": ")
        if not colon or not name or not _HEX.fullmatch(digits.rstrip("\r")):
            raise _bad(path, f"line {number} is {line[:60]!r}, not a name and eight hexadecimal digits")
        (scale,) = struct.unpack(">f", bytes.fromhex(digits.rstrip("\r")))
        if not (math.isfinite(scale) and scale > 0):
            raise _bad(path, f"line {number} has the scale {scale} for {name[:60]!r}, which is not above 0")
        if name in scales:
            raise _bad(path, f"line {number} repeats the tensor {name[:60]!r}")
        scales[name] = scale
    return CalibrationCache(_version(path, int(header[1])), header[2], scales)


def _scales(placement: Placement, ranges: Ranges) -> dict[str, float]:
    """Return the scales of int8.onnx before equalisation; tensors that are 0 for every photo have none."""
    for name in placement.tensors:
        if not all(map(math.isfinite, ranges.tensors.get(name, (math.nan,)))):
            raise BadArtefact(
                f"the ranges do not contain tensor {name}",
                hint="calibrate again: trtpoets quantize NAME --force",
                code="TP3039",
            )
    return {
        name: float(np.float32(SYMMETRIC.quantiser(-magnitude, magnitude).scale))
        for name, magnitude in magnitudes_of(placement, ranges.tensors).items()
        if magnitude > 0
    }


def _hex_of_scale(name: str, scale: float) -> str:
    value = np.float32(scale) if abs(scale) <= float(np.finfo(np.float32).max) else np.float32(np.nan)
    if not (np.isfinite(value) and value > 0):
        raise BadInput(f"the scale of {name} must be positive and finite in float32, not {scale}", code="TP3040")
    return struct.pack(">f", float(value)).hex()


def _version(path: Path | str, number: int) -> str:
    base = 1000 if number < LAST * 1000 else 10000
    major, minor, patch = number // base, number % base // 100, number % 100
    if not _FIRST <= major <= LAST:
        raise _bad(path, f"its TensorRT version number is {number}; only versions {_FIRST} to {LAST} are supported")
    return f"{major}.{minor}.{patch}"


def _bad(path: Path | str, why: str) -> BadArtefact:
    return BadArtefact(
        f"{path} is not a TensorRT calibration cache: {why}",
        hint="write it again: trtpoets quantize NAME --calibration-cache FILE",
        code="TP3041",
    )
