"""Accuracy as tables for the terminal."""

from __future__ import annotations

from tests.support.report_documents import documents, report_of
from trtpoets.reporting.model import Accuracies
from trtpoets.reporting.tables.accuracy import accuracy_parts


def test_every_runner_has_a_row_and_changes_are_apart() -> None:
    (title, columns, rows), (changes, _, changed) = accuracy_parts(report_of(documents()))
    assert title == "Accuracy on 30 test photos, and agreement with TensorFlow"
    assert columns == ["runner", "accuracy>", "95 %>", "agreement>", "95 %>"]
    assert [row[0] for row in rows] == ["tensorflow", "onnxruntime-fp16", "onnxruntime-int8"]
    assert rows[2][1] == "83.3 %"
    assert changes.startswith("Change of accuracy relative to TensorFlow in points")
    assert [(row[0], *row[3:]) for row in changed] == [("onnxruntime-fp16", 0, 0), ("onnxruntime-int8", 3, 0)]


def test_without_runners_the_table_is_empty() -> None:
    ((title, _, rows),) = accuracy_parts(Accuracies())
    assert rows == [] and "0 test photos" in title
