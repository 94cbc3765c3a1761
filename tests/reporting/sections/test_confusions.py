"""The section about mistakes: few classes whole, of many the worst."""

from __future__ import annotations

from tests.support.report_documents import documents, report_of
from trtpoets.reporting.sections.accuracy_sections import CLASSES
from trtpoets.reporting.sections.confusions import mistakes_section


def test_few_classes_have_a_matrix() -> None:
    section = mistakes_section(report_of(documents()))
    assert section is not None and section.matrix is not None
    assert section.note == "2 mistakes in 30 photos; answers of tensorflow."
    assert list(section.matrix.labels) == ["ant", "bee", "cow"]
    kinds = [[cell.kind for cell in row.cells] for row in section.matrix.rows]
    assert kinds == [["right", "none", "none"], ["wrong", "right", "none"], ["none", "wrong", "right"]]
    assert [cell.count for cell in section.matrix.rows[1].cells] == [1, 9, 0]
    assert section.matrix.rows[1].cells[1].share == "0.90"


def test_confused_pairs_and_recall_are_listed() -> None:
    section = mistakes_section(report_of(documents()))
    assert section is not None and section.pairs is not None and section.recall is not None
    assert [row.cells for row in section.pairs.rows] == [["bee", "ant", 1], ["cow", "bee", 1]]
    assert [(row.label, row.photos, row.share) for row in section.recall.rows] == [
        ("ant", 10, "1.000"),
        ("bee", 10, "0.900"),
        ("cow", 10, "0.900"),
    ]
    assert section.recall.note.startswith("Recall, the share of a class's photos")


def test_of_many_classes_the_lowest_recall_is_shown() -> None:
    labels = tuple(f"class {number:02}" for number in range(CLASSES + 4))
    section = mistakes_section(report_of(documents(labels, per_class=4)))
    assert section is not None and section.recall is not None
    assert section.matrix is None
    assert section.recall.note == f"The {CLASSES} classes with the lowest recall, of {CLASSES + 4}."
    assert len(section.recall.rows) == CLASSES
    assert [row.label for row in section.recall.rows[:2]] == ["class 01", "class 02"]


def test_long_and_hostile_labels_are_shortened_and_escaped() -> None:
    section = mistakes_section(report_of(documents(("a" * 60, "b\x1b[0m", "c"))))
    assert section is not None and section.matrix is not None and section.recall is not None
    first, second, _ = section.matrix.labels
    assert first.endswith("…") and len(first) < 40
    assert "\x1b" not in second
    assert section.recall.rows[0].label == "a" * 60


def test_without_an_evaluation_there_is_no_section() -> None:
    assert mistakes_section(report_of({})) is None
