"""Rates that measurements cannot tell apart are equal."""

from __future__ import annotations

import numpy as np

from tests.support.recommendations import FP16, FP16_8, INT8, TENSORFLOW, chosen_of, measured
from tests.support.report_documents import measurement
from trtpoets.reporting.recommendation import Limits, recommendation_from_report


def test_rates_that_noise_explains_are_alike() -> None:
    slower = measurement("onnxruntime-fp16", 1, 4.0, 2.5)
    report = measured(slower, measurement("onnxruntime-fp16", 8, 31.2, 2.0))  # 2.5 % more photos/s
    assert chosen_of(recommendation_from_report(report)).batch == 1
    report = measured(slower, measurement("onnxruntime-fp16", 8, 30.0, 2.0))  # 6 % more
    assert chosen_of(recommendation_from_report(report)).batch == 8


def test_rates_that_the_rounds_can_not_tell_apart_are_alike() -> None:
    rng = np.random.default_rng(0)
    rounds = [float(round_) for round_ in 4.0 * np.exp(rng.normal(0, 0.1, 20))]
    wide = {**FP16, "round_p50_ms": rounds}
    two = {**FP16_8, "photos_per_s": 280.0, "round_p50_ms": [8 * round_ / 1.12 for round_ in reversed(rounds)]}
    chosen = chosen_of(recommendation_from_report(measured(wide, two), Limits()))
    assert chosen.batch == 1, "12 % more photos/s are noise, where rounds differ by 10 %"
    two["round_p50_ms"] = [8 * 4.0 / 1.12] * 20
    wide["round_p50_ms"] = [4.0] * 20
    assert chosen_of(recommendation_from_report(measured(wide, two), Limits())).batch == 8


def test_of_equal_rates_the_smallest_loss_and_batch_are_chosen() -> None:
    loose = recommendation_from_report(measured(TENSORFLOW, FP16, INT8), Limits(max_drop=50))
    assert chosen_of(loose).runner.name == "onnxruntime-int8"
    even = measurement("onnxruntime-int8", 1, 3.95, 2.53)
    equal = recommendation_from_report(measured(TENSORFLOW, FP16, even), Limits(max_drop=50))
    assert chosen_of(equal).runner.name == "onnxruntime-fp16", "faster by 1.3 %, and loses three answers"
