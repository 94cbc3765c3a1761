"""A report -> what is confused with what, and which classes are found: whole for few classes, the worst for many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import interval, many, percent, shown
from trtpoets.reporting.sections.accuracy_sections import CLASSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LABEL = 20
"""Characters of a label at a confusion matrix; a table beside it has the whole label."""

_MATRIX = 12
"""A confusion matrix is drawn for at most this many classes; for more, the pairs most often confused are listed."""


def mistakes_section(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Confusion and recall of the first evaluated runner, which is TensorFlow."""
    runner = report["samples"]["runner"]
    if runner is None or runner not in report["accuracy"]:
        return None
    labels = report["labels"]
    cells = list(_cells(report["confusion"][runner], len(labels)))
    shown_photos = [0] * len(labels)
    for row, _, count in cells:
        shown_photos[row] += count
    wrong = sum(count for row, column, count in cells if row != column)
    return {
        "note": f"{many(wrong, 'mistake')} in {many(sum(shown_photos), 'photo')}, as {runner} answers.",
        "matrix": _matrix(labels, cells, shown_photos) if len(labels) <= _MATRIX else None,
        "pairs": _pairs(labels, cells),
        "recall": _recall(report["recall"][runner], report["recall_intervals"][runner], labels, shown_photos),
    }


def _cells(confusion: list[list[int]], classes: int) -> Iterator[tuple[int, int, int]]:
    """(label, answer, photos) of either form that report.json has: a square matrix, or its non-zero cells."""
    if all(len(row) == classes for row in confusion) and len(confusion) == classes:
        for row, counts in enumerate(confusion):
            yield from ((row, column, count) for column, count in enumerate(counts) if count)
    else:
        yield from ((row, column, count) for row, column, count in confusion)


def _matrix(labels: list[str], cells: list[tuple[int, int, int]], photos: list[int]) -> dict[str, Any]:
    counts = {(row, column): count for row, column, count in cells}
    rows = []
    for row, label in enumerate(labels):
        entries = []
        for column in range(len(labels)):
            count = counts.get((row, column), 0)
            kind = "none" if not count else "right" if row == column else "wrong"
            entries.append({"count": count, "kind": kind, "share": f"{count / max(photos[row], 1):.2f}"})
        rows.append({"label": _short(label), "cells": entries})
    return {"labels": [_short(label) for label in labels], "rows": rows}


def _short(label: str) -> str:
    text = shown(label)
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"


def _pairs(labels: list[str], cells: list[tuple[int, int, int]]) -> dict[str, Any] | None:
    confused = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    if not confused:
        return None
    rest = len(confused) - CLASSES
    return {
        "note": f"The {CLASSES} most frequent pairs; {rest:,} more are not shown." if rest > 0 else "",
        "columns": [("shows", ""), ("is taken for", ""), ("photos", "number")],
        "rows": [{"cells": [shown(labels[row]), shown(labels[column]), n]} for row, column, n in confused[:CLASSES]],
    }


def _recall(
    recall: Mapping[str, float | None],
    intervals: Mapping[str, list[float] | None],
    labels: list[str],
    photos: list[int],
) -> dict[str, Any] | None:
    known = [(label, recall[label], photos[i]) for i, label in enumerate(labels) if recall.get(label) is not None]
    if not known:
        return None
    if len(known) > CLASSES:
        note = f"The {CLASSES} classes that are found least often, of {len(known):,}."
        known = sorted(known, key=lambda row: (row[1], row[0]))[:CLASSES]
    else:
        note = "Share of a class's photos that are called by its name (recall), and its 95 % interval."
    rows = [
        {
            "label": shown(label),
            "photos": count,
            "value": percent(value),
            "interval": interval(*(intervals.get(label) or (None, None))),
            "share": f"{value or 0:.3f}",
        }
        for label, value, count in known
    ]
    return {"note": note, "rows": rows}
