"""A report -> how fast every runner is, by which clock, and how sure that is: rows, sentences and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import joined, many, milliseconds, percent
from trtpoets.reporting.sections.accuracy_sections import NUMBER, TEXT, Section, Value
from trtpoets.reporting.speed_plots import Point, latency_plot, pareto, throughput_plot, tradeoff_plot
from trtpoets.reporting.tables.benchmark_rows import DRIFTS, benched_parts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ROWS = 16
"""A table of more rows is cut after the smallest batch size; the others are a click away."""

_TRTEXEC = (
    "trtexec before version 11 reports copies and computing together as latency, and replays no CUDA graph; from 11 on "
    "it leaves the copies out and replays one. Its GPU compute time is what compute is in the table of clocks."
)

_QUEUEING = 0.8
"""Of the computing: where queueing takes more, the GPU waits for the host."""

Picture = tuple[str, str, str]
"""An SVG, what it says for those who don't see it, and what stands beneath it."""


def speed_section(report: Mapping[str, Any]) -> Section | None:
    """Every measured runner at every batch size, and what could not be measured."""
    measured = sorted(report["benchmarks"], key=lambda each: int(each["batch"]))
    if not measured:
        return None
    rows = []
    for row in measured:
        median, high = (milliseconds(row[f"p{p}_ms"]) for p in (50, 90))
        # What matters most comes first: a phone shows no more.
        cells = [
            row["runner"],
            row["batch"],
            median,
            _ratio(row),
            f"{row['photos_per_s']:,.0f}",
            high,
            _late(row),
            _memory(row),
        ]
        rows.append({"cells": cells, "mark": "" if row["valid"] else "bad"})
    notes: list[str] = []
    bad = [f"{row['runner']} at batch {row['batch']}: {row['reason']}" for row in measured if not row["valid"]]
    if any(row["p99_ms"] is None for row in measured):
        notes.append("A dash stands where too few inferences were timed to claim that percentile (MLPerf's rule).")
    if any(row.get("p99_bound_ms") is not None for row in measured):
        notes.append(
            "Beneath a p99 stands what it does not exceed, with 99 % confidence, by rounds; where nothing "
            "does, the inferences were too few, or depended too much on each other."
        )
    if any(row.get("speedup_low") is not None for row in measured):
        notes.append(
            "Ratios are formed round by round, with TensorFlow's rounds in between; the range is what another run "
            "under the same conditions would find, with 95 % confidence for all ratios together."
        )
    if any(row.get("drifts") for row in measured):
        notes.append(
            f"Where it says {DRIFTS}, the ratio was another at the end than at the beginning: another run may find "
            "another one."
        )
    if any(row.get("device") for row in measured):
        notes += [_TRTEXEC, *_held_up(measured)]
    if report["benchmark"].get("incomplete"):
        notes.insert(
            0, f"The benchmark was interrupted {report['benchmark']['incomplete']}; this is what was measured."
        )
    good = [row for row in measured if row["valid"]]
    # Many batch sizes are told by the plot; the smallest is enough to read.
    first = len(rows) if len(rows) <= _ROWS else sum(row["batch"] == measured[0]["batch"] for row in measured)
    return {
        "note": "By the inference clock: from photos in memory to scores on the host; decoding is not in it. Each "
        "runner ran in a process of its own, on the same photos.",
        "columns": [
            ("runner", TEXT),
            ("batch", NUMBER),
            ("p50, ms", NUMBER),
            ("× TensorFlow", NUMBER),
            ("photos/s", NUMBER),
            ("p90, ms", NUMBER),
            ("p99, ms", NUMBER),
            ("peak memory", NUMBER),
        ],
        "rows": rows[:first],
        "more": rows[first:],
        "notes": notes,
        "plots": [*_spreads(good), *_throughput(good)],
        "tables": _tables(report["benchmark"], good if len(good) <= _ROWS else _smallest(good)),
        "lists": [{"title": f"Not valid: {len(bad)} of {many(len(rows), 'measurement')}", "lines": bad}] if bad else [],
    }


