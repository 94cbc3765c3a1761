"""Detects which network format a protobuf file has, from the fields in its first bytes: protobufs have no signature.

The fields are those of onnx.proto (ModelProto, TensorProto), saved_model.proto, graph.proto, Core ML's Model.proto and
caffe.proto. Known libraries write fields in the order of their numbers.
"""

from __future__ import annotations

import re
from typing import Tuple, Union

from trtpoets.core.protobuf import varint

_NUMBERS, _LENGTHS = (1, 5), (2, 3, 4, 6, 7, 8, 14, 20, 25, 26)
"""Fields of ONNX's ModelProto: those that are numbers, and those that are strings or messages."""

_Field = Tuple[int, Union[int, bytes]]


def protobuf_kind(start: bytes) -> str | None:
    """The name of the kind, as in `file_kinds`; None if the file is not one of these protobufs."""
    fields = _fields(start)
    if not fields:
        return None
    (first, value), rest = fields[0], fields[1:]
    if first == 1 and isinstance(value, int):
        second = rest[0][1] if rest and rest[0][0] == 2 else 0
        if isinstance(second, bytes) and second[:1] in (b"\x0a", b"\x12"):
            return _saved_model_or_coreml(value, second)
        after = next(((number, content) for number, content in rest if number != 1), (0, 0))
        if after[0] == 2 and isinstance(after[1], int):
            return "onnx-tensor"
    elif first == 1 and isinstance(value, bytes):
        return "graph-def" if _is_node(value) else "caffe" if _is_caffe(value, rest) else None
    return "onnx" if _is_onnx(fields) else None


def _saved_model_or_coreml(version: int, message: bytes) -> str:
    """The kind: Core ML's ModelDescription begins with a named feature, a MetaGraphDef with its MetaInfoDef."""
    inside = _fields(message)
    first = inside[0][1] if inside else b""
    named = isinstance(first, bytes) and re.match(rb"\x0a[\x01-\x7f][\x20-\x7e]", first) is not None
    return "coreml" if version > 1 or named else "saved-model"


def _is_onnx(fields: list[_Field]) -> bool:
    """Whether all fields belong to ModelProto, and one of them is the version, the graph or an opset import."""
    for number, value in fields:
        if number not in (_NUMBERS if isinstance(value, int) else _LENGTHS):
            return False
    return any(number in (1, 7, 8) for number, _ in fields)


def _is_node(message: bytes) -> bool:
    """Whether this begins like TensorFlow's NodeDef, with a name and an operator."""
    fields = _fields(message)
    if len(fields) < 2 or [number for number, _ in fields[:2]] != [1, 2]:
        return False
    operator = fields[1][1]
    return isinstance(operator, bytes) and re.fullmatch(rb"[A-Z_][A-Za-z0-9_>]*", operator) is not None


def _is_caffe(name: bytes, rest: list[_Field]) -> bool:
    """Whether this is Caffe's NetParameter: a name, then layers in the old or the new format."""
    return bool(rest) and rest[0][0] in (2, 100) and re.fullmatch(rb"[\x20-\x7e]{0,200}", name) is not None


def _fields(content: bytes) -> list[_Field]:
    """The fields that begin in `content`, of which the last may be truncated; [] if it is not a protobuf."""
    result: list[_Field] = []
    at = 0
    while at < len(content) and len(result) < 64:
        tag, at = _varint(content, at)
        if at < 0:
            break
        number, wire = tag >> 3, tag & 7
        if not number or wire not in (0, 1, 2, 5):
            return []
        if wire == 0:
            value, at = _varint(content, at)
            if at < 0:
                break
            result.append((number, value))
            continue
        size = {1: 8, 5: 4}.get(wire, 0)
        if wire == 2:
            size, at = _varint(content, at)
            if at < 0:
                break
        result.append((number, content[at : at + size]))
        at += size
    return result


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A varint and the offset after it; the offset is -1 if it does not end within `content` or is too long."""
    try:
        return varint(memoryview(content), at)
    except ValueError:
        return 0, -1
