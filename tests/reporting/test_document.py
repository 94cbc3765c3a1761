"""report.json from documents as the stages write them, its verdict in formatting, and its tables on the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.printed import printed
from tests.support.report_documents import documents, json_report, measurement
from tests.support.runner_ids import runner
from trtpoets.core.serialization import from_json
from trtpoets.core.training import TrainingDetails
from trtpoets.core.types import Classifier, OnnxModel, Precision
from trtpoets.judge.bench.benchmark import Benchmark
from trtpoets.judge.evaluation_file import Evaluations


def sentences_about(report: dict[str, Any], about: str) -> list[str]:
    return [item["text"] for item in report["verdict"] if item["about"] == about]


def test_a_script_finds_what_it_was_promised() -> None:
    report = json_report(documents())
    assert report["dataset"]["counts"]["bee"] == {"train": 80, "validation": 10, "test": 10}
    assert report["dataset"]["photos"] == {"train": 240, "validation": 30, "test": 30}
    assert (report["name"], report["backbone"]) == ("insects", "efficientnet_lite0")
    assert report["training"]["steps"] == 400
    assert report["training"]["seconds"] == 2.5
    assert report["training"]["curves"]["train_accuracy"] == [0.4, 0.8, 0.9]
    assert report["accuracy"]["tensorflow"] == pytest.approx(28 / 30)
    assert set(report["agreement"]) == {"onnxruntime-fp16", "onnxruntime-int8"}
    assert report["agreement"]["onnxruntime-fp16"] == 1.0
    low, high = report["intervals"]["tensorflow"]["accuracy"]
    assert low < 28 / 30 < high
    assert report["parity"]["max_abs"] == 3e-7
    assert [e["sha256"] for e in report["engines"]] == ["e" * 64] * 2
    assert {"flavour", "precision", "targets", "bytes", "sha256", "seconds"} <= set(report["engines"][0])
    row = report["benchmarks"][0]
    assert {"runner", "batch", "p50_ms", "p90_ms", "p99_ms", "photos_per_s", "valid"} <= set(row)
    assert {"what": "measuring rtx-fp16", "why": "died of SIGSEGV"} in report["skipped"]
    assert {"what": "running fp16.rtx.engine", "why": "no NVIDIA driver here"} in report["skipped"]
    assert report["conditions"]["cpu"] == "a processor"
    assert report["absent"] == []
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_confusion_and_recall_by_hand() -> None:
    report = json_report(documents())
    assert report["confusion"]["tensorflow"] == [[10, 0, 0], [1, 9, 0], [0, 1, 9]]
    assert report["recall"]["tensorflow"] == {"ant": 1.0, "bee": 0.9, "cow": 0.9}


def test_many_classes_do_not_explode() -> None:
    labels = tuple(f"class {i}" for i in range(2000))
    report = json_report(documents(labels, per_class=1))
    assert len(report["confusion"]["tensorflow"]) == 2000
    assert report["confusion"]["tensorflow"][5] == [5, 5, 1]
    assert len(json.dumps(report)) < 3_000_000


@pytest.mark.parametrize(
    ("missing", "word"),
    [
        ("dataset", "photos"),
        ("training", "training"),
        ("parity", "parity"),
        ("quantisation", "precisions"),
        ("evaluation", "accuracy"),
        ("benchmark", "speed"),
        ("engines", "engines"),
    ],
)
def test_what_is_missing_is_said(missing: str, word: str) -> None:
    content = documents()
    del content[missing]
    report = json_report(content)
    assert [item["what"] for item in report["absent"]] == [word]


def test_nothing_at_all_is_a_report_too() -> None:
    report = json_report({})
    assert len(report["absent"]) == 7
    assert report["verdict"] == []
    assert report["conditions"] is None, "a report says nothing of the machine that it is written on"


def test_documents_are_not_changed() -> None:
    content = documents()
    before = json.dumps(content, default=str)
    json_report(content)
    assert json.dumps(content, default=str) == before


def test_long_lists_are_whole_and_counted() -> None:
    content = documents()
    left_out = [{"path": f"{i}.jpg", "reason": "empty"} for i in range(5000)]
    content["dataset"]["left_out"] = left_out
    report = json_report(content)
    assert (report["dataset"]["left_out"], report["dataset"]["left_out_count"]) == (left_out, 5000)
    # An older version wrote the first 1000 of them, and how many there were.
    content["dataset"].update(left_out=left_out[:1000], left_out_count=1500)
    assert json_report(content)["dataset"]["left_out_count"] == 1500


def test_the_verdict_says_what_was_measured() -> None:
    report = json_report(documents())
    assert sentences_about(report, "accuracy") == [
        "The classifier is right on 93.3 % of 30 held-out photos (95 % interval 78.7–98.2 %)."
    ]
    same, changed = sentences_about(report, "precision")
    assert same == (
        "FP16 gives the same answer as TensorFlow for each of 30 test photos (95 % interval of the agreement "
        "88.6–100.0 %); its accuracy is the same on these photos (0 right answers lost, 0 won; 95 % interval −11.4 to "
        "+11.4 points)."
    )
    assert changed == (
        "INT8, int8.onnx, gives the same answer as TensorFlow for 90.0 % of 30 test photos (74.4–96.5 %); its accuracy "
        "changes by −10.0 points (−25.6 to +2.5; 3 right answers lost, 0 won: not significant, p = 0.25)."
    )
    assert sentences_about(report, "speed") == [
        (
            "Fastest here, one photo at a time: onnxruntime-fp16 with 4.00 ms (median), "
            "2.5 times as fast as TensorFlow (10.0 ms)."
        )
    ]
    assert sentences_about(report, "engines") == [
        "2 TensorRT-RTX engines (FP16 and INT8) built for Ampere and later (sm80+), not run on this machine."
    ]


def test_a_ratio_in_the_verdict_has_its_interval() -> None:
    content = documents()
    content["benchmark"]["measurements"][1] |= {"speedup_low": 2.41, "speedup_high": 2.58}
    (text,) = sentences_about(json_report(content), "speed")
    assert "2.5 times (2.41 to 2.58) as fast as TensorFlow" in text


def test_a_verdict_uses_valid_rows_only() -> None:
    content = documents()
    rows = content["benchmark"]["measurements"]
    rows[1] |= {"valid": False, "speedup": None}
    report = json_report(content)
    assert sentences_about(report, "speed") == [
        (
            "Fastest here, one photo at a time: tensorflow with 10.0 ms (median); "
            "no other runner that was measured here is faster."
        )
    ]
    rows[0]["valid"] = rows[2]["valid"] = False
    rows[1] |= {"valid": True}
    assert "TensorFlow has no valid measurement at that batch size" in sentences_about(json_report(content), "speed")[0]
    rows[1] |= {"valid": False, "reason": "too busy"}
    rows[0] |= {"reason": "too busy"}
    assert sentences_about(json_report(content), "speed") == ["No valid speed could be measured: too busy."]


def test_an_engine_that_ran_stands_for_its_precision() -> None:
    content = documents()
    for evaluation in content["evaluation"]["evaluations"]:
        if evaluation["runner"] == "onnxruntime-int8":
            evaluation.update(runner("rtx-int8").row())
    report = json_report(content)
    assert "1 of them not run on this machine" in sentences_about(report, "engines")[0]


def test_what_spoils_many_rows_alike_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    value = documents()["benchmark"]
    busy = "other processes used {}% of the cores meanwhile: measure again on a quieter machine"
    reasons = [busy.format(61), busy.format(27), "wrong", "cut short", "cut short"]
    value["measurements"] = [
        measurement("onnxruntime-int8", batch, 3.0, valid=False, reason=reason) for batch, reason in enumerate(reasons)
    ]
    text = " ".join(printed(capsys, "benchmark", from_json(Benchmark, value, "x")).split())
    assert f"INVALID: 2 of 5 rows: {busy.format('27 to 61')}" in text
    assert "INVALID: onnxruntime-int8 at batch 2: wrong" in text
    assert "INVALID: 2 of 5 rows: cut short" in text


def test_stages_on_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    content = documents()
    assert "90.0 %" in printed(capsys, "evaluation", from_json(Evaluations, content["evaluation"], "x"))
    assert "2.50×" in printed(capsys, "benchmark", from_json(Benchmark, content["benchmark"], "x"))
    training = printed(
        capsys,
        "training",
        from_json(TrainingDetails, {**content["training"], "test_accuracy": 0.9, "test_photos": 30}, "x"),
    )
    assert training == "Trained in 2.5 s; step 200 was kept. Right on 90.0 % of 30 test photos.\n"
    spec = content["spec_value"]
    assert "insects: efficientnet_lite0, 3 classes: ant, bee, cow" in printed(
        capsys, "classifier", Classifier(tmp_path, spec)
    )
    file = tmp_path / "fp32.onnx"
    file.write_bytes(bytes(3 << 20))
    assert "3.0 MiB" in printed(capsys, "onnx", [OnnxModel(file, Precision.FP32, spec)])
    assert printed(capsys, "cache", ()) == "The cache is empty.\n"
