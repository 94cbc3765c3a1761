"""The section of the report about speed: latency, throughput and ratios of every runner, with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import joined, many, milliseconds, percent
from trtpoets.core.runner_id import INT8_ONNX
from trtpoets.core.shell_commands import command
from trtpoets.judge.bench.early_stop import stopped_text, timed_out_text
from trtpoets.reporting.sections.section import NUMBER, TEXT, Listing, Picture, Pictures, Row, Section, Value, rows_of
from trtpoets.reporting.speed_plots import Point, latency_plot, pareto, throughput_plot, tradeoff_plot
from trtpoets.reporting.tables.benchmark_rows import DRIFTS, UNCLEAR, benched_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.judge.bench.measure import Measurement
    from trtpoets.reporting.model import BenchmarkSummary, Report

_ROWS = 16
"""In a table of more rows, only the smallest batch size is shown; the others are collapsed."""

_TRTEXEC = (
    "trtexec before version 11 reports copies and computing together as latency, and replays no CUDA graph; from 11 on "
    "it leaves the copies out and replays one. Its GPU compute time is what compute is in the table of clocks."
)

_QUEUE_SHARE = 0.8
"""Share of the compute time: if queueing takes longer, the GPU waits for the host."""


def speed_section(report: Report) -> Section | None:
    """Return the section with every measured runner at every batch size."""
    measured = sorted(report.benchmarks, key=lambda row: row.batch)
    if not measured:
        return None
    rows = [
        # The most important columns come first: a phone shows only those.
        Row(
            [
                row.runner.name,
                row.batch,
                milliseconds(row.p50_ms),
                _ratio(row),
                f"{row.photos_per_s:,.0f}",
                milliseconds(row.p90_ms),
                _late(row),
                _memory(row),
            ],
            "" if row.valid else "bad",
        )
        for row in measured
    ]
    bad = [f"{row.runner.name} at batch {row.batch}: {row.reason}" for row in measured if not row.valid]
    good = [row for row in measured if row.valid]
    # The plot shows all batch sizes; the table shows the smallest.
    first = len(rows) if len(rows) <= _ROWS else sum(row.batch == measured[0].batch for row in measured)
    return Section(
        note="Times of the inference clock: from photos in memory to scores on the host, without decoding. Each runner "
        "ran in its own process, on the same photos.",
        columns=[
            ("runner", TEXT),
            ("batch", NUMBER),
            ("p50, ms", NUMBER),
            (f"× {report.baseline_text}", NUMBER),
            ("photos/s", NUMBER),
            ("p90, ms", NUMBER),
            ("p99, ms", NUMBER),
            ("peak memory", NUMBER),
        ],
        rows=rows[:first],
        more=rows[first:],
        notes=_notes(report, measured),
        plots=Pictures(lambda: [*_spreads(good), *_throughput(good)]),
        tables=_tables(report.benchmark, good if len(good) <= _ROWS else _smallest(good)),
        lists=[Listing(f"Not valid: {len(bad)} of {many(len(rows), 'measurement')}", bad)] if bad else [],
    )


def _notes(report: Report, measured: Sequence[Measurement]) -> list[str]:
    """Return explanations of the cells that the table contains."""
    notes = []
    if report.benchmark.incomplete:
        notes.append(f"The benchmark was interrupted {report.benchmark.incomplete}; this is what was measured.")
    if report.benchmark.stopped and report.benchmark.config:
        stopped = stopped_text(report.benchmark.stopped, report.benchmark.config.ratio_within)
        notes.append(f"The benchmark {stopped}; {command('bench', report.name)} measures all rounds.")
    if any(row.runner == INT8_ONNX for row in measured):
        notes.append(
            f"{INT8_ONNX.name} runs TensorRT's file, which is not fused on a CPU: its times are not those of INT8."
        )
    if report.benchmark.timed_out and report.benchmark.config:
        notes.append(timed_out_text(report.benchmark.timed_out, report.benchmark.config, report.name))
    if any(row.p99_ms is None for row in measured):
        notes.append("A dash means that too few inferences were timed for that percentile (MLPerf's rule).")
    if any(row.p99_bound_ms is not None for row in measured):
        notes.append(
            "Below a p99 is its upper bound with 99 % confidence, from the variation between rounds. It is missing if "
            "there were too few inferences, or if they depended too much on each other."
        )
    if any(row.speedup_low is not None for row in measured):
        notes.append(
            f"Ratios are formed round by round, with those of {report.baseline_text} in between. The range contains "
            "the ratio of another run under the same conditions, with 95 % confidence for all ratios together."
        )
    if any(row.drifts for row in measured):
        notes.append(
            f'"{DRIFTS}" means that the ratio changed during the measurement; another run may give a different one.'
        )
    if any(row.is_unclear for row in measured):
        notes.append(
            f'"{UNCLEAR}" means that the rounds differed so much that the ratio is not known to a factor of two; '
            f"{command('bench', report.name)} on an idle machine takes more rounds."
        )
    if any(row.device for row in measured):
        notes += [_TRTEXEC, *_bottleneck_notes(measured)]
    return notes


def _bottleneck_notes(measured: Sequence[Measurement]) -> list[str]:
    """Return notes on runners whose GPU waits for queueing or copies, by the limits at which trtexec warns."""
    texts = []
    for row in measured:
        device, where = row.device, f"{row.runner.name} at batch {row.batch}"
        if not device:
            continue
        if device.enqueue_ms > _QUEUE_SHARE * device.compute_ms:
            more = "a larger batch" if device.graph else "a CUDA graph or a larger batch"
            texts.append(f"{where}: queueing takes about as long as computing; {more} would help.")
        if max(device.h2d_ms, device.d2h_ms) >= device.compute_ms:
            texts.append(f"{where}: copying takes as long as computing, so that a faster engine gains little.")
    return texts


def _late(row: Measurement) -> str | Value:
    text, bound = milliseconds(row.p99_ms), row.p99_bound_ms
    return text if bound is None or row.p99_ms is None else Value(text, f"≤ {milliseconds(bound)}")


def _ratio(row: Measurement) -> str | Value:
    if not row.valid:
        return "INVALID"  # as text too, because not everybody sees the colour
    if row.speedup is None:
        return "–"
    ratio = f"{row.speedup:.2f}×"
    if row.drifts:
        return Value(ratio, DRIFTS)
    if row.is_unclear:
        return Value(ratio, UNCLEAR)
    if row.speedup_low is None or row.speedup_low == row.speedup_high:
        return ratio
    return Value(ratio, f"{row.speedup_low:.2f}–{row.speedup_high:.2f}")


def _memory(row: Measurement) -> str:
    return "–" if row.peak_memory_mib is None else f"{row.peak_memory_mib:,.0f} MiB"


def percentiles(row: Measurement) -> dict[float, float]:
    """Return percentile -> ms, for those that the count supports; older benchmarks have only a few."""
    listed = row.quantiles_ms
    by_quantile = (
        {100 * place / (len(listed) - 1): value for place, value in enumerate(listed)} if len(listed) > 1 else {}
    )
    supported = {50.0: row.p50_ms, 90.0: row.p90_ms, 95.0: row.p95_ms, 99.0: row.p99_ms}
    return by_quantile | {percentile: value for percentile, value in supported.items() if value is not None}


def _spreads(good: Sequence[Measurement]) -> list[Picture]:
    """Return a plot of the distribution of latencies at the smallest batch size."""
    batch = min((row.batch for row in good), default=0)
    rows = [(row.runner.name, percentiles(row)) for row in good if row.batch == batch]
    rows = [(name, times) for name, times in rows if 50 in times and len(times) > 1]
    if not rows:
        return []
    medians = ", ".join(
        f"{name} median {milliseconds(times[50])} ms"
        + "".join(f", p{p} {milliseconds(times[p])}" for p in (90, 99) if p in times)
        for name, times in rows
    )
    has_extremes = any(0 in times for _, times in rows)
    bands = "Bands contain half and nine tenths of the inferences, the thin line all of them. " if has_extremes else ""
    caption = f"{bands}The dot is the median, the short tick p90, the tall one p99. Batch {batch}."
    return [(latency_plot(rows), f"Latencies at batch {batch}: {medians}", caption)]


def _throughput(good: Sequence[Measurement]) -> list[Picture]:
    rows = [(row.runner.name, row.batch, row.photos_per_s) for row in good]
    if not rows:
        return []
    alt = "Photos per second: " + ", ".join(f"{name} {rate:.0f} at batch {batch}" for name, batch, rate in rows)
    return [(throughput_plot(rows), alt, "")]


def _smallest(rows: Sequence[Measurement]) -> list[Measurement]:
    least = min(row.batch for row in rows)
    return [row for row in rows if row.batch == least]


def _tables(benchmark: BenchmarkSummary, measured: Sequence[Measurement]) -> list[Section]:
    """Return the tables of the terminal: other clocks, costs, outcomes of a scenario, and a comparison."""
    return [
        Section(
            title=title,
            columns=[(name.rstrip(">"), NUMBER if name.endswith(">") else TEXT) for name in columns],
            rows=rows_of(rows),
        )
        for title, columns, rows in benched_parts(measured, benchmark.outcomes or (), benchmark.compared)
    ]


def tradeoff(report: Report) -> list[Picture]:
    """Return a plot of accuracy against latency at the smallest batch size; [] with fewer than two runners."""
    comparable = [row for row in report.benchmarks if row.valid and row.p50_ms and row.runner.name in report.accuracy]
    batch = min((row.batch for row in comparable), default=0)
    points = [point for row in comparable if row.batch == batch if (point := _point(row, report))]
    if len(points) < 2:
        return []
    front = joined([point.name for point in pareto(points)])
    alt = "Accuracy against latency: " + ", ".join(
        f"{point.name} {milliseconds(point.median)} ms and {percent(point.accuracy)}" for point in points
    )
    caption = f"Up and left is better; bars are intervals. Filled: the Pareto front, {front}. Batch {batch}."
    return [(tradeoff_plot(points), f"{alt}. Pareto front: {front}", caption)]


def _point(row: Measurement, report: Report) -> Point | None:
    name, median = row.runner.name, row.p50_ms
    bounds = report.intervals[name].accuracy
    if median is None or bounds is None:
        return None
    spread = percentiles(row)
    quick, slow = spread.get(5.0, median), spread.get(95.0, spread.get(90.0, median))
    return Point(name, median, quick, slow, report.accuracy[name], *bounds)
