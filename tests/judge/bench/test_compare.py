"""What changed between two benchmarks, and gates on one: by made-up rounds whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.benchmarks import benchmark_document, typed
from tests.support.comparisons import compared, parts_of, row_of
from tests.support.runner_ids import runner
from trtpoets.onboard.result_lines import bench_lines
from trtpoets.reporting.tables.benchmark_rows import ratio


def test_few_false_alarms_of_all_rows_together() -> None:
    """Eight rows of two benchmarks of the same: that one of them is called faster or slower is rare."""
    rng = np.random.default_rng(9)

    def row(name: str, base: np.ndarray, milliseconds: float) -> dict[str, Any]:
        spans = base * milliseconds * np.exp(rng.normal(0, 0.02, 20))
        numbers = {"p50_ms": float(np.median(spans)), "round_p50_ms": spans.tolist(), "speedup": 20 / milliseconds}
        return {**runner(name).row(), "batch": 1, "valid": True, **numbers}

    def one() -> dict[str, Any]:
        base = np.exp(rng.normal(0, 0.05, 20))
        names = [f"onnxruntime-{item}" for item in ("fp32", "fp16", "int8")] + [f"tflite-{p}" for p in ("fp32", "int8")]
        names += [f"rtx-{item}" for item in ("fp32", "fp16", "int8")]
        return {"measurements": [row("tensorflow", base, 20.0), *(row(name, base, 5.0) for name in names)]}

    alarms = 0
    for _ in range(100):
        changes = compared(one(), one())["changes"]
        assert {item["by"] for item in changes[1:]} == {"speedup"}
        alarms += any(item["verdict"] in ("faster", "slower") for item in changes)
    assert alarms <= 9


def test_a_speed_that_drifts_is_not_compared() -> None:
    before, now = benchmark_document(1, 5.0), benchmark_document(2, 5.0)
    row = now["measurements"][1]
    row["round_p50_ms"] = [round_p50_m * (1 + place / 100) for place, round_p50_m in enumerate(row["round_p50_ms"])]
    change = compared(before, now)["changes"][1]
    assert (change["verdict"], change["noise"]) == ("drifts", None)
    now["compared"] = compared(before, now)
    row["drifts"] = True
    assert ratio(row_of(row)) == f"{row['speedup']:.2f}× drifts"
    assert [rows[1][-2:] for _, _, rows in parts_of(now)] == [("–", "drifts")]
    on_a_device = "\n".join(bench_lines(typed(now)))
    assert f"{row['speedup']:.2f} drifts" in on_a_device
    assert "onnxruntime-fp32, batch 1, since then: drifts -" in on_a_device
    assert "tensorflow, batch 1, since then: same" in on_a_device


@pytest.mark.parametrize("baseline", [True, False], ids=["beside TensorFlow", "alone"])
def test_only_changes_beyond_noise_are_reported(baseline: bool) -> None:
    verdicts = {"same": 0, "slower": 0, "faster": 0}
    for seed in range(20):
        before = benchmark_document(seed, 5.0, baseline=baseline)
        for now, expected in ((5.0, "same"), (5.25, "slower"), (4.75, "faster")):
            change = compared(before, benchmark_document(seed + 100, now, baseline=baseline))["changes"][-1]
            assert change["by"] == ("speedup" if baseline else "p50_ms")
            assert 0 < change["noise"] < 0.04
            verdicts[expected] += change["verdict"] == expected
    assert min(verdicts.values()) >= 18, verdicts


def test_what_else_is_different() -> None:
    before, now = benchmark_document(1, 5.0), benchmark_document(2, 5.0)
    now["conditions"] = {"cpu": "two", "versions": {"numpy": "2", "onnxruntime": "1.32"}, "time": "later"}
    now["artefacts"] = {"fp32.onnx": "cd"}
    now["config"]["threads"] = 1
    now["measurements"].pop()
    comparison = compared(before, now)
    assert [condition["what"] for condition in comparison["conditions"]] == [
        "cpu",
        "threads",
        "onnxruntime",
        "content of fp32.onnx",
    ]
    jetson = {"model": "Orin Nano", "power_mode": "15W", "gpu_mhz": 306.0}
    gpu = {"name": "H100", "sm_mhz_most": 1980, "power_limit_w": 700.0, "temperature_c": 31}
    before["conditions"] |= {"jetson": jetson, "gpu_state": [gpu]}
    before["conditions"]["gpu_wait"] = {"rtx-fp16": "spin", "rtx-fp32": "spin"}
    now["conditions"] |= {
        "jetson": {**jetson, "power_mode": "7W", "gpu_mhz": 510.0},
        "gpu_wait": {"rtx-fp16": "auto", "rtx-int8": "spin"},
        "gpu_state": [{**gpu, "power_limit_w": 350.0, "temperature_c": 60}],
    }
    found_now = [(condition["what"], condition["now"]) for condition in compared(before, now)["conditions"]]
    assert ("power_mode", "7W") in found_now
    assert ("GPU 0: power_limit_w", 350.0) in found_now
    assert ("how rtx-fp16 waits for the GPU", "auto") in found_now
    assert len(found_now) == 7, "the present clocks and temperatures are not compared"
    assert comparison["missing"] == ["onnxruntime-fp32 at batch 1"]
    assert compared(before, before)["conditions"] == []


def test_ratios_to_different_baselines_are_not_compared() -> None:
    before, now = benchmark_document(1, 5.0), {**benchmark_document(2, 5.0), "baseline": "onnxruntime-fp32"}
    comparison = compared(before, now)
    assert [change["by"] for change in comparison["changes"]] == ["p50_ms", "p50_ms"]
    assert comparison["conditions"] == [{"what": "baseline", "before": "tensorflow", "now": "onnxruntime-fp32"}]


def test_what_can_not_be_compared_is_unknown() -> None:
    before = benchmark_document(1, 5.0)
    assert compared(before, benchmark_document(2, 5.0, valid=False))["changes"][1]["verdict"] == "unknown"
    for row in before["measurements"]:  # as written before there were rounds
        for word in ("round_p50_ms", "speedup_low", "speedup_high", "device", "end_to_end"):
            del row[word]
    assert [change["verdict"] for change in compared(before, benchmark_document(2, 5.0))["changes"]] == ["unknown"] * 2
    assert parts_of(before) == []
