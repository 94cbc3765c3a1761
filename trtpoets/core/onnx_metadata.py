"""What an ONNX file says about itself, read without the `onnx` package: a device does not have it.

Of the protobuf (github.com/onnx/onnx, onnx.proto) only the operator sets, the metadata and the shape of the photos are
read. Nothing here checks the graph: that was done before somebody vouched for the
file by its sha256.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.onnx_file import described
from trtpoets.core.protobuf import fields, message, text
from trtpoets.core.reading import read_bytes
from trtpoets.core.types import INPUT_NAME, OnnxModel

_GRAPH, _OPSET_IMPORT, _METADATA = 7, 8, 14
_NODE, _NODE_NAME, _NODE_OPERATOR = 1, 3, 4
_INPUT = 11
"""The number of GraphProto's inputs."""


@dataclass(frozen=True)
class OnnxFacts:
    """An ONNX file's metadata, and the newest operator set of the standard ones that it is written in.

    `photos` is the shape of the input of that name, None where a size is not fixed; None as a whole where it is not
    told.
    """

    metadata: Mapping[str, str]
    opset: int
    photos: tuple[int | None, ...] | None = None


def facts_of(path: Path) -> OnnxFacts:
    """Read an ONNX file's own description. Raises MissingArtefact, or BadArtefact where it is no ONNX file."""
    if not path.is_file():
        raise MissingArtefact(
            f"{path} is not there", hint="make it: trtpoets export NAME, then trtpoets quantize NAME", code="TP1048"
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
    return OnnxFacts(metadata, opset, photos)


def read_vouched_onnx(path: Path) -> OnnxModel:
    """An ONNX file of trtpoets that somebody vouches for, by what it says about itself. Raises as `facts_of` does."""
    return described(path, facts_of(path).metadata)


def node_of(content: bytes, index: int) -> tuple[str, str]:
    """Name and operator of node `index` of the ONNX file `content`; both empty where there is no such node."""
    try:
        graphs = [message(value) for number, value in fields(memoryview(content)) if number == _GRAPH]
        nodes = [message(value) for graph in graphs for number, value in fields(graph) if number == _NODE]
        if not 0 <= index < len(nodes):
            return "", ""
        inside = dict(fields(nodes[index]))
        return text(inside.get(_NODE_NAME, b"")), text(inside.get(_NODE_OPERATOR, b""))
    except ValueError:  # not a protobuf: the parser's own message is all there is
        return "", ""


def _photos(graph: memoryview) -> tuple[int | None, ...] | None:
    """The shape of the input named `photos`: ValueInfoProto.type.tensor_type.shape.dim, all but the first in field 1.

    In Dimension, field 1 is a fixed size and field 2 the name of one that is not.
    """
    for number, value in fields(graph):
        if number != _INPUT:
            continue
        info = dict(fields(message(value)))
        if text(info.get(1, b"")) != INPUT_NAME or 2 not in info:
            continue
        tensor = dict(fields(message(info[2]))).get(1, memoryview(b""))
        shape = dict(fields(message(tensor))).get(2)
        if shape is not None:
            sizes = [dict(fields(message(size))).get(1) for each, size in fields(message(shape)) if each == 1]
            return tuple(size if isinstance(size, int) else None for size in sizes)
    return None
