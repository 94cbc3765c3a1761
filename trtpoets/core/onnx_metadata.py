"""Reads the metadata, opset and input shape of an ONNX file without the `onnx` package, which a device does not have.

Field numbers are those of onnx.proto (github.com/onnx/onnx). The graph is not checked: use it only for files whose
sha256 is listed in a card or manifest, which were checked before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.onnx_file import model_from_metadata
from trtpoets.core.protobuf import fields, message, text
from trtpoets.core.reading import read_bytes
from trtpoets.core.types import INPUT_NAME, OnnxModel

_GRAPH, _OPSET_IMPORT, _METADATA = 7, 8, 14
_NODE, _NODE_NAME, _NODE_OPERATOR = 1, 3, 4
_GRAPH_INPUT = 11
"""Field number of GraphProto.input."""


@dataclass(frozen=True)
class OnnxHeader:
    """The metadata of an ONNX file, and its opset of the standard operators.

    `photos` is the shape of the input of that name, with None for each dimension that is not fixed; None if the file
    has no such input or does not give its shape.
    """

    metadata: Mapping[str, str]
    opset: int
    photos: tuple[int | None, ...] | None = None


def read_header(path: Path) -> OnnxHeader:
    """Read the header of an ONNX file. Raises MissingArtefact, or BadArtefact if it is not an ONNX file."""
    if not path.is_file():
        raise MissingArtefact(
            f"{path} does not exist", hint="make it: trtpoets export NAME, then trtpoets quantize NAME", code="TP1048"
        )
    require_kind(path, "onnx", "empty", expected="a valid ONNX file")
    metadata: dict[str, str] = {}
    opset = 1
    photos = None
    try:
        for number, value in fields(memoryview(read_bytes(path))):
            if number == _GRAPH:
                photos = _photos(message(value)) or photos
            if number not in (_OPSET_IMPORT, _METADATA):
                continue
            inside = dict(fields(message(value)))
            if number == _METADATA:
                metadata[text(inside.get(1, b""))] = text(inside.get(2, b""))
            elif text(inside.get(1, b"")) in ("", "ai.onnx"):
                opset = max(opset, int(inside.get(2, 1)))
    except (ValueError, TypeError) as error:
        raise BadArtefact(f"{path} is not a valid ONNX file: {error}", hint="export it again", code="TP1049") from error
    return OnnxHeader(metadata, opset, photos)


def fixed_batch(path: Path) -> int:
    """The number of photos that the network of an ONNX file takes; 0 for any number. Raises as `read_header` does."""
    photos = read_header(path).photos
    return (photos[0] or 0) if photos else 0


def read_verified_onnx(path: Path) -> OnnxModel:
    """The OnnxModel of a file whose sha256 was verified; the graph is not checked. Raises as `read_header` does."""
    return model_from_metadata(path, read_header(path).metadata)


def node_of(content: bytes, index: int) -> tuple[str, str]:
    """Name and operator of node `index` of the ONNX file `content`; both empty if there is no such node."""
    try:
        graphs = [message(value) for number, value in fields(memoryview(content)) if number == _GRAPH]
        nodes = [message(value) for graph in graphs for number, value in fields(graph) if number == _NODE]
        if not 0 <= index < len(nodes):
            return "", ""
        inside = dict(fields(nodes[index]))
        return text(inside.get(_NODE_NAME, b"")), text(inside.get(_NODE_OPERATOR, b""))
    except ValueError:  # not a protobuf: the caller has only the parser's message
        return "", ""


def _photos(graph: memoryview) -> tuple[int | None, ...] | None:
    """The shape of the input `photos`: ValueInfoProto.type (field 2), then tensor_type, shape and dim in field 1 or 2.

    In Dimension, field 1 is a fixed size and field 2 the name of a dynamic one.
    """
    for number, value in fields(graph):
        if number != _GRAPH_INPUT:
            continue
        info = dict(fields(message(value)))
        if text(info.get(1, b"")) != INPUT_NAME or 2 not in info:
            continue
        tensor = dict(fields(message(info[2]))).get(1, memoryview(b""))
        shape = dict(fields(message(tensor))).get(2)
        if shape is not None:
            sizes = [dict(fields(message(size))).get(1) for number, size in fields(message(shape)) if number == 1]
            return tuple(size if isinstance(size, int) else None for size in sizes)
    return None
