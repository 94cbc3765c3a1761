"""Reads the metadata that TFLite files contain: the standard metadata of TFLite Support, and the clues to a producer.

The schema is public (metadata_schema.fbs of tflite-support, "M001"). A field's number is its position in the schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from trtpoets.adoption.foreign import Clues
from trtpoets.adoption.tflite.contents import TfliteContents
from trtpoets.convert.tflite_metadata import METADATA_NAME
from trtpoets.core.optional import needs

_MAX_NODES = 2_000
_LONGEST_TEXT = 4_096
_MAX_TABLES = 100

_NORMALIZATION = 1
"""Normalization options in the union ProcessUnitOptions."""

_CONTENTS = {1: "feature", 2: "image", 3: "bounding box", 4: "audio"}
"""The union ContentProperties."""

_COLOURS = {1: "RGB", 2: "GRAYSCALE"}


def clues_of(contents: TfliteContents) -> Clues:
    """Return the clues to a file's producer.

    `writer` is the description, such as "MLIR Converted."; `nodes` are the names of the tensors that the operators
    write, in the order of the graph. `metadata` has the texts of the file's entries by their names, of which TFLite's
    standard metadata becomes: name, description, version, author, license, input.name, input.description, input.mean
    and input.std (NormalizationOptions: numbers with commas), input.color_space (RGB, GRAYSCALE), input.content and
    output.content (image, feature, audio, bounding box), output.name, output.description, input.files and output.files
    (names with commas). `signature` holds the key and names of the first signature, with commas.
    """
    nodes = [contents.tensors[index].name for operator in contents.operators for index in operator.outputs[:1]]
    metadata = {}
    if contents.signature:
        metadata["signature"] = ",".join(contents.signature)
    for name, data in contents.metadata.items():
        if name == METADATA_NAME:
            metadata.update(_standard(data))
        else:
            text = data.rstrip(b"\0").decode("utf-8", "replace")
            if text and text.isprintable() and len(text) <= _LONGEST_TEXT:
                metadata[name] = text
    return Clues(contents.description, tuple(nodes[:_MAX_NODES]), metadata, contents.files)


def _standard(data: bytes) -> dict[str, str]:
    """The texts of TFLite's standard metadata; those that can be read, if it is damaged."""
    texts: dict[str, str] = {}
    try:
        for key, text in _entries(_root(data)):
            if text:
                texts[key] = text[:_LONGEST_TEXT]
    except Exception:  # noqa: BLE001 - flatbuffers raises exceptions of any class
        return texts
    return texts


def _entries(model: _Table) -> Iterator[tuple[str, str]]:
    for field, key in enumerate(("name", "description", "version")):
        yield key, model.text(field)
    yield "author", model.text(4)
    yield "license", model.text(5)
    for graph in model.tables(3)[:1]:
        for side, field in (("input", 2), ("output", 3)):
            for tensor in graph.tables(field)[:1]:
                for key, text in _of_tensor(tensor):
                    yield f"{side}.{key}", text


def _of_tensor(tensor: _Table) -> Iterator[tuple[str, str]]:
    yield "name", tensor.text(0)
    yield "description", tensor.text(1)
    for content in tensor.table(3):
        kind = content.number(0)
        yield "content", _CONTENTS.get(kind, "")
        if _CONTENTS.get(kind) == "image":
            for image in content.table(1):
                yield "color_space", _COLOURS.get(image.number(0), "")
    for unit in tensor.tables(4):
        if unit.number(0) == _NORMALIZATION:
            for options in unit.table(1):
                yield "mean", ",".join(f"{value:g}" for value in options.floats(0))
                yield "std", ",".join(f"{value:g}" for value in options.floats(1))
    yield "files", ",".join(file.text(0) for file in tensor.tables(6))


class _Table:
    """A table of a flatbuffer. Fields are given by number; absent ones are empty."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def _place(self, field: int) -> int:
        """The place of a field's value in the buffer, 0 if the table has no such field."""
        offset = int(self._table.Offset(4 + 2 * field))
        return offset and offset + int(self._table.Pos)

    def text(self, field: int) -> str:
        place = self._place(field)
        return bytes(self._table.String(place)).decode("utf-8", "replace") if place else ""

    def number(self, field: int) -> int:
        """An unsigned byte, 0 if absent."""
        place = self._place(field)
        return int(self._table.Bytes[place]) if place else 0

    def floats(self, field: int) -> list[float]:
        offset = self._table.Offset(4 + 2 * field)
        if not offset:
            return []
        start, count = self._table.Vector(offset), self._table.VectorLen(offset)
        return [float(value) for value in np.frombuffer(bytes(self._table.Bytes), "<f4", count, start)]

    def table(self, field: int) -> list[_Table]:
        """The table that a field refers to: one, or none if it is absent."""
        place = self._place(field)
        return [self._at(self._table.Indirect(place))] if place else []

    def tables(self, field: int) -> list[_Table]:
        """The tables in a vector."""
        offset = self._table.Offset(4 + 2 * field)
        if not offset:
            return []
        start, count = self._table.Vector(offset), self._table.VectorLen(offset)
        return [self._at(self._table.Indirect(start + 4 * number)) for number in range(min(count, _MAX_TABLES))]

    def _at(self, place: int) -> _Table:
        return _Table(type(self._table)(self._table.Bytes, place))


def _root(data: bytes) -> _Table:
    with needs("tflite", reason="reading TFLite's metadata"):
        from flatbuffers.table import Table
    return _Table(Table(bytearray(data), int.from_bytes(data[:4], "little")))
