"""What changed between two benchmarks, and gates on one: by made-up rounds whose truth is known."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.judge.bench.test_benchmark import QUICK, WARM
from tests.support.runner_ids import runner
from trtpoets.core.errors import BadInput, GateFailed
from trtpoets.core.runner_id import TENSORFLOW
from trtpoets.core.serialization import from_json, to_json
from trtpoets.judge.bench import compare
from trtpoets.judge.bench.benchmark import Benchmark
from trtpoets.judge.bench.conditions import Conditions
from trtpoets.judge.bench.measure import Measurement, RunDetails, measurement_from_rounds
from trtpoets.judge.bench.meter import Round
from trtpoets.judge.bench.rounds import ratio_of_rounds
from trtpoets.judge.bench.speed_gate import require_limits, require_speed
from trtpoets.onboard.result_lines import bench_lines
from trtpoets.reporting.tables.benchmark_rows import benched_parts, ratio


def rounds(milliseconds: float, seed: int, count: int = 70) -> tuple[Measurement, list[float]]:
    rng = np.random.default_rng(seed)
    made = [
        Round([int(1e6 * milliseconds * each) for each in np.exp(rng.normal(0, 0.01) + rng.normal(0, 0.02, count))])
        for _ in range(20)
    ]
    row = measurement_from_rounds(WARM, made, RunDetails(TENSORFLOW, 1, 1.0, (), "", 100.0), (), QUICK)
    return row, row.round_p50_ms


def benchmark(seed: int, fast_ms: float, *, baseline: bool = True, **other: Any) -> dict[str, Any]:
    base, base_rounds = rounds(20.0, seed)
    fast, fast_rounds = rounds(fast_ms, seed + 1000)
    ratio, interval, _ = ratio_of_rounds(base_rounds, fast_rounds)
    assert interval is not None
    rows = [replace(base, speedup=1.0, speedup_low=1.0, speedup_high=1.0)] if baseline else []
    rated = {"speedup": ratio, "speedup_low": interval.low, "speedup_high": interval.high} if baseline else {}
    rows.append(replace(fast, runner=runner("onnxruntime-fp32"), **{**rated, **other}))
    conditions = Conditions(cpu="one", versions={"numpy": "2"})
    details = Benchmark(tuple(rows), (), replace(QUICK, batches=(1,)), 15, conditions, artefacts={"fp32.onnx": "ab"})
    return dict(json.loads(json.dumps(to_json(details))))


def typed(details: Mapping[str, Any]) -> Benchmark:
    return from_json(Benchmark, details, "the benchmark")


def row_of(details: Mapping[str, Any]) -> Measurement:
    return from_json(Measurement, {"runner": "tensorflow", "batch": 1, **details}, "the row")


def compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison of two benchmarks, all of them as JSON."""
    return dict(to_json(compare.compared(typed(before), typed(now))))


def parts_of(details: Mapping[str, Any]) -> list[Any]:
    found = typed(details)
    return list(benched_parts(found.measurements, found.outcomes, found.compared))


def test_few_false_alarms_of_all_rows_together() -> None:
    """Eight rows of two benchmarks of the same: that one of them is called faster or slower is rare."""
    rng = np.random.default_rng(9)

    def row(name: str, base: np.ndarray, milliseconds: float) -> dict[str, Any]:
        spans = base * milliseconds * np.exp(rng.normal(0, 0.02, 20))
        numbers = {"p50_ms": float(np.median(spans)), "round_p50_ms": spans.tolist(), "speedup": 20 / milliseconds}
        return {**runner(name).row(), "batch": 1, "valid": True, **numbers}

    def one() -> dict[str, Any]:
        base = np.exp(rng.normal(0, 0.05, 20))
        names = [f"onnxruntime-{each}" for each in ("fp32", "fp16", "int8")] + [f"tflite-{p}" for p in ("fp32", "int8")]
        names += [f"rtx-{each}" for each in ("fp32", "fp16", "int8")]
        return {"measurements": [row("tensorflow", base, 20.0), *(row(name, base, 5.0) for name in names)]}

    alarms = 0
    for _ in range(100):
        changes = compared(one(), one())["changes"]
        assert {each["by"] for each in changes[1:]} == {"speedup"}
        alarms += any(each["verdict"] in ("faster", "slower") for each in changes)
    assert alarms <= 9


def test_a_speed_that_drifts_is_not_compared() -> None:
    before, now = benchmark(1, 5.0), benchmark(2, 5.0)
    row = now["measurements"][1]
    row["round_p50_ms"] = [each * (1 + place / 100) for place, each in enumerate(row["round_p50_ms"])]
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
def test_what_is_more_than_noise_is_told_and_nothing_else(baseline: bool) -> None:
    verdicts = {"same": 0, "slower": 0, "faster": 0}
    for seed in range(20):
        before = benchmark(seed, 5.0, baseline=baseline)
        for now, expected in ((5.0, "same"), (5.25, "slower"), (4.75, "faster")):
            change = compared(before, benchmark(seed + 100, now, baseline=baseline))["changes"][-1]
            assert change["by"] == ("speedup" if baseline else "p50_ms")
            assert 0 < change["noise"] < 0.04
            verdicts[expected] += change["verdict"] == expected
    assert min(verdicts.values()) >= 18, verdicts


