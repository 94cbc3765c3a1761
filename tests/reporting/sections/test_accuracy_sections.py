"""The sections about accuracy, photos, engines and the files of each precision."""

from __future__ import annotations

from typing import Any

from tests.support.report_documents import documents, report_of
from trtpoets.reporting.sections.accuracy_sections import (
    CLASSES,
    accuracy_section,
    dataset_section,
    engines_section,
    precisions_section,
)


def test_each_runner_has_a_row_with_intervals_and_its_change() -> None:
    section = accuracy_section(report_of(documents()))
    assert section is not None
    rows = {row.cells[0]: row.cells for row in section.rows}
    assert list(rows) == ["tensorflow", "onnxruntime-fp16", "onnxruntime-int8"]
    assert rows["tensorflow"][1].text == "93.3 %"
    assert rows["onnxruntime-int8"][3].text.replace("\N{MINUS SIGN}", "-") == "-10.0"
    assert rows["onnxruntime-fp16"][2].text == "100 %"
    assert "held out from training and calibration" in section.note
    ((svg, alt, caption),) = section.plots
    assert svg.startswith("<svg") and alt.startswith("Accuracy: tensorflow 93.3") and caption


def test_without_an_evaluation_there_is_no_section() -> None:
    report = report_of({})
    assert accuracy_section(report) is dataset_section(report) is engines_section(report) is None
    assert precisions_section(report) == []


def dataset(**counts: tuple[int, int]) -> Any:
    """The section of classes with so many photos for training and for testing."""
    content = documents(tuple(counts))
    content["dataset"]["counts"] = {
        label: {"train": train, "validation": 0, "test": test} for label, (train, test) in counts.items()
    }
    return dataset_section(report_of(content))


def test_photos_are_counted_by_class_and_split() -> None:
    section = dataset(ant=(20, 10), bee=(20, 12), cow=(21, 10))
    assert [row.cells for row in section.rows] == [
        ["ant", 20, 0, 10, 30],
        ["bee", 20, 0, 12, 32],
        ["cow", 21, 0, 10, 31],
        ["all", 61, 0, 32, 93],
    ]
    assert "uneven" not in section.note and "Fewer than" not in section.note
    titles = [listing.title for listing in section.lists]
    assert titles == ["1 file was left out", "1 group of equal photos"]
    assert section.lists[0].lines == ["ant/broken.jpg: it is empty"]


def test_uneven_and_small_classes_are_mentioned() -> None:
    section = dataset(ant=(10, 10), bee=(90, 10), cow=(20, 3))
    assert "Classes are uneven: bee has 5.0 times the photos of ant; --class-weights" in section.note
    assert section.note.endswith("Fewer than 10 test photos, which is too few for the recall of a class: cow.")


def test_of_many_classes_the_smallest_are_shown() -> None:
    section = dataset(**{f"class {number:02}": (100 - number, 20) for number in range(CLASSES + 2)})
    assert len(section.rows) == CLASSES + 1
    assert section.rows[0].cells[0] == f"class {CLASSES + 1:02}"
    assert section.caption == f"The {CLASSES} smallest classes; 2 more are not shown."


def test_engines_have_their_gpus_and_checksums() -> None:
    section = engines_section(report_of(documents()))
    assert section is not None
    assert [row.cells[0] for row in section.rows] == ["fp16.rtx.engine", "int8.rtx.engine"]
    assert section.rows[0].cells[1] == "rtx 1.7.1"
    assert section.checksums[0] == ("fp16.rtx.engine", f"sha256 {'e' * 64}")
    assert "were built but not run on this machine" in section.note


def test_sentences_about_precisions() -> None:
    exported, fp16 = precisions_section(report_of(documents()))
    assert exported.startswith("The scores of the exported ONNX graph differ from TensorFlow's by at most ")
    assert "softmax (it needs the range) stayed FP32" in fp16
    content = documents()
    content["quantisation"]["fp16"]["kept_fp32"] = {f"node {number}": "why" for number in range(9)}
    assert "and 3 others stayed FP32" in precisions_section(report_of(content))[1]