def _held_up(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """What keeps GPUs from computing, by the bounds that trtexec warns at."""
    told = []
    for row in measured:
        device, where = row.get("device"), f"{row['runner']} at batch {row['batch']}"
        if not device:
            continue
        if device["enqueue_ms"] > _QUEUEING * device["compute_ms"]:
            more = "a larger batch" if device["graph"] else "a CUDA graph or a larger batch"
            told.append(f"{where}: queueing takes about as long as computing; {more} would help.")
        if max(device["h2d_ms"], device["d2h_ms"]) >= device["compute_ms"]:
            told.append(f"{where}: copying takes as long as computing, so that a faster engine gains little.")
    return told


def _late(row: Mapping[str, Any]) -> str | Value:
    told, bound = milliseconds(row["p99_ms"]), row.get("p99_bound_ms")
    return told if bound is None or row["p99_ms"] is None else Value(told, f"≤ {milliseconds(bound)}")


def _ratio(row: Mapping[str, Any]) -> str | Value:
    if not row["valid"]:
        return "INVALID"  # in words too: a colour alone is not seen by all
    if row.get("speedup") is None:
        return "–"
    ratio = f"{row['speedup']:.2f}×"
    if row.get("drifts"):
        return Value(ratio, DRIFTS)
    if row.get("speedup_low") is None or row["speedup_low"] == row["speedup_high"]:
        return ratio
    return Value(ratio, f"{row['speedup_low']:.2f}–{row['speedup_high']:.2f}")


def _memory(row: Mapping[str, Any]) -> str:
    return "–" if row["peak_memory_mib"] is None else f"{row['peak_memory_mib']:,.0f} MiB"


def percentiles(row: Mapping[str, Any]) -> dict[float, float]:
    """Percentile -> ms of one measurement, as far as its count supports them; older benchmarks have but a few."""
    listed = row.get("quantiles_ms") or []
    known = {100 * place / (len(listed) - 1): value for place, value in enumerate(listed)} if len(listed) > 1 else {}
    known |= {float(p): row[f"p{p}_ms"] for p in (50, 90, 95, 99) if row.get(f"p{p}_ms") is not None}
    return known


def _spreads(good: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """How latencies spread at the smallest batch size."""
    batch = min((row["batch"] for row in good), default=0)
    rows = [(row["runner"], percentiles(row)) for row in good if row["batch"] == batch]
    rows = [(name, known) for name, known in rows if 50 in known and len(known) > 1]
    if not rows:
        return []
    told = ", ".join(
        f"{name} median {milliseconds(known[50])} ms"
        + "".join(f", p{p} {milliseconds(known[p])}" for p in (90, 99) if p in known)
        for name, known in rows
    )
    whole = any(0 in known for _, known in rows)
    bands = "Bands hold half and nine tenths of the inferences, the thin line all of them. " if whole else ""
    caption = f"{bands}The dot is the median, the short tick p90, the tall one p99. Batch {batch}."
    return [(latency_plot(rows), f"Latencies at batch {batch}: {told}", caption)]


def _throughput(good: Sequence[Mapping[str, Any]]) -> list[Picture]:
    rows = [(row["runner"], row["batch"], row["photos_per_s"]) for row in good]
    if not rows:
        return []
    alt = "Photos per second: " + ", ".join(f"{name} {rate:.0f} at batch {batch}" for name, batch, rate in rows)
    return [(throughput_plot(rows), alt, "")]


def _smallest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    least = min(row["batch"] for row in rows)
    return [row for row in rows if row["batch"] == least]


def _tables(benchmark: Mapping[str, Any], measured: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The other clocks, what running costs, what a scenario came to, what changed since: as on the terminal."""
    found = {word: benchmark.get(word) for word in ("outcomes", "compared")}
    return [
        {
            "title": title,
            "columns": [(name.rstrip(">"), NUMBER if name.endswith(">") else TEXT) for name in columns],
            "rows": [{"cells": row} for row in rows],
        }
        for title, columns, rows in benched_parts({"measurements": measured, **found})
    ]


def tradeoff(report: Mapping[str, Any]) -> list[Picture]:
    """Accuracy against latency at the smallest batch size, where there are two runners or more to compare."""
    known = [
        row for row in report["benchmarks"] if row["valid"] and row["p50_ms"] and row["runner"] in report["accuracy"]
    ]
    batch = min((row["batch"] for row in known), default=0)
    points = [_point(row, report) for row in known if row["batch"] == batch]
    if len(points) < 2:
        return []
    front = joined([each.name for each in pareto(points)])
    alt = "Accuracy against latency: " + ", ".join(
        f"{each.name} {milliseconds(each.median)} ms and {percent(each.accuracy)}" for each in points
    )
    caption = (
        f"Up and left is better; bars are intervals. Nothing measured here beats the filled: {front}. Batch {batch}."
    )
    return [(tradeoff_plot(points), f"{alt}. Unbeaten: {front}", caption)]


def _point(row: Mapping[str, Any], report: Mapping[str, Any]) -> Point:
    spread = percentiles(row)
    quick, slow = spread.get(5.0, row["p50_ms"]), spread.get(95.0, spread.get(90.0, row["p50_ms"]))
    accuracy = report["accuracy"][row["runner"]]
    return Point(row["runner"], row["p50_ms"], quick, slow, accuracy, *report["intervals"][row["runner"]]["accuracy"])
