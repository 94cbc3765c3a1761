"""Further results of a benchmark as tables: the other clocks, costs, the outcomes of a scenario, a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import milliseconds, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trtpoets.judge.bench.benchmark import Measurement
    from trtpoets.judge.bench.compare import BenchmarkComparison
    from trtpoets.judge.bench.scenario import ScenarioOutcome

Part = tuple[str, "Sequence[str]", "Sequence[Sequence[Any]]"]
"""A table: title, columns (those that end in ">" are numbers), rows."""


DRIFTS = "drifts"
"""Replaces the interval of a ratio that changed during the measurement."""

UNCLEAR = "unclear"
"""Replaces the interval of a ratio that is not known to a factor of two."""


def ratio(row: Measurement) -> str:
    """Return the ratio to TensorFlow as text, with its relative uncertainty unless the ratio drifts or is unclear."""
    if not row.valid:
        return "INVALID"
    if row.speedup is None:
        return "–"
    if row.drifts:
        return f"{row.speedup:.2f}× {DRIFTS}"
    if row.is_unclear:
        return f"{row.speedup:.2f}× {UNCLEAR}"
    low, high = row.speedup_low, row.speedup_high
    if low is None or high is None or low == high:
        return f"{row.speedup:.2f}×"
    return f"{row.speedup:.2f}× ±{(high / low) ** 0.5 - 1:.0%}"


def benched_parts(
    measurements: Sequence[Measurement], outcomes: Sequence[ScenarioOutcome], comparison: BenchmarkComparison | None
) -> Iterator[Part]:
    """Yield the tables that have rows: clocks and costs, the outcomes of a scenario, a comparison of benchmarks."""
    timed = [row for row in measurements if row.end_to_end or row.device]
    if timed:
        yield _clocks(timed)
        yield _costs(timed)
    if outcomes:
        yield _outcomes(outcomes)
    if comparison:
        yield from _compared(comparison)


def _clocks(measured: Sequence[Measurement]) -> Part:
    rows: list[Sequence[Any]] = []
    for row in sorted(measured, key=lambda row: row.batch):
        device, whole = row.device, row.end_to_end
        parts = (device.h2d_ms, device.compute_ms, device.d2h_ms, device.enqueue_ms) if device else (None,) * 4
        medians = (row.p50_ms, whole.p50_ms if whole else None, *parts)
        rows.append((row.runner.name, row.batch, *map(milliseconds, medians)))
    columns = ["runner", "batch>", "infer>", "from file>", "copy in>", "compute>", "copy out>", "queue>"]
    title = "Three clocks, ms (medians): inference; from the file; the GPU's own"
    if not any(row.device for row in measured):
        return title.replace("Three", "Two").replace("; the GPU's own", ""), columns[:4], [row[:4] for row in rows]
    return title, columns, rows


def _costs(measured: Sequence[Measurement]) -> Part:
    rows: list[Sequence[Any]] = []
    for row in sorted(measured, key=lambda row: row.batch):
        joules = row.joules_per_photo
        rows.append(
            (
                row.runner.name,
                row.batch,
                f"{row.load_seconds:.2f}",
                milliseconds(row.first_ms),
                *("–" if mib is None else f"{mib:,.0f}" for mib in (row.peak_memory_mib, row.gpu_memory_mib)),
                "–" if joules is None else f"{1000 * joules:,.3g}",
            )
        )
    names = ["runner", "batch>", "load s>", "first ms>", "MiB>", "GPU MiB>", "mJ/photo>"]
    used = [place for place, _ in enumerate(names) if any(row[place] != "–" for row in rows)]
    columns = [names[place] for place in used]
    title = "Loading, first inference, peak memory" + (", energy above idle" if names[-1] in columns else "")
    return title, columns, [[row[place] for place in used] for row in rows]


def _outcomes(outcomes: Sequence[ScenarioOutcome]) -> Part:
    with_loadgen = any(outcome.loadgen for outcome in outcomes)
    rows: list[Sequence[Any]] = []
    for outcome in outcomes:
        loadgen = outcome.loadgen
        loadgen_value = f"{_value(loadgen.value)} {'VALID' if loadgen.valid else 'INVALID'}" if loadgen else ""
        streamed = f"{outcome.under_way} batches in progress" if outcome.under_way > 1 else ""
        why = "; ".join(text for text in (outcome.reason, streamed, loadgen.why if loadgen else "") if text)
        verdict = "VALID" if outcome.valid else "INVALID"
        loadgen_cells = [loadgen_value] if with_loadgen else []
        rows.append((outcome.runner.name, outcome.batch, _value(outcome.value), verdict, *loadgen_cells, why))
    first = outcomes[0]
    what = {"p90_ms": "90th percentile, ms", "p99_ms": "99th percentile, ms", "photos_per_s": "photos/s"}
    title = f"MLPerf's {first.scenario} scenario: {what[first.metric]}"
    return title, ["runner", "batch>", "trtpoets>", "", *(["LoadGen>"] if with_loadgen else []), "why"], rows


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _brief(value: Any) -> str:
    """Return a condition as short text; of a hash the beginning."""
    text = shown(str(value))
    return text[:12] if len(text) == 64 and " " not in text else text[:40]


def _compared(comparison: BenchmarkComparison) -> Iterator[Part]:
    rows: list[Sequence[Any]] = []
    for change in comparison.changes:
        values = [_value(value) for value in (change.before, change.now)]
        shares = ["–" if share is None else f"{share:+.1%}" for share in (change.change, change.noise)]
        by = {"speedup": "ratio", "p50_ms": "p50 ms"}.get(change.by, "")
        noise = shares[1].replace("+", "±")
        rows.append((change.runner.name, change.batch, by, *values, shares[0], noise, change.verdict))
    columns = ["runner", "batch>", "by", "before>", "now>", "change>", "noise>", ""]
    yield "Changes, compared with the noise", columns, rows
    different: list[Sequence[Any]] = [(runner, "measured", "not measured") for runner in comparison.missing]
    different += [
        (condition.what, _brief(condition.before), _brief(condition.now)) for condition in comparison.conditions
    ]
    if different:
        yield "Other differences", ["", "before", "now"], different
