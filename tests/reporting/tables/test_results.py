"""Results on the terminal."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.all_photos import all_photos
from tests.support.printed import printed
from tests.support.report_documents import LABELS, documents, measurement, report_of
from trtpoets.core.serialization import to_json
from trtpoets.core.types import BatchRange, OnnxModel, Precision
from trtpoets.judge.learning_curve import LearningCurve
from trtpoets.reporting.tables import results
from trtpoets.reporting.tables.results import print_json


def test_json_on_stdout_is_one_ascii_document(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = OnnxModel(tmp_path / "f\udcff\u00fc.onnx", Precision.INT8, documents()["spec_value"])
    print_json([model, {"score": np.float32(0.5)}])
    text = capsys.readouterr().out
    assert text.isascii()
    value = json.loads(text)
    assert (value[0]["precision"], value[0]["path"]) == ("int8", str(model.path))
    assert value[0]["spec"]["labels"] == list(LABELS)
    assert value[1] == {"score": 0.5}
    with pytest.raises(TypeError, match="object has no form in JSON"):
        print_json(object())


def test_the_report_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    content = documents()
    content["benchmark"]["measurements"].append(measurement("onnxruntime-int8", 8, 3.0, valid=False, reason="wrong"))
    text = printed(capsys, "report", report_of(content))
    assert "The classifier is right on 93.3 %" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("onnxruntime-int8"))
    assert row[1:3] == ["83.3", "%"]
    assert "INVALID: onnxruntime-int8 at batch 8: wrong" in text
    assert "Skipped: measuring rtx-fp16: died of SIGSEGV" in text
    assert "2.50×" in text


def test_the_terminal_says_why_a_benchmark_ended_early(capsys: pytest.CaptureFixture[str]) -> None:
    content = documents()
    content["benchmark"] |= {
        "stopped": {"1": 10},
        "timed_out": {"8": 6},
        "config": {"ratio_within": 0.05, "wall_seconds": 20.0},
    }
    text = " ".join(printed(capsys, "report", report_of(content)).split())
    assert "The benchmark stopped after 10 rounds at batch 1: ratios within ±5 %." in text
    assert "was reached after 6 rounds at batch 8, before all ratios were within ±5 %. To measure longer, run:" in text


def test_the_terminal_says_why_there_is_no_learning_curve(capsys: pytest.CaptureFixture[str]) -> None:
    content = documents()
    curve = LearningCurve(skipped="the smallest class has 2 training photos in a fold")
    content["evaluation"]["all_photos"] = to_json(replace(all_photos(30), learning_curve=curve))
    text = " ".join(printed(capsys, "report", report_of(content)).split())
    assert "Skipped: the learning curve: the smallest class has 2 training photos in a fold" in text


def test_markup_in_names_is_only_text(capsys: pytest.CaptureFixture[str]) -> None:
    content = documents(("[bold]a[/bold]", "[/]", "x" * 200))
    content["skipped"].append({"what": "[red]", "why": "[/red] \udcff"})
    report = report_of(content)
    assert r"Skipped: [red]: [/red] \xff" in printed(capsys, "report", report)
    print_json(report)


def test_an_engine_without_targets_names_its_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    content = documents()
    content["engines"][0] |= {"targets": [], "compute_capability": "8.6", "batch": asdict(BatchRange())}
    assert "8.6" in printed(capsys, "report", report_of(content))


def test_only_titles_with_paths_are_wider_than_the_tables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, path = "word " * 30, "/a/path" * 20
    monkeypatch.setitem(
        results._KINDS, "titles", lambda value: [results.table(["a"], [["b"]], title) for title in (texts, path)]
    )
    results.print_table("titles", None)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == [path]
