"""The section of the report about all photos: what INT8 costs, and what each of the two evaluations estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import interval, joined, many, percent, point_interval, points, shown
from trtpoets.judge.all_photos import CALIBRATION, REFIT
from trtpoets.judge.gate import photos_in_groups
from trtpoets.reporting.sections.section import NUMBER, TEXT, Listing, Row, Section, Value

if TYPE_CHECKING:
    from trtpoets.judge.all_photos import AllPhotos, Excluded, FileOnAllPhotos
    from trtpoets.reporting.model import Report

_CLASSES = 30
"""The most classes whose recall is listed."""


def all_photos_section(report: Report) -> Section | None:
    """Return the section with accuracy, agreement and change over all photos; None where it was switched off."""
    result = report.all_photos
    if result is None:
        return None
    if result.skipped:
        return Section(note=f"Nothing was measured on all photos: {shown(result.skipped)}.", columns=[], rows=[])
    rows = [
        Row(
            [
                "fp32.onnx",
                f"{result.photos:,}",
                Value(percent(result.accuracy), interval(result.accuracy_low, result.accuracy_high)),
                percent(None),
                percent(None),
                points(None),
            ]
        ),
        *map(_row, result.files),
    ]
    left_out = [
        f"{shown(name)}: {many(entry.photos, 'photo')} left out, {shown(entry.why)}." for name, entry in _out(result)
    ]
    not_compared = [f"{shown(item.file)} was not compared: {shown(item.why)}." for item in result.not_compared]
    return Section(
        note=f"{photos_in_groups(result.photos, result.groups)[:1].upper()}"
        f"{photos_in_groups(result.photos, result.groups)[1:]}. {_estimates(result)} Ranges are 95 % intervals.",
        columns=[
            ("file", TEXT),
            ("photos", NUMBER),
            ("accuracy", NUMBER),
            ("fp32.onnx on these photos", NUMBER),
            ("agreement", NUMBER),
            ("change, points", NUMBER),
        ],
        rows=rows,
        notes=[*map(shown, result.notes), *not_compared, *left_out, *filter(None, map(_uses, result.files))],
        lists=[_recall(result)] if result.labelled else [],
    )


def _row(item: FileOnAllPhotos) -> Row:
    change = item.comparison
    return Row(
        [
            shown(item.file),
            f"{item.photos:,}",
            Value(percent(item.accuracy), interval(item.accuracy_low, item.accuracy_high)),
            percent(item.fp32_accuracy),
            Value(percent(item.agreement if item.photos else None), interval(item.agreement_low, item.agreement_high)),
            Value(points(change.accuracy_change), point_interval(change.change_low, change.change_high)),
        ]
    )


def _estimates(result: AllPhotos) -> str:
    """Return what the numbers of this section estimate, in contrast to those of the test photos."""
    if not result.folds:
        return (
            "The network as shipped classified each of them, as it was not trained on them here. Agreement and change "
            "are relative to fp32.onnx on the photos of each file."
        )
    return (
        f"They were divided into {result.folds} folds, and each fold was classified by a head that was trained without "
        "it. The accuracy estimates what heads trained in this way have on average, not what the shipped head has: "
        "that is what the test photos estimate. Agreement and change, relative to fp32.onnx under the same heads "
        "and on the photos of each file, estimate what the INT8 base costs."
    )


def _out(result: AllPhotos) -> list[tuple[str, Excluded]]:
    entries = [("all", entry) for entry in result.excluded]
    return entries + [(item.file, entry) for item in result.files for entry in item.excluded]


def _uses(item: FileOnAllPhotos) -> str:
    """Return the agreement on photos of each use, which shows whether it matters what they were used for."""
    texts = [
        f"{percent(of_use.agreed / of_use.photos)} of {many(of_use.photos, f'{use} photo')}"
        for use, of_use in item.by_use.items()
        if of_use.photos
    ]
    if not texts:
        return ""
    counted = " (not counted)" if CALIBRATION in item.by_use else ""
    made_with = f"calibration photos are those it was made with{counted}"
    if REFIT in item.by_use:
        made_with += ", refit photos those on which its last layer was refitted (not counted)"
    return f"{shown(item.file)} agrees on {joined(texts)}; {made_with}."


def _recall(result: AllPhotos) -> Listing:
    """Return the recall of each class, the lowest first, with the change of each file."""
    known = {label: recall for label, recall in result.recall.items() if recall is not None}
    lowest = sorted(known, key=lambda label: (known[label], label))
    lines = []
    for label in lowest[:_CLASSES]:
        bounds = result.recall_intervals.get(label) or (None, None)
        text = f"{shown(label)}: {percent(known[label])} ({interval(*bounds)})"
        changes = [
            f"{shown(item.file)} {points(item.recall_change[label])} points"
            for item in result.files
            if item.recall_change.get(label)
        ]
        lines.append(f"{text}; {joined(changes)}" if changes else text)
    if len(lowest) > _CLASSES:
        lines.append(f"… and {len(lowest) - _CLASSES:,} more")
    return Listing("Recall of fp32.onnx by class on all photos, and its change on the photos of each file", lines)
