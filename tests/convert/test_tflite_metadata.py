"""The metadata of a TFLite file describe the photo and the labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.tiny import SIDE, tiny_spec
from trtpoets.convert.tflite_metadata import metadata_of_spec
from trtpoets.core.types import Precision


class Table:
    """A table of a flatbuffer, read by field numbers without the schema, as other readers can."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @staticmethod
    def root(content: bytes) -> Table:
        from flatbuffers import encode, number_types, table

        return Table(table.Table(content, encode.Get(number_types.UOffsetTFlags.packer_type, content, 0)))

    def _place(self, field: int) -> int:
        place = self._table.Offset(4 + 2 * field)
        assert place, f"field {field} is missing"
        return int(place + self._table.Pos)

    def text(self, field: int) -> str:
        return str(self._table.String(self._place(field)).decode())

    def number(self, field: int, kind: str) -> int:
        from flatbuffers import number_types

        return int(self._table.Get(getattr(number_types, f"{kind}Flags"), self._place(field)))

    def table(self, field: int) -> Table:
        return self._at(self._table.Indirect(self._place(field)))

    def tables(self, field: int) -> list[Table]:
        offset = self._table.Offset(4 + 2 * field)
        begin = self._table.Vector(offset)
        return [self._at(self._table.Indirect(begin + 4 * i)) for i in range(self._table.VectorLen(offset))]

    def _at(self, place: int) -> Table:
        from flatbuffers import table

        return Table(table.Table(self._table.Bytes, place))


def test_names_that_are_not_utf8_become_question_marks() -> None:
    spec = replace(tiny_spec(), name="caf\udce9")
    root = Table.root(metadata_of_spec(spec, Precision.INT8))
    assert root.text(0) == "caf?"
    assert "retrained for 3 labels, int8" in root.text(1)


def test_the_photo_and_the_scores() -> None:
    (graph,) = Table.root(metadata_of_spec(tiny_spec(), Precision.FP32)).tables(3)
    (photos,), (scores,) = graph.tables(2), graph.tables(3)
    assert (photos.text(0), scores.text(0)) == ("photos", "scores")
    image = photos.table(3).table(1)
    assert (image.table(1).number(0, "Uint32"), image.table(1).number(1, "Uint32")) == (SIDE, SIDE)
    (labels,) = scores.tables(6)
    assert (labels.text(0), labels.number(2, "Int8")) == ("labels.txt", 2)
