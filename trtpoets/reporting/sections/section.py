"""The type of a section of the report: texts, a table, plots and lists, without HTML and not escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NUMBER, TEXT = "number", ""
"""Kinds of columns."""

Column = tuple[str, str]
"""The heading of a column, and its kind."""

Picture = tuple[str, str, str]
"""A plot as SVG, its alternative text, and its caption."""


class Pictures(Sequence[Picture]):
    """The pictures that `draw` returns, drawn when they are first read, because Markdown and the terminal show none."""

    def __init__(self, draw: Callable[[], Sequence[Picture]]) -> None:
        self._draw = draw

    @cached_property
    def _drawn(self) -> Sequence[Picture]:
        return self._draw()

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Picture]: ...
    def __getitem__(self, index: int | slice) -> Picture | Sequence[Picture]:
        return self._drawn[index]

    def __len__(self) -> int:
        return len(self._drawn)


class Value(NamedTuple):
    """A cell of a table: its text, and a smaller text beneath it."""

    text: str
    small: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table. `mark` is "best", "bad" or empty."""

    cells: Sequence[Any]
    mark: str = ""


@dataclass(frozen=True)
class Listing:
    """A list that is shown collapsed: only its title is visible at first."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Section:
    """The content under a heading; each part may be empty.

    `note` is the text above the table, `caption` the text in it, and `notes` are paragraphs below it. `more` are
    further rows, which are shown collapsed. `tables` are further tables, each a Section with a `title`. `checksums` are
    pairs of a file name and its sha256.
    """

    note: str = ""
    title: str = ""
    caption: str = ""
    columns: Sequence[Column] = ()
    rows: Sequence[Row] = ()
    more: Sequence[Row] = ()
    notes: Sequence[str] = ()
    plots: Sequence[Picture] = ()
    lists: Sequence[Listing] = ()
    checksums: Sequence[tuple[str, str]] = ()
    tables: Sequence[Section] = ()


def rows_of(cells: Iterable[Sequence[Any]]) -> list[Row]:
    """Return rows without a mark."""
    return [Row(row) for row in cells]