def test_what_else_is_different() -> None:
    before, now = benchmark(1, 5.0), benchmark(2, 5.0)
    now["conditions"] = {"cpu": "two", "versions": {"numpy": "2", "onnxruntime": "1.32"}, "time": "later"}
    now["artefacts"] = {"fp32.onnx": "cd"}
    now["config"]["threads"] = 1
    now["measurements"].pop()
    found = compared(before, now)
    assert [each["what"] for each in found["conditions"]] == ["cpu", "threads", "onnxruntime", "content of fp32.onnx"]
    jetson = {"model": "Orin Nano", "power_mode": "15W", "gpu_mhz": 306.0}
    gpu = {"name": "H100", "sm_mhz_most": 1980, "power_limit_w": 700.0, "temperature_c": 31}
    before["conditions"] |= {"jetson": jetson, "gpu_state": [gpu]}
    before["conditions"]["gpu_wait"] = {"rtx-fp16": "spin", "rtx-fp32": "spin"}
    now["conditions"] |= {
        "jetson": {**jetson, "power_mode": "7W", "gpu_mhz": 510.0},
        "gpu_wait": {"rtx-fp16": "auto", "rtx-int8": "spin"},
        "gpu_state": [{**gpu, "power_limit_w": 350.0, "temperature_c": 60}],
    }
    found_now = [(each["what"], each["now"]) for each in compared(before, now)["conditions"]]
    assert ("power_mode", "7W") in found_now
    assert ("GPU 0: power_limit_w", 350.0) in found_now
    assert ("how rtx-fp16 waits for the GPU", "auto") in found_now
    assert len(found_now) == 7, "clocks and heat of the moment are no difference"
    assert found["missing"] == ["onnxruntime-fp32 at batch 1"]
    assert compared(before, before)["conditions"] == []


def test_ratios_to_different_baselines_are_not_compared() -> None:
    before, now = benchmark(1, 5.0), {**benchmark(2, 5.0), "baseline": "onnxruntime-fp32"}
    found = compared(before, now)
    assert [each["by"] for each in found["changes"]] == ["p50_ms", "p50_ms"]
    assert found["conditions"] == [{"what": "baseline", "before": "tensorflow", "now": "onnxruntime-fp32"}]


def test_what_can_not_be_compared_is_unknown() -> None:
    before = benchmark(1, 5.0)
    assert compared(before, benchmark(2, 5.0, valid=False))["changes"][1]["verdict"] == "unknown"
    for row in before["measurements"]:  # as written before there were rounds
        for word in ("round_p50_ms", "speedup_low", "speedup_high", "device", "end_to_end"):
            del row[word]
    assert [each["verdict"] for each in compared(before, benchmark(2, 5.0))["changes"]] == ["unknown"] * 2
    assert parts_of(before) == []


@pytest.mark.parametrize(
    ("found", "limits", "message"),
    [
        (
            benchmark(1, 5.0),
            {"fail_below": 4.5},
            "onnxruntime-fp32, the fastest at batch 1, is 3.99 times as fast",
        ),
        (benchmark(1, 5.0), {"max_p99": 5.1}, "the 99th percentile of onnxruntime-fp32, the best at batch 1, may be"),
        (benchmark(1, 5.0, p99_bound_ms=None, valid=True), {"max_p99": 1.0}, "of tensorflow, the best at batch 1"),
        (benchmark(1, 5.0, baseline=False), {"fail_below": 2.0}, "no runner has a ratio to TensorFlow at batch 1"),
        (benchmark(1, 5.0, baseline=False, valid=False), {"max_p99": 9.0}, "no measurement at batch 1 is valid"),
        (benchmark(1, 5.0, baseline=False, p99_bound_ms=None), {"max_p99": 9.0}, "too few inferences at batch 1"),
    ],
)
def test_gates_that_fail(found: dict[str, Any], limits: dict[str, float], message: str) -> None:
    with pytest.raises(GateFailed) as caught:
        require_speed("flowers", typed(found), **limits)
    assert message in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 3


def test_the_gate_names_the_baseline_that_there_was() -> None:
    found = {**benchmark(1, 5.0), "baseline": "onnxruntime-fp32"}
    with pytest.raises(GateFailed, match="times as fast as onnxruntime-fp32"):
        require_speed("flowers", typed(found), fail_below=2.0)


