"""Lists of millions of items that are made when they are read, and JSON documents that contain them.

A parsed JSON object takes ten times the memory of its text, so a list of a million of them is never held as objects:
`indented_chunks` and `canonical_chunks` write it item by item, and `document_from_blocks` keeps its text.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Callable, Iterable, Iterator, Sequence, TypeVar, overload

_T = TypeVar("_T")
_U = TypeVar("_U")

BLOCK_ITEMS = 4096
"""So many items of a list are written, or kept as one text, at a time; shorter lists are read as ordinary lists."""

_SPACE = re.compile(r"[ \t\n\r]*")

_UNDECIDED = 4
"""A number is complete only if so many characters follow it: the rest of `1e+5` may not have been read yet."""


class LongList(Sequence[_T]):
    """A list whose items are made on each access and not kept. Equal to any list with equal items."""

    def __init__(self, count: int, item: Callable[[int], _T]) -> None:
        """`item` returns the item at an index from 0 to `count` - 1."""
        self._count, self._item = count, item

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> _T: ...

    @overload
    def __getitem__(self, index: slice) -> list[_T]: ...

    def __getitem__(self, index: int | slice) -> _T | list[_T]:
        if isinstance(index, slice):
            return [self._item(number) for number in range(*index.indices(self._count))]
        return self._item(range(self._count)[index])

    def __iter__(self) -> Iterator[_T]:
        return map(self._item, range(self._count))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, tuple, LongList)):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other))

    __hash__ = None  # type: ignore[assignment] # like that of a list

    def mapped(self, function: Callable[[_T], _U]) -> LongList[_U]:
        """Return the list of `function` of each item."""
        item = self._item
        return LongList(self._count, lambda index: function(item(index)))


def canonical_chunks(value: Any) -> Iterator[str]:
    """Yield the text of `core.types.canonical_json` in parts. Objects and lists may contain LongLists."""
    encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
    return _chunks(value, encode, 0, indent=False)


def indented_chunks(value: Any) -> Iterator[str]:
    """Yield the text of `json.dumps` with `indent=2` in parts. Objects and lists may contain LongLists."""
    encode = json.JSONEncoder(indent=2, ensure_ascii=False, allow_nan=False).encode
    return _chunks(value, encode, 0, indent=True)


def _chunks(value: Any, encode: Callable[[Any], str], level: int, *, indent: bool) -> Iterator[str]:
    """Yield the JSON of `value`, whose lines are indented by `level` after the first one."""
    line = "\n" + "  " * level if indent else ""
    if not _has_long_list(value):
        yield encode(value).replace("\n", line) if line else encode(value)
    elif isinstance(value, LongList):
        for start in range(0, len(value), BLOCK_ITEMS):
            text = encode(value[start : start + BLOCK_ITEMS])[1 : -2 if indent else -1]
            yield ("," if start else "[") + (text.replace("\n", line) if line else text)
        yield f"{line}]" if len(value) else "[]"
    else:
        is_object = isinstance(value, dict)
        names = list(value) if indent else sorted(value) if is_object else []
        opening, end = "{}" if is_object else "[]"
        for name, item in ((name, value[name]) for name in names) if is_object else (("", item) for item in value):
            yield opening + line + ("  " if indent else "")
            if is_object:
                yield encode(name) + (": " if indent else ":")
            yield from _chunks(item, encode, level + 1, indent=indent)
            opening = ","
        yield line + end


def _has_long_list(value: Any) -> bool:
    """Return whether a JSON value is a LongList, or has one in its objects, or directly in a list."""
    if isinstance(value, dict):
        return any(map(_has_long_list, value.values()))
    if isinstance(value, (list, tuple)):
        return any(isinstance(item, LongList) for item in value)
    return isinstance(value, LongList)


def document_from_blocks(blocks: Iterable[bytes], decoder: json.JSONDecoder, depth: int = 2) -> Any:
    """Return the JSON document whose text, in UTF-8, is in `blocks`; undecodable bytes become surrogate escapes.

    Lists of more than BLOCK_ITEMS items are LongLists, which keep the text of their items, if they are in the outermost
    object, or in one that is at most `depth` - 1 objects below it. Raises ValueError, RecursionError.
    """
    return _DocumentParser(blocks, decoder).document(depth)


class _DocumentParser:
    """Reads a JSON document from blocks of text, of which only the part that is being parsed is kept."""

    def __init__(self, blocks: Iterable[bytes], decoder: json.JSONDecoder) -> None:
        self._blocks, self._decoder = iter(blocks), decoder
        self._utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at, self._ended = "", 0, False

    def document(self, depth: int) -> Any:
        """Return the document. Raises ValueError if there is anything after it."""
        value = self._value(depth)
        if self._next():
            raise ValueError("Extra data")
        return value

    def _value(self, depth: int) -> Any:
        first = self._next()
        if first == "{" and depth:
            return self._object(depth)
        return self._list() if first == "[" else self._small()

    def _object(self, depth: int) -> Any:
        value: dict[str, Any] = {}
        for _ in self._members("{", "}"):
            if self._next() != '"':
                raise ValueError("Expecting property name enclosed in double quotes")
            name = self._small()
            self._take(":")
            value[name] = self._value(depth - 1)
        return value

    def _list(self) -> Sequence[Any]:
        texts: list[bytes] = []
        items: list[Any] = []
        for _ in self._members("[", "]"):
            if len(items) == BLOCK_ITEMS:
                texts.append(_packed(items))
                items = []
            items.append(self._small())
        if not texts:
            return items
        return LongList(len(texts) * BLOCK_ITEMS + len(items), _PackedItems([*texts, _packed(items)]))

    def _members(self, opening: str, closing: str) -> Iterator[None]:
        """Skip `opening`, yield at the place of each member, which the caller reads, and skip `closing`."""
        self._take(opening)
        end = "," if self._next() != closing else self._take(closing)
        while end == ",":
            yield
            end = self._take(f",{closing}")

    def _small(self) -> Any:
        """Return the value that begins here, parsed at once."""
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended:
                    raise ValueError(error.msg) from None
            else:
                if self._ended or end + _UNDECIDED <= len(self._text):
                    self._at = end
                    return value
            self._read()

    def _next(self) -> str:
        """Return the next character after white space; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._ended or self._at < len(self._text):
                return self._text[self._at : self._at + 1]
            self._read()

    def _take(self, expected: str) -> str:
        """Skip the next character, which must be one of `expected`, and return it."""
        character = self._next()
        if not character or character not in expected:
            raise ValueError(f"Expecting {' or '.join(map(repr, expected))}")
        self._at += 1
        return character

    def _read(self) -> None:
        """Drop the text before this place, and read at least as much as remains."""
        parts = [self._text[self._at :]]
        needed = len(parts[0])
        while needed >= 0 and not self._ended:
            block = next(self._blocks, b"")
            self._ended = not block
            parts.append(self._utf8.decode(block, final=self._ended))
            needed -= len(parts[-1]) + 1
        self._text, self._at = "".join(parts), 0


def _packed(items: list[Any]) -> bytes:
    return json.dumps(items, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


class _PackedItems:
    """A function from an index to an item of JSON texts with BLOCK_ITEMS items each; the last used text is parsed."""

    def __init__(self, texts: list[bytes]) -> None:
        self._texts = texts
        self._parsed: tuple[int, list[Any]] = (-1, [])

    def __call__(self, index: int) -> Any:
        block, place = divmod(index, BLOCK_ITEMS)
        parsed = self._parsed
        if parsed[0] != block:
            parsed = self._parsed = block, json.loads(self._texts[block].decode("utf-8", "surrogatepass"))
        return parsed[1][place]
