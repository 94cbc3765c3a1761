"""Reports with given measurements, and what is recommended of them."""

from __future__ import annotations

from typing import Any

from tests.support.report_documents import documents, measurement, report_of
from trtpoets.reporting.model import Report
from trtpoets.reporting.recommendation import Candidate, Recommendation


def measured(*rows: dict[str, Any]) -> Report:
    """A report whose benchmark has these rows. INT8 loses 3 of 30 photos, FP16 none."""
    content = documents()
    content["benchmark"]["measurements"] = list(rows)
    return report_of(content)


TENSORFLOW = measurement("tensorflow", 1, 10.0, 1.0, p99_ms=12.0, p99_bound_ms=12.5)


FP16 = measurement("onnxruntime-fp16", 1, 4.0, 2.5, p99_ms=4.6, p99_bound_ms=4.8)


FP16_8 = measurement("onnxruntime-fp16", 8, 25.0, 2.0, p99_ms=28.0, p99_bound_ms=29.0)


INT8 = measurement("onnxruntime-int8", 1, 2.0, 5.0, p99_ms=2.4, p99_bound_ms=2.5)


def chosen_of(recommendation: Recommendation) -> Candidate:
    """The candidate that is recommended; fails if there is none."""
    assert recommendation.chosen is not None
    return recommendation.chosen
