"""The section of the report about near-copies: accuracy with families kept in one split, and without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import interval, many, percent
from trtpoets.reporting.sections.section import NUMBER, TEXT, Row, Section, Value

if TYPE_CHECKING:
    from trtpoets.core.training import Accuracy
    from trtpoets.reporting.model import Report


def copies_section(report: Report) -> Section | None:
    """Return the section with the accuracy with and without near-copies kept together; None without near-copies."""
    training = report.training
    if training is None or not training.families or training.together is None:
        return None
    families = many(training.families, "family", "families")
    photos = many(training.families_photos or 0, "photo")
    note = (
        f"{photos} are near-copies of each other (crops, mirror images, other sizes, encodings or light, frames of a "
    )
    note += f"video), in {families}."
    rows = [_row("near-copies kept together", training.together)]
    if training.as_it_stands:
        fine_tuned = training.fine_tuning is not None and training.fine_tuning.kept
        shipped = "before fine-tuning" if fine_tuned else "as shipped"
        rows = [_row(f"near-copies kept together, {shipped}", training.together)]
        rows.append(_row("near-copies not kept together", training.as_it_stands))
        note += (
            " Each family is in one split. Otherwise copies of training photos would be among the test photos, and the "
            "accuracy would be too high for new photos."
        )
    elif training.without_copies:
        rows = [_row("all test photos, as given", training.together)]
        rows.append(_row("test photos without a near-copy in another split", training.without_copies))
        across = many(training.families_across_splits or 0, "family is", "families are")
        note += (
            f" The splits given by the folder were kept: {across} in several splits. Use the accuracy without copies."
        )
    else:
        note += " No family is in several splits."
    return Section(
        note=note,
        columns=[("test photos", TEXT), ("photos", NUMBER), ("independent groups", NUMBER), ("accuracy", NUMBER)],
        rows=rows,
    )


def _row(name: str, result: Accuracy) -> Row:
    accuracy = Value(percent(result.test_accuracy), interval(result.low, result.high))
    return Row([name, result.test_photos, result.test_groups, accuracy])
