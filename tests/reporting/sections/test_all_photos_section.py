"""All photos in the terminal, on the page, in report.md, in the verdict and in the recommendation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.all_photos import all_photos, counted, scored, scores
from tests.support.report_documents import documents, measurement, report_of
from trtpoets.core.serialization import from_json, to_json
from trtpoets.judge.all_photos import AllPhotos, NotCompared, all_photos_from_scores
from trtpoets.judge.cross_fit import CrossFitConfig
from trtpoets.judge.evaluation_file import Evaluations
from trtpoets.reporting.html import page_from_report
from trtpoets.reporting.markdown import markdown_from_report
from trtpoets.reporting.model import Report
from trtpoets.reporting.recommendation import Limits, recommendation_from_report
from trtpoets.reporting.sections.all_photos_section import all_photos_section
from trtpoets.reporting.tables.accuracy import all_photos_parts
from trtpoets.reporting.tables.results import print_table


def evaluated(result: AllPhotos | None) -> dict[str, Any]:
    content = documents()
    content["evaluation"]["all_photos"] = None if result is None else to_json(result)
    return content


def report_with(result: AllPhotos | None) -> Report:
    return report_of(evaluated(result))


def test_the_section_says_what_each_number_estimates() -> None:
    report = report_with(all_photos(600, calibration=200, changed=4, copies=2))
    section = all_photos_section(report)
    assert section is not None
    assert section.note.startswith("600 photos in 300 independent groups. They were divided into 10 folds")
    assert "not what the shipped head has: that is what the test photos estimate" in section.note
    assert [row.cells[:2] for row in section.rows] == [["fp32.onnx", "600"], ["int8.onnx", "400"]]
    _, _, accuracy, fp32_accuracy, agreement, change = section.rows[1].cells
    assert (accuracy.text, fp32_accuracy, agreement.text, change.text) == ("99.0 %", "100 %", "99.0 %", "−1.0")
    left_out, by_use = section.notes
    assert left_out == "int8.onnx: 200 photos left out, int8.onnx was calibrated with them."
    assert by_use == (
        "int8.onnx agrees on 100 % of 200 calibration photos, 100 % of 200 test photos and 98.0 % of 200 training "
        "photos; calibration photos are those it was made with (not counted)."
    )
    (recall,) = section.lists
    assert recall.lines[1].startswith("bee: 100 % (")
    assert recall.lines[1].endswith("int8.onnx −1.5 points")
    for text in (markdown_from_report(report), page_from_report(report)):
        assert "All photos" in text
        assert "divided into 10 folds" in text
    (sentence,) = [sentence.text for sentence in report.verdict if sentence.text.startswith("On all")]
    assert sentence.startswith(
        "On all 400 photos in 200 independent groups outside calibration, each classified by a head trained without "
        "it, int8.onnx gives the same answer as FP32 for 99.0 % ("
    )


def test_fp32_and_int8_are_compared_on_the_same_photos() -> None:
    """FP32 is wrong on each calibration photo, INT8 was not calibrated with the others: 60 % become 98 %, not 100 %."""
    photos = counted(500)
    answers = photos.truth.copy()
    answers[:200] = (answers[:200] + 1) % 3
    file = scored(photos, calibration=200, changed=6)
    result = all_photos_from_scores(scores(answers), [file], photos, CrossFitConfig(), "photos")
    report = report_with(result)
    section = all_photos_section(report)
    assert section is not None
    assert section.rows[0].cells[2].text == "60.0 %"
    _, photos_text, accuracy, fp32_accuracy, _, change = section.rows[1].cells
    assert (photos_text, accuracy.text, fp32_accuracy, change.text) == ("300", "98.0 %", "100 %", "−2.0")
    (sentence,) = [sentence.text for sentence in report.verdict if sentence.text.startswith("On all")]
    assert "its accuracy is 98.0 %, FP32's on these photos 100 %, which is a change by −2.0 points (" in sentence
    assert all_photos_parts(result)[1][2][0][:4] == ("int8.onnx", "100 %", "98.0 %", "−2.0")
    assert from_json(AllPhotos, to_json(result), "an older file").files[0].fp32_accuracy == 1


def test_photos_of_the_refit_are_not_called_calibration_photos() -> None:
    photos = counted(600, folds=False)
    refit = np.arange(600) < 350  # the first 100 of them are calibration photos
    file = replace(scored(photos, calibration=100, changed=0), refit=refit)
    result = all_photos_from_scores(scores(photos.truth), [file], photos, CrossFitConfig(), "photos")
    (item,) = result.files
    assert (item.photos, item.refit_photos) == (250, 250)
    report = report_with(result)
    section = all_photos_section(report)
    assert section is not None
    assert section.notes == [
        "int8.onnx: 100 photos left out, int8.onnx was calibrated with them.",
        "int8.onnx: 250 photos left out, the last layer of int8.onnx was refitted on them.",
        (
            "int8.onnx agrees on 100 % of 100 calibration photos, 100 % of 250 refit photos, 100 % of 200 test photos "
            "and 100 % of 50 training photos; calibration photos are those it was made with (not counted), refit "
            "photos those on which its last layer was refitted (not counted)."
        ),
    ]
    (sentence,) = [sentence.text for sentence in report.verdict if sentence.text.startswith("On all")]
    assert sentence.startswith(
        "On all 250 photos outside calibration and the refit of its last layer, int8.onnx gives the same answer"
    )


def test_nothing_is_shown_that_was_not_measured() -> None:
    assert all_photos_section(report_with(None)) is None
    skipped = AllPhotos(CrossFitConfig(), "photos", skipped="20 photos are too few for cross-fitting, which needs 30")
    report = report_with(skipped)
    section = all_photos_section(report)
    assert section is not None
    assert section.note == (
        "Nothing was measured on all photos: 20 photos are too few for cross-fitting, which needs 30."
    )
    assert section.rows == []
    assert "too few for cross-fitting" in page_from_report(report)
    assert not [sentence for sentence in report.verdict if sentence.text.startswith("On all")]
    without = all_photos(60, calibration=60)
    section = all_photos_section(report_with(without))
    assert section is not None
    assert [str(getattr(cell, "text", cell)) for cell in section.rows[1].cells] == ["int8.onnx", "0", *"––––"]


def test_the_tables_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    content = evaluated(all_photos(600, calibration=200, changed=4))
    print_table("evaluation", from_json(Evaluations, content["evaluation"], "x"))
    text = capsys.readouterr().out
    assert "All photos, cross-fitted in 10 folds: accuracy, and agreement with FP32" in text
    assert "All photos: change of accuracy from FP32 in points; right answers lost and won" in text
    assert "int8.onnx     400" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_file_that_was_not_compared_is_named_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    result = replace(all_photos(60), not_compared=(NotCompared("int8.tflite", "running it needs ai-edge-litert"),))
    report = report_with(result)
    section = all_photos_section(report)
    assert section is not None
    assert "int8.tflite was not compared: running it needs ai-edge-litert." in section.notes
    assert "int8.tflite was not compared" in page_from_report(report)
    assert "int8.tflite was not compared" in markdown_from_report(report)
    print_table("evaluation", from_json(Evaluations, evaluated(result)["evaluation"], "x"))
    assert "comparing int8.tflite on all photos: running it needs ai-edge-litert" in joined(capsys.readouterr().out)
    print_table("report", report)
    assert "comparing int8.tflite on all photos: running it needs ai-edge-litert" in joined(capsys.readouterr().out)


def test_the_terminal_says_why_nothing_was_measured_on_all_photos(capsys: pytest.CaptureFixture[str]) -> None:
    skipped = AllPhotos(CrossFitConfig(), "photos", skipped="20 photos are too few for cross-fitting, which needs 30")
    print_table("evaluation", from_json(Evaluations, evaluated(skipped)["evaluation"], "x"))
    assert "Skipped: the evaluation on all photos: 20 photos are too few" in joined(capsys.readouterr().out)


def joined(text: str) -> str:
    """Text without its line breaks."""
    return " ".join(text.split())


def test_the_recommendation_uses_all_photos() -> None:
    """INT8 loses 3 of 30 test photos, which decides nothing; on 1,500 photos outside calibration it loses 2."""
    content = evaluated(all_photos(1600, calibration=100, changed=2))
    content["benchmark"]["measurements"] = [
        measurement("tensorflow", 1, 10.0, 1.0),
        measurement("onnxruntime-int8", 1, 2.0, 5.0),
    ]
    chosen = recommendation_from_report(report_of(content), Limits(max_drop=0.5)).chosen
    assert chosen is not None
    assert (chosen.runner.name, chosen.photos, chosen.drop) == ("onnxruntime-int8", 1500, pytest.approx(2 / 1500))
    content["evaluation"]["all_photos"] = to_json(all_photos(1600, calibration=100, changed=40))
    result = recommendation_from_report(report_of(content), Limits(max_drop=0.5))
    assert result.chosen is None or result.chosen.runner.name == "tensorflow"
    (rejected,) = [candidate for candidate in result.rejected if candidate.runner.name == "onnxruntime-int8"]
    assert [lack.text for lack in rejected.lacks] == ["it loses 2.67 points, 0.5 points are allowed"]
