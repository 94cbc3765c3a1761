"""Tests the section about speed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.pages import read
from tests.support.report_documents import documents, measurement, report_of
from trtpoets.core.serialization import from_json
from trtpoets.judge.bench.measure import Measurement
from trtpoets.reporting.sections.speed_section import percentiles, speed_section, tradeoff

ALL_CLOCKS: dict[str, Any] = {
    "speedup_low": 2.4,
    "speedup_high": 2.6,
    "p99_ms": 4.9,
    "quantiles_ms": [3.5 + 0.1 * i for i in range(21)],
    "end_to_end": {"count": 64, "p50_ms": 7.25, "p90_ms": 8.0, "p99_ms": None},
    "device": {
        "count": 64,
        "p50_ms": 1.5,
        "p90_ms": 1.6,
        "p99_ms": None,
        "h2d_ms": 0.25,
        "compute_ms": 1.125,
        "d2h_ms": 0.125,
        "enqueue_ms": 0.0625,
        "graph": False,
    },
}
"""The fields of a measurement with an interval and all three clocks."""


def with_all_clocks(**device: float) -> dict[str, Any]:
    """The documents of a run, of which a measurement has all clocks; `device` are other times of its device clock."""
    content = documents()
    content["benchmark"]["measurements"][1] |= {**ALL_CLOCKS, "device": {**ALL_CLOCKS["device"], **device}}
    return content


def test_clocks_and_intervals_that_were_not_measured_are_not_shown() -> None:
    content = documents()
    text = read(content).text
    assert "Three clocks" not in text
    assert "round by round" not in text
    assert "INVALID" not in text
    content["benchmark"]["measurements"][3] |= {"valid": False, "speedup": None, "reason": "too busy"}
    text = read(content).text
    assert "onnxruntime-fp16 8 25.0 INVALID 320" in text
    assert "Not valid: 1 of 4 measurements onnxruntime-fp16 at batch 8: too busy" in text


def test_clocks_intervals_and_spreads_are_shown_where_they_were_measured() -> None:
    reader = read(with_all_clocks())
    assert "2.50× 2.40–2.60" in reader.text
    assert "round by round" in reader.text
    assert "Three clocks, ms (medians)" in reader.text
    assert "onnxruntime-fp16 1 4.00 7.25 0.25 1.12 0.12 0.06" in reader.text
    assert "Loading, first inference, peak memory runner" in reader.text
    assert "onnxruntime-fp16 1 1.00 12.0 321 Mistakes" in reader.text  # no sensor, no GPU: no columns for them
    assert "trtexec before version 11" in reader.text
    assert "as long as computing" not in reader.text
    labels = " ".join(str(figure["aria-label"]) for figure in reader.all("figure")).replace("\u00a0", " ")
    assert "onnxruntime-fp16 median 4.00 ms, p90 4.40, p99 4.90" in labels


def test_energy_has_a_column_if_it_was_measured() -> None:
    content = with_all_clocks()
    content["benchmark"]["measurements"][1] |= {"joules_per_photo": 0.0021}
    text = read(content).text
    assert "peak memory, energy above idle runner" in text
    assert "onnxruntime-fp16 1 1.00 12.0 321 2.1" in text


def test_slow_enqueueing_and_copying_are_reported() -> None:
    text = read(with_all_clocks(enqueue_ms=1.0, d2h_ms=1.2)).text
    assert "onnxruntime-fp16 at batch 1: queueing takes about as long as computing; a CUDA graph or a larger" in text
    assert "onnxruntime-fp16 at batch 1: copying takes as long as computing" in text


def test_other_batch_sizes_are_collapsed() -> None:
    content = documents()
    names = ("tensorflow", "onnxruntime-fp32", "rtx-fp16", "tflite-int8")
    rows = [measurement(name, batch, 1.0 * batch) for batch in (1, 2, 4, 8, 16) for name in names]
    content["benchmark"]["measurements"] = rows
    reader = read(content)
    assert "The other batch sizes" in reader.text
    assert "photos in a batch" in reader.text


def test_invalid_and_missing_numbers_are_reported() -> None:
    content = documents()
    content["benchmark"]["measurements"] = [
        measurement("tensorflow", 1, 10.0, 1.0, p99_ms=12.0),
        measurement("onnxruntime-int8", 1, 2.0, valid=False, reason="wrong: 3 % right", p90_ms=None),
    ]
    text = read(content).text
    assert "Not valid: 1 of 2 measurements onnxruntime-int8 at batch 1: wrong: 3" in text
    assert "too few inferences were timed for that percentile" in text


def test_a_benchmark_that_ended_early_says_why() -> None:
    content = documents()
    content["benchmark"] |= {"stopped": {"1": 10}, "config": {"ratio_within": 0.05, "wall_seconds": 20.0}}
    section = speed_section(report_of(content))
    assert section is not None
    assert not any("time" in note for note in section.notes if note.startswith("The "))
    content["benchmark"] |= {"timed_out": {"8": 6}}
    section = speed_section(report_of(content))
    assert section is not None
    stopped, timed_out = (note for note in section.notes if note.startswith("The "))
    assert stopped == (
        "The benchmark stopped after 10 rounds at batch 1: ratios within ±5 %; trtpoets bench insects measures all "
        "rounds."
    )
    assert timed_out == (
        "The time limit of the benchmark, 20 s, was reached after 6 rounds at batch 8, before all ratios were "
        "within ±5 %. To measure longer, run: trtpoets bench insects --seconds 10"
    )


def test_a_ratio_that_is_not_known_to_a_factor_of_two_is_called_unclear() -> None:
    content = documents()
    content["benchmark"]["measurements"][1] |= {"speedup": 6.6, "speedup_low": 0.1, "speedup_high": 9611.0}
    section = speed_section(report_of(content))
    assert section is not None
    assert any(note.startswith('"unclear" means that the rounds differed so much') for note in section.notes)


def test_percentiles_that_the_count_supports() -> None:
    row = from_json(Measurement, measurement("tensorflow", 1, 10.0), "the row")
    assert percentiles(row) == {50.0: 10.0, 90.0: 11.0}
    listed = replace(row, quantiles_ms=[float(value) for value in range(101)])
    assert percentiles(listed)[5.0] == 5.0 and percentiles(listed)[50.0] == 10.0


def test_the_tradeoff_needs_two_evaluated_runners() -> None:
    ((svg, alt, caption),) = tradeoff(report_of(documents()))
    assert svg.startswith("<svg")
    assert alt.startswith("Accuracy against latency: tensorflow 10.0 ms and 93.3")
    assert alt.endswith("Pareto front: onnxruntime-fp16") and caption.endswith("Batch 1.")
    content = documents()
    content["benchmark"]["measurements"] = content["benchmark"]["measurements"][:1]
    assert tradeoff(report_of(content)) == []


def test_without_measurements_there_is_no_section() -> None:
    assert speed_section(report_of({})) is None
