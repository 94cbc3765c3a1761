"""Comparisons of two benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.benchmarks import typed
from trtpoets.core.serialization import from_json, to_json
from trtpoets.judge.bench import compare
from trtpoets.judge.bench.measure import Measurement
from trtpoets.reporting.tables.benchmark_rows import benched_parts


def row_of(details: Mapping[str, Any]) -> Measurement:
    return from_json(Measurement, {"runner": "tensorflow", "batch": 1, **details}, "the row")


def compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison of two benchmarks, all of them as JSON."""
    return dict(to_json(compare.compared(typed(before), typed(now))))


def parts_of(details: Mapping[str, Any]) -> list[Any]:
    result = typed(details)
    return list(benched_parts(result.measurements, result.outcomes, result.compared))
