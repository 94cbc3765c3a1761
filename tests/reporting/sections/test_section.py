"""A section of the report without HTML."""

from __future__ import annotations

from trtpoets.reporting.sections.section import Row, Section, Value, rows_of


def test_rows_have_the_cells_and_no_mark() -> None:
    rows = rows_of([("a", 1), ("b", 2)])
    assert rows == [Row(("a", 1)), Row(("b", 2))]
    assert [row.mark for row in rows] == ["", ""]
    assert rows_of(iter(())) == []


def test_every_part_of_a_section_may_be_empty() -> None:
    section = Section()
    assert not any(vars(section).values())
    assert Value("1.00") == ("1.00", "")
    assert Section(note="x") == Section("x") != section
