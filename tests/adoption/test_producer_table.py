"""The rows of the table of producers."""

from __future__ import annotations

from trtpoets.adoption.producer_table import PRODUCERS


def test_rows_are_complete() -> None:
    for row in PRODUCERS:
        assert row.clue
        assert "/" in row.source or row.source.startswith("documentation")
        assert len(row.pixels) <= 1 or not row.certain
