"""Reading protobufs field by field, without the library and without the schema: a device has neither."""

from __future__ import annotations

from typing import Iterator, Union

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
"""How a field is stored; protobuf calls these wire types."""

Value = Union[int, memoryview]


def fields(content: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield the fields of a message with their numbers. Raises ValueError where it is none."""
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
            raise ValueError(f"field {number} is of the unknown kind {kind}")
        value = content[at : at + size]
        if len(value) < size or not number:
            raise ValueError("it ends in the middle of a field")
        at += size
        yield number, value


def require_modest(content: memoryview, most: int = 5_000_000) -> None:
    """Raise ValueError for a message of more than `most` fields: parsed, two bytes may take a hundred.

    Looked into is what may be a message and is large; other parts can't hold many fields.
    """
    _counted(content, most, 0)


def _counted(content: memoryview, most: int, count: int, depth: int = 0) -> int:
    for number, value in fields(content):
        if not number:
            raise ValueError("it has a field without a number")
        count += 1
        if count > most:
            raise TooManyFields(f"it has more than {most:,} parts")
        if isinstance(value, memoryview) and len(value) > _LARGE and depth < _DEEPEST:
            try:
                count = _counted(value, most, count, depth + 1)
            except TooManyFields:
                raise
            except ValueError:  # numbers or text
                continue
    return count


class TooManyFields(ValueError):
    """A message that would take far more memory than its bytes."""


_LARGE = 1 << 16
_DEEPEST = 100


def varint(content: memoryview, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends. Raises ValueError."""
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
        raise ValueError("a number where a message is expected")
    return value


def text(value: Value | bytes) -> str:
    """A field's value as text. Raises ValueError for a number."""
    if isinstance(value, int):
        raise ValueError("a number where text is expected")
    return bytes(value).decode("utf-8", "surrogateescape")
