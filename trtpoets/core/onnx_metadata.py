"""What an ONNX file says about itself, read without the `onnx` package: a device does not have it.

Only the outermost fields of the protobuf are read (github.com/onnx/onnx, onnx.proto: ModelProto has its operator sets
in field 8 and its metadata in field 14). Nothing here checks the graph: that was done before somebody vouched for the
file by its sha256.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Mapping, Union

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.onnx_file import described
from trtpoets.core.spec import OnnxModel

_GRAPH, _OPSET_IMPORT, _METADATA = 7, 8, 14
_NODE, _NODE_NAME, _NODE_OPERATOR = 1, 3, 4
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5

_Value = Union[int, memoryview]


@dataclass(frozen=True)
class OnnxFacts:
    """An ONNX file's metadata, and the newest operator set of the standard ones that it is written in."""

    metadata: Mapping[str, str]
    opset: int


def facts_of(path: Path) -> OnnxFacts:
    """Read an ONNX file's own description. Raises MissingArtefact, or BadArtefact where it is no ONNX file."""
    if not path.is_file():
        raise MissingArtefact(f"{path} is not there", hint="make it: trtpoets export NAME, then trtpoets quantize NAME")
    metadata: dict[str, str] = {}
    opset = 1
    try:
        for number, value in _fields(memoryview(path.read_bytes())):
            if number not in (_OPSET_IMPORT, _METADATA):
                continue
            inside = dict(_fields(_message(value)))
            if number == _METADATA:
                metadata[_text(inside.get(1, b""))] = _text(inside.get(2, b""))
            elif _text(inside.get(1, b"")) in ("", "ai.onnx"):
                opset = max(opset, int(inside.get(2, 1)))
    except (ValueError, TypeError) as error:
        raise BadArtefact(f"{path} is not a valid ONNX file: {error}", hint="export it again") from error
    return OnnxFacts(metadata, opset)


def read_vouched_onnx(path: Path) -> OnnxModel:
    """An ONNX file of trtpoets that somebody vouches for, by what it says about itself. Raises as `facts_of` does."""
    return described(path, facts_of(path).metadata)


def node_of(content: bytes, index: int) -> tuple[str, str]:
    """Name and operator of node `index` of the ONNX file `content`; both empty where there is no such node."""
    try:
        graphs = [_message(value) for number, value in _fields(memoryview(content)) if number == _GRAPH]
        nodes = [_message(value) for graph in graphs for number, value in _fields(graph) if number == _NODE]
        if not 0 <= index < len(nodes):
            return "", ""
        inside = dict(_fields(nodes[index]))
        return _text(inside.get(_NODE_NAME, b"")), _text(inside.get(_NODE_OPERATOR, b""))
    except ValueError:  # not a protobuf: the parser's own message is all there is
        return "", ""


def _fields(content: memoryview) -> Iterator[tuple[int, _Value]]:
    """Yield the fields of a protobuf message with their numbers. Raises ValueError where it is none."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, kind = tag >> 3, tag & 7
        value: _Value
        if kind == _VARINT:
            value, at = _varint(content, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(content, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"field {number} is of the unknown kind {kind}")
        value = content[at : at + size]
        if len(value) < size or not number:
            raise ValueError("it ends in the middle of a field")
        at += size
        yield number, value


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(content):
            break
        byte = content[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("it ends in the middle of a number")


def _message(value: _Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message is expected")
    return value


def _text(value: _Value | bytes) -> str:
    if isinstance(value, int):
        raise ValueError("a number where text is expected")
    return bytes(value).decode("utf-8", "surrogateescape")
