"""Benchmark results of a runner, for settings and capacity planning."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.support.bundle_inputs import ORDER, measured
from trtpoets.bundles.measured import best_rate, best_row, fastest_precision, good_precisions, rows_of, where
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.types import Precision

FP16 = RunnerId(Library.ONNXRUNTIME, Precision.FP16)
ROWS = [
    ("onnxruntime-fp16", 1, 100.0, True),
    ("onnxruntime-fp16", 8, 300.0, True),
    ("onnxruntime-fp16", 32, 900.0, False),
    ("onnxruntime-int8", 1, 200.0, True),
]


def inputs(content: dict[str, Any] | None, order: tuple[Precision, ...] = ORDER) -> Any:
    return SimpleNamespace(cpu_form=None, measured=content, order=order)


def test_valid_rows_of_the_runner_only() -> None:
    bundle_inputs = inputs(measured(ROWS))
    assert [row["batch"] for row in rows_of(bundle_inputs, FP16)] == [1, 8]
    best = best_row(bundle_inputs, FP16)
    assert best is not None and best["batch"] == 8
    assert rows_of(inputs(measured(ROWS, scenario="server")), FP16) == []
    assert rows_of(inputs(None), FP16) == [] and best_row(inputs(None), FP16) is None


def test_capacity_counts_batches_that_ran_at_once() -> None:
    content = measured(ROWS)
    outcome = {"runner": FP16.name, "scenario": "offline", "valid": True, "value": 450.0}
    assert best_rate(inputs(content), FP16) == 300.0
    assert best_rate(inputs({**content, "outcomes": [{**outcome, "under_way": 2}]}), FP16) == 450.0
    assert best_rate(inputs({**content, "outcomes": [outcome]}), FP16) == 300.0
    assert best_rate(inputs(None), FP16) is None


def test_the_fastest_accepted_precision_and_the_reason() -> None:
    precision, why = fastest_precision(inputs(measured(ROWS)), "", (Precision.INT8,))
    assert precision is Precision.FP16
    assert why == "measured: 300 photos/s at batch 8, on 2 cores of Paper CPU, 2026-11-23"
    assert fastest_precision(inputs(None), "cuda", (Precision.FP16,)) == (
        Precision.FP16,
        "not measured: nothing was benched",
    )
    rejected = inputs(None, (Precision.FP16, Precision.FP32, Precision.INT8))
    assert good_precisions(rejected) == (Precision.FP16, Precision.FP32)
    assert fastest_precision(rejected, "", (Precision.INT8,))[0] is Precision.FP16
    assert where(inputs(None)) == "nowhere"
