"""The section about the number of photos."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.all_photos import all_photos
from tests.support.report_documents import documents, report_of
from trtpoets.core.serialization import to_json
from trtpoets.judge.learning_curve import ClassCurve, CurvePoint, ExpectedGain, LearningCurve
from trtpoets.reporting.html import page_from_report
from trtpoets.reporting.markdown import markdown_from_report
from trtpoets.reporting.model import Report
from trtpoets.reporting.sections.learning_curve_section import (
    class_curves_section,
    class_part,
    class_sentence,
    gain_sentence,
    learning_curve_section,
)

POINTS = tuple(
    CurvePoint(photos, accuracy, accuracy - 0.02, accuracy + 0.02)
    for photos, accuracy in ((50, 0.7), (100, 0.8), (200, 0.85), (400, 0.88))
)


def curve(gain: float, low: float, high: float) -> LearningCurve:
    return LearningCurve(POINTS, (ExpectedGain(2.0, 1000, gain, low, high),), 500)


def report_with(own: LearningCurve | None) -> Report:
    content = documents()
    content["evaluation"]["all_photos"] = to_json(replace(all_photos(600), learning_curve=own))
    return report_of(content)


def test_the_section_distinguishes_measured_from_expected_accuracy() -> None:
    report = report_with(curve(0.015, 0.004, 0.026))
    section = learning_curve_section(report)
    assert section is not None
    assert section.note.startswith(
        "Twice as many photos of this kind would change the accuracy by +1.5 points (+0.4 to +2.6)."
    )
    assert [row.cells[0] for row in section.rows] == ["50", "100", "200", "400", "800 (expected)"]
    assert section.rows[-1].cells[1] == "89.5 %"
    for text in (markdown_from_report(report), page_from_report(report)):
        assert "More photos" in text
        assert "Twice as many photos of this kind" in text
    assert "<svg" in section.plots[0][0]


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (curve(0.015, -0.01, 0.04), "likely, but not shown"),
        (curve(0.002, -0.01, 0.02), "would hardly change the accuracy"),
    ],
)
def test_the_sentence_claims_no_more_than_the_interval(gain: LearningCurve, words: str) -> None:
    assert words in gain_sentence(gain)


def test_the_reason_is_shown_where_there_is_no_curve() -> None:
    assert learning_curve_section(report_with(None)) is None
    section = learning_curve_section(report_with(LearningCurve(skipped="300 classes would take too long")))
    assert section is not None
    assert section.note == "There is no learning curve: 300 classes would take too long."
    assert gain_sentence(LearningCurve(skipped="x")) == ""


def of_class(label: str, recall: float, accuracy: float) -> ClassCurve:
    return ClassCurve(
        label,
        200,
        POINTS,
        200,
        ExpectedGain(2.0, 400, recall, recall - 0.01, recall + 0.02),
        ExpectedGain(2.0, 400, accuracy, accuracy - 0.01, accuracy + 0.02),
    )


CLASSES = replace(
    curve(0.015, 0.004, 0.026),
    classes=(
        of_class("rose", 0.05, 0.001),
        of_class("tulip", 0.02, 0.015),
        ClassCurve("daisy", 4, skipped="it has fewer than three independent groups of photos"),
        of_class("lily", 0.08, -0.002),
    ),
)


def test_classes_are_listed_by_what_more_photos_of_them_bring() -> None:
    report = report_with(CLASSES)
    section = class_curves_section(report)
    assert section is not None
    assert [row.cells[0] for row in section.rows] == ["tulip", "lily", "rose", "daisy"]
    assert section.note == (
        "200 more photos of tulip would change its recall by +2.0 points (+1.0 to +4.0), and the accuracy by +1.5 "
        "(+0.5 to +3.5)."
    )
    assert section.notes[-1] == "Nothing is expected for daisy: it has fewer than three independent groups of photos."
    for text in (markdown_from_report(report), page_from_report(report)):
        assert "More photos of one class" in text
        assert "200 more photos of tulip" in text
    part = class_part(CLASSES)
    assert part is not None
    assert part[2][0] == ("tulip", "200", "88.0 %", "+2.0", "+1.0 to +4.0", "+1.5", "+0.5 to +3.5")


def test_without_curves_of_classes_there_is_no_section() -> None:
    assert class_curves_section(report_with(None)) is None
    assert class_curves_section(report_with(curve(0.015, 0.004, 0.026))) is None
    assert class_part(curve(0.015, 0.004, 0.026)) is None
    assert class_sentence(LearningCurve(skipped="x")) == ""
