"""A report -> what near-copies of photos make of the accuracy: kept together, and as the folder stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import interval, many, percent
from trtpoets.reporting.sections.accuracy_sections import NUMBER, TEXT, Section, Value

if TYPE_CHECKING:
    from collections.abc import Mapping


def copies_section(report: Mapping[str, Any]) -> Section | None:
    """Accuracy with families of near-copies kept together, and without; None where there are none."""
    training = report["training"] or {}
    if not training.get("families"):
        return None
    families = many(training["families"], "family", "families")
    photos = many(training["families_photos"], "photo")
    note = (
        f"{photos} are near-copies of each other (crops, mirror images, other sizes, encodings or light, frames of a "
    )
    note += f"video), in {families}."
    rows = [_row("near-copies kept together", training.get("together"))]
    if training.get("as_it_stands"):
        rows = [_row("near-copies kept together, as shipped", training.get("together"))]
        rows.append(_row("the folder as it stands", training["as_it_stands"]))
        note += (
            " Each family is in one split. In the folder as it stands, copies of training photos would be among the "
            "test photos: a classifier knows them already, so that accuracy says little about new photos."
        )
    elif training.get("without_copies"):
        rows = [_row("all test photos, as given", training.get("together"))]
        rows.append(_row("test photos without a near-copy in training", training["without_copies"]))
        across = many(training["families_across_splits"], "family lies", "families lie")
        note += f" The splits that the folder gives were kept: {across} in several. Trust the accuracy without copies."
    else:
        note += " None of them lies in several splits."
    return {
        "note": note,
        "columns": [("test photos", TEXT), ("photos", NUMBER), ("independent groups", NUMBER), ("accuracy", NUMBER)],
        "rows": rows,
    }


def _row(name: str, judged: Mapping[str, Any] | None) -> dict[str, Any]:
    judged = judged or {}
    accuracy = Value(percent(judged.get("test_accuracy")), interval(judged.get("low"), judged.get("high")))
    photos = judged.get("test_photos", 0)
    return {"cells": [name, photos, judged.get("test_groups", photos), accuracy]}
