"""The section of the report about mistakes: the confusion matrix, and the recall of each class.

Few classes are shown whole; of many, the pairs most often confused and the classes with the lowest recall.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtpoets.core.formatting import interval, many, percent, shown
from trtpoets.reporting.sections.accuracy_sections import CLASSES
from trtpoets.reporting.sections.section import NUMBER, TEXT, Section, rows_of

if TYPE_CHECKING:
    from trtpoets.reporting.model import Matrix, Report

_LABEL = 20
"""Characters of a label at a confusion matrix; a table beside it has the whole label."""

_MATRIX = 12
"""A confusion matrix is drawn for at most this many classes; for more, the pairs most often confused are listed."""

_UNKNOWN = (None, None)


@dataclass(frozen=True)
class MatrixCell:
    """A cell of the confusion matrix. `kind` is "right", "wrong" or "none", `share` that of the class's photos."""

    count: int
    kind: str
    share: str


@dataclass(frozen=True)
class MatrixRow:
    """The answers to the photos of one class."""

    label: str
    cells: Sequence[MatrixCell]


@dataclass(frozen=True)
class ConfusionMatrix:
    """The confusion matrix with short labels."""

    labels: Sequence[str]
    rows: Sequence[MatrixRow]


@dataclass(frozen=True)
class RecallRow:
    """The recall of one class as text; `share` is its number 0..1."""

    label: str
    photos: int
    value: str
    interval: str
    share: str


@dataclass(frozen=True)
class RecallTable:
    """The recall of the classes."""

    note: str
    rows: Sequence[RecallRow]


@dataclass(frozen=True)
class MistakesSection:
    """The section about mistakes. `matrix` is None for many classes, `pairs` without mistakes."""

    note: str
    matrix: ConfusionMatrix | None
    pairs: Section | None
    recall: RecallTable | None


def mistakes_section(report: Report) -> MistakesSection | None:
    """Return confusion and recall of the first evaluated runner, which is TensorFlow."""
    runner, labels = report.samples.runner, report.labels
    if runner is None or runner not in report.accuracy:
        return None
    cells = list(_cells(report.confusion[runner], len(labels)))
    photos = [0] * len(labels)
    for row, _, count in cells:
        photos[row] += count
    wrong = sum(count for row, column, count in cells if row != column)
    return MistakesSection(
        note=f"{many(wrong, 'mistake')} in {many(sum(photos), 'photo')}; answers of {runner}.",
        matrix=_matrix(labels, cells, photos) if len(labels) <= _MATRIX else None,
        pairs=_pairs(labels, cells),
        recall=_recall(report.recall[runner], report.recall_intervals[runner], labels, photos),
    )


def _cells(confusion: Matrix, classes: int) -> Iterator[tuple[int, int, int]]:
    """Yield (label, answer, photos) for a matrix of report.json, which is square or a list of non-zero cells."""
    if all(len(row) == classes for row in confusion) and len(confusion) == classes:
        for row, counts in enumerate(confusion):
            yield from ((row, column, count) for column, count in enumerate(counts) if count)
    else:
        yield from ((row, column, count) for row, column, count in confusion)


def _matrix(labels: Sequence[str], cells: Sequence[tuple[int, int, int]], photos: Sequence[int]) -> ConfusionMatrix:
    counts = {(row, column): count for row, column, count in cells}
    rows = []
    for row, label in enumerate(labels):
        entries = []
        for column in range(len(labels)):
            count = counts.get((row, column), 0)
            kind = "none" if not count else "right" if row == column else "wrong"
            entries.append(MatrixCell(count, kind, f"{count / max(photos[row], 1):.2f}"))
        rows.append(MatrixRow(_short(label), entries))
    return ConfusionMatrix([_short(label) for label in labels], rows)


def _short(label: str) -> str:
    text = shown(label)
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"


def _pairs(labels: Sequence[str], cells: Sequence[tuple[int, int, int]]) -> Section | None:
    confused = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    if not confused:
        return None
    rest = len(confused) - CLASSES
    return Section(
        note=f"The {CLASSES} most frequent pairs; {rest:,} more are not shown." if rest > 0 else "",
        columns=[("true class", TEXT), ("answer", TEXT), ("photos", NUMBER)],
        rows=rows_of([shown(labels[row]), shown(labels[column]), count] for row, column, count in confused[:CLASSES]),
    )


def _recall(
    recall: Mapping[str, float | None],
    intervals: Mapping[str, tuple[float, float] | None],
    labels: Sequence[str],
    photos: Sequence[int],
) -> RecallTable | None:
    classes = [
        (label, value, photos[place]) for place, label in enumerate(labels) if (value := recall.get(label)) is not None
    ]
    if not classes:
        return None
    if len(classes) > CLASSES:
        note = f"The {CLASSES} classes with the lowest recall, of {len(classes):,}."
        classes = sorted(classes, key=lambda row: (row[1], row[0]))[:CLASSES]
    else:
        note = "Recall, the share of a class's photos that are classified correctly, and its 95 % interval."
    return RecallTable(
        note,
        [
            RecallRow(shown(label), count, percent(value), interval(*intervals.get(label) or _UNKNOWN), f"{value:.3f}")
            for label, value, count in classes
        ],
    )