def test_a_servers_gate() -> None:
    found = benchmark(1, 5.0, valid=False)
    found["measurements"][0]["valid"] = True
    found["config"].update(scenario="server", target_qps=50.0)
    slow = {
        "scenario": "server",
        "runner": "tensorflow",
        "batch": 8,
        "metric": "p99_ms",
        "value": 90.0,
        "valid": False,
        "reason": "too late",
    }
    fast = {**slow, "runner": "onnxruntime-fp32", "value": 12.0, "valid": True, "reason": ""}
    require_speed("flowers", typed({**found, "outcomes": [slow, fast]}), None, 20.0)
    with pytest.raises(GateFailed) as caught:
        require_speed("flowers", typed({**found, "outcomes": [{**slow, "value": None}, slow]}), None, 20.0)
    assert caught.value.message == (
        "no runner serves 50 photos a second within 20 ms; the nearest is tensorflow: too late"
    )


def test_outcomes_in_a_table() -> None:
    outcome = {"scenario": "offline", "runner": "fake", "batch": 8, "metric": "photos_per_s", "value": 1234.5}
    details = {"measurements": [], "outcomes": [{**outcome, "valid": True, "reason": "", "loadgen": None}]}
    ((title, columns, rows),) = parts_of(details)
    assert title == "MLPerf's offline scenario: photos/s"
    assert (columns, rows) == (["runner", "batch>", "ours>", "", "why"], [("fake", 8, "1,234", "VALID", "")])
    details["outcomes"][0]["under_way"] = 2
    ((_, _, rows),) = parts_of(details)
    assert rows[0][4] == "2 batches in progress"
    details["outcomes"][0]["under_way"] = 1
    details["outcomes"][0]["loadgen"] = {"value": 1100.0, "valid": False, "why": "its own overhead"}
    ((_, columns, rows),) = parts_of(details)
    assert columns[4:] == ["LoadGen>", "why"]
    assert rows == [("fake", 8, "1,234", "VALID", "1,100 INVALID", "its own overhead")]


def test_gates_that_pass(caplog: pytest.LogCaptureFixture) -> None:
    found = benchmark(1, 5.0)
    with caplog.at_level(logging.WARNING):
        require_speed("flowers", typed(found), 3.5, 6.0)
        require_speed("flowers", typed(benchmark(1, 5.0, valid=False)))
    assert caplog.text == ""
    for share in (0.9999, 1.0001):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            require_speed("flowers", typed(found), found["measurements"][1]["speedup"] * share)
        assert "the speed gate is undecided: onnxruntime-fp32 is" in caplog.text


@pytest.mark.parametrize("limits", [{"fail_below": float("nan")}, {"fail_below": 0.0}, {"max_p99": float("inf")}])
def test_limits_that_are_none(limits: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="must be a finite number above 0, not ") as caught:
        require_limits(**limits)
    assert caught.value.hint.startswith("--")


def test_the_gate_holds_a_p99_to_its_bound() -> None:
    found = benchmark(1, 5.0, p99_ms=4.9, p99_bound_ms=5.4)
    require_speed("flowers", typed(found), max_p99=5.5)
    with pytest.raises(GateFailed, match=r"may be 5\.4 ms, more than 5\.2"):
        require_speed("flowers", typed(found), max_p99=5.2)
    for row in found["measurements"]:
        row.update(p99_bound_ms=None, independent_count=331)
    with pytest.raises(GateFailed, match=r"onnxruntime-fp32|tensorflow") as caught:
        require_speed("flowers", typed(found), max_p99=40.0)
    assert "1,400 inferences count as 331 independent ones, 662 are needed" in caught.value.message
    assert caught.value.hint.startswith("measure for longer: trtpoets bench flowers --seconds ")
    assert caught.value.hint.endswith(" --max-p99 40")
    with pytest.raises(GateFailed, match=r"4\.9 ms, more than 4$"):
        require_speed("flowers", typed({**found, "measurements": found["measurements"][1:]}), max_p99=4.0)


def test_tables_of_what_changed() -> None:
    details = benchmark(1, 5.0)
    details["compared"] = compared(benchmark(2, 6.0), {**details, "conditions": {"cpu": "two"}})
    titles = [title for title, _, _ in parts_of(details)]
    assert titles == ["Changes, compared with the noise", "Other differences"]
    (_, _, rows), _ = parts_of(details)
    assert rows[1][-1] == "faster"
    assert all(len(row) == 8 for row in rows)


def test_a_ratio_in_a_cell() -> None:
    base, fast = benchmark(1, 5.0)["measurements"]
    assert ratio(row_of(base)) == "1.00×"
    assert ratio(row_of(fast)) == "3.99× ±1%"
    assert ratio(row_of({**fast, "valid": False})) == "INVALID"
    assert ratio(row_of({"valid": True, "speedup": 2.0})) == "2.00×"
    assert ratio(row_of({"valid": True, "speedup": None})) == "–"
