"""Gates on speed."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.support.benchmarks import benchmark_document, typed
from tests.support.errors import raises
from trtpoets.core.errors import BadInput, GateFailed
from trtpoets.judge.bench.speed_gate import require_limits, require_speed


@pytest.mark.parametrize(
    ("benchmark", "limits", "code", "values"),
    [
        (
            benchmark_document(1, 5.0),
            {"fail_below": 4.5},
            "TP5025",
            ("onnxruntime-fp32", "3.99", "4.5"),
        ),
        (
            benchmark_document(1, 5.0),
            {"max_p99": 5.1},
            "TP5028",
            ("onnxruntime-fp32", "batch 1", "5.1"),
        ),
        (
            benchmark_document(1, 5.0, p99_bound_ms=None, valid=True),
            {"max_p99": 1.0},
            "TP5028",
            ("tensorflow", "batch 1"),
        ),
        (
            benchmark_document(1, 5.0, baseline=False),
            {"fail_below": 2.0},
            "TP5024",
            ("TensorFlow", "batch 1"),
        ),
        (
            benchmark_document(1, 5.0, baseline=False, valid=False),
            {"max_p99": 9.0},
            "TP5022",
            ("batch 1",),
        ),
        (
            benchmark_document(1, 5.0, baseline=False, p99_bound_ms=None),
            {"max_p99": 9.0},
            "TP5027",
            ("batch 1",),
        ),
    ],
)
def test_gates_that_fail(benchmark: dict[str, Any], limits: dict[str, Any], code: str, values: tuple[str, ...]) -> None:
    with raises(GateFailed, code, *values) as caught:
        require_speed("flowers", typed(benchmark), **limits)
    assert caught.value.hint
    assert caught.value.exit_code == 3


def test_the_gate_names_the_baseline_that_there_was() -> None:
    values = {**benchmark_document(1, 5.0), "baseline": "onnxruntime-fp32"}
    with raises(GateFailed, "TP5025", "times as fast as onnxruntime-fp32"):
        require_speed("flowers", typed(values), fail_below=2.0)


def test_a_servers_gate() -> None:
    document = benchmark_document(1, 5.0, valid=False)
    document["measurements"][0]["valid"] = True
    document["config"].update(scenario="server", target_qps=50.0)
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
    require_speed("flowers", typed({**document, "outcomes": [slow, fast]}), None, 20.0)
    with raises(GateFailed, "TP5023", "50", "20 ms", "tensorflow: too late"):
        require_speed("flowers", typed({**document, "outcomes": [{**slow, "value": None}, slow]}), None, 20.0)


def test_gates_that_pass(caplog: pytest.LogCaptureFixture) -> None:
    document = benchmark_document(1, 5.0)
    with caplog.at_level(logging.WARNING):
        require_speed("flowers", typed(document), 3.5, 6.0)
        require_speed("flowers", typed(benchmark_document(1, 5.0, valid=False)))
    assert caplog.text == ""
    for share in (0.9999, 1.0001):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            require_speed("flowers", typed(document), document["measurements"][1]["speedup"] * share)
        assert "the speed gate is undecided: onnxruntime-fp32 is" in caplog.text


@pytest.mark.parametrize("limits", [{"fail_below": float("nan")}, {"fail_below": 0.0}, {"max_p99": float("inf")}])
def test_invalid_limits_are_refused(limits: dict[str, Any]) -> None:
    with raises(BadInput, "TP5021") as caught:
        require_limits(**limits)
    assert caught.value.hint.startswith("give for example --")


def test_the_gate_holds_a_p99_to_its_bound() -> None:
    document = benchmark_document(1, 5.0, p99_ms=4.9, p99_bound_ms=5.4)
    require_speed("flowers", typed(document), max_p99=5.5)
    with raises(GateFailed, "TP5028", "5.4", "5.2"):
        require_speed("flowers", typed(document), max_p99=5.2)
    for row in document["measurements"]:
        row.update(p99_bound_ms=None, independent_count=331)
    with raises(GateFailed, "TP5027", "tensorflow", "1,400", "331", "662") as caught:
        require_speed("flowers", typed(document), max_p99=40.0)
    assert caught.value.hint.startswith("measure for longer: trtpoets bench flowers --seconds ")
    assert caught.value.hint.endswith(" --max-p99 40")
    with raises(GateFailed, "TP5026", "4.9", "4"):
        require_speed("flowers", typed({**document, "measurements": document["measurements"][1:]}), max_p99=4.0)
