"""Reads protobuf messages field by field, without the protobuf library and without a schema: a device has neither."""

from __future__ import annotations

from typing import Iterator, Union

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
"""Protobuf's wire types: how a field is stored."""

Value = Union[int, memoryview]

_LARGE_VALUE = 1 << 16
"""Bytes from which a value is searched for fields of a nested message."""

_MAX_DEPTH = 100
"""The deepest nested message whose fields are counted."""

_NO_NUMBER = "it has a field without a number"


class TooManyFields(ValueError):
    """A message with so many fields that parsing it would need far more memory than its size."""


def fields(content: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield number and value of each field of a message. Raises ValueError if `content` is not a message."""
    at = 0
    while at < len(content):
        tag, at = varint(content, at)
        number, kind = tag >> 3, tag & 7
        value: Value
        if kind == VARINT:
            value, at = varint(content, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = varint(content, at)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(f"field {number} has the unknown wire type {kind}")
        value = content[at : at + size]
        if not number:
            raise ValueError(_NO_NUMBER)
        if len(value) < size:
            raise ValueError("it ends in the middle of a field")
        at += size
        yield number, value


def check_field_count(content: memoryview, most: int = 5_000_000) -> None:
    """Raise TooManyFields if a message has more than `most` fields: a parser needs about 100 bytes of memory for each.

    Nested messages are counted only if they are large; small ones can't contain many fields. Raises ValueError if
    `content` is not a message.
    """
    _count_fields(content, most, 0)


def _count_fields(content: memoryview, most: int, count: int, depth: int = 0) -> int:
    for number, value in fields(content):
        if not number:
            raise ValueError(_NO_NUMBER)
        count += 1
        if count > most:
            raise TooManyFields(f"it has more than {most:,} fields")
        if isinstance(value, memoryview) and len(value) > _LARGE_VALUE and depth < _MAX_DEPTH:
            try:
                count = _count_fields(value, most, count, depth + 1)
            except TooManyFields:
                raise
            except ValueError:  # the value is not a message: numbers or text
                continue
    return count


def varint(content: memoryview, at: int) -> tuple[int, int]:
    """The varint at offset `at`, and the offset after it. Raises ValueError."""
    value = 0
    for place in range(10):
        if at + place >= len(content):
            break
        byte = content[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("it ends in the middle of a number")


def message(value: Value) -> memoryview:
    """A field's value as the bytes of a message. Raises ValueError for a number."""
    if isinstance(value, int):
        raise ValueError("a message was expected, not a number")
    return value


def text(value: Value | bytes) -> str:
    """A field's value as text. Raises ValueError for a number."""
    if isinstance(value, int):
        raise ValueError("text was expected, not a number")
    return bytes(value).decode("utf-8", "surrogateescape")
