"""What the page and report.md tell of near-copies."""

from __future__ import annotations

from typing import Any

from tests.support.report_documents import documents, report_of
from trtpoets.core.serialization import to_json
from trtpoets.reporting.html import page_from_report
from trtpoets.reporting.markdown import markdown_from_report
from trtpoets.reporting.model import Report
from trtpoets.reporting.sections.near_copies_section import copies_section

JUDGED = {"test_photos": 60, "test_groups": 40, "test_accuracy": 0.75, "low": 0.63, "high": 0.84}
STANDS = {"test_photos": 44, "test_groups": 30, "test_accuracy": 1.0, "low": 0.92, "high": 1.0}


def report(**training: Any) -> Report:
    counts = {"a": {"train": 80, "validation": 10, "test": 60}}
    dataset = {"folder": "/p", "counts": counts, "families": [["a/1.jpg", "a/2.jpg"]], "families_count": 75}
    values = {**documents()["training"], **training}
    return report_of(
        {"spec": {**documents()["spec"], "name": "n", "labels": ["a"]}, "dataset": dataset, "training": values}
    )


def test_both_accuracies_are_shown() -> None:
    judged = report(families=75, families_photos=375, together=JUDGED, as_it_stands=STANDS)
    for text in (page_from_report(judged).replace("\u00a0", " "), markdown_from_report(judged)):
        assert "75 families" in text
        assert "kept together" in text
        assert "75.0 %" in text
        assert "near-copies not kept together" in text
        assert "100.0 %" in text
    assert to_json(judged.training)["as_it_stands"] == STANDS
    assert judged.dataset is not None and judged.dataset.families_count == 75


def test_given_splits_show_the_accuracy_without_copies() -> None:
    details = {"families": 3, "families_photos": 6, "families_across_splits": 2}
    section = copies_section(report(**details, together=STANDS, without_copies=JUDGED))
    assert section is not None
    assert "2 families are in several" in section.note
    assert section.rows[1].cells[1] == 60


def test_without_copies_nothing_is_said() -> None:
    assert copies_section(report()) is None
    assert copies_section(report_of({})) is None
