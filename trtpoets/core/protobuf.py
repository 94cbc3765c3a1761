"""Reads protobuf messages field by field, without a schema and without the protobuf library, which a device lacks."""

from __future__ import annotations

from typing import Iterator, Union

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
"""Protobuf's wire types: how the value of a field is stored."""

Value = Union[int, memoryview]
"""The value of a field: a number for VARINT, bytes for the other wire types."""

_LARGE_VALUE = 1 << 16
"""Bytes from which a value is searched for fields of a nested message."""

_MAX_DEPTH = 100
"""The deepest nested message whose fields are counted."""

_NO_NUMBER = "it has a field without a number"


class TooManyFields(ValueError):
    """A message with so many fields that parsing it would need far more memory than its size."""


def fields(content: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield number and value of each field of a message. Raises ValueError if `content` is not a message."""
    offset = 0
    while offset < len(content):
        tag, offset = varint(content, offset)
        number, wire_type = tag >> 3, tag & 7
        value: Value
        if wire_type == VARINT:
            value, offset = varint(content, offset)
            yield number, value
            continue
        if wire_type == BYTES:
            size, offset = varint(content, offset)
        elif wire_type in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if wire_type == EIGHT_BYTES else 4
        else:
            raise ValueError(f"field {number} has the unknown wire type {wire_type}")
        value = content[offset : offset + size]
        if len(value) < size or not number:
            raise ValueError("it ends in the middle of a field")
        offset += size
        yield number, value


def check_field_count(content: memoryview, most: int = 5_000_000) -> None:
    """Raise TooManyFields if a message has more than `most` fields: a parser needs about 100 bytes of memory for each.

    Fields of nested messages are counted only in large values, because small values can't contain many fields.
    """
    _count_fields(content, most, 0)


def _count_fields(content: memoryview, most: int, count: int, depth: int = 0) -> int:
    """`count` plus the number of fields in a message and its large values. Raises ValueError, TooManyFields."""
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
            except ValueError:  # the value is not a message, but numbers or text
                continue
    return count


class TooManyFields(ValueError):
    """A message with so many fields that parsing it would need far more memory than its size."""


_LARGE_VALUE = 1 << 16
"""Fields are counted in values with more bytes than this."""

_MAX_DEPTH = 100
"""Fields are counted in messages that are nested at most this deep."""


def varint(content: memoryview, offset: int) -> tuple[int, int]:
    """The varint at `offset`, and the offset after it. Raises ValueError if there is no complete varint."""
    value = 0
    for index in range(10):
        if offset + index >= len(content):
            break
        byte = content[offset + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, offset + index + 1
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
