"""Results on the terminal: as tables of at most 80 columns, or as one JSON document."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from trtpoets.core.console import json_text
from trtpoets.core.formatting import built_for, first_names, interval, many, milliseconds, percent, seconds, shown, size
from trtpoets.core.runner_id import TENSORFLOW, RunnerId, baseline_among, baseline_text
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Engine, Skipped
from trtpoets.reporting.tables.benchmark_rows import benched_parts, ratio
from trtpoets.reporting.tables.builds import layer_lines, plan_text
from trtpoets.reporting.tables.inspection import Part, inspection_parts
from trtpoets.reporting.tables.lists import bottlenecks_text, bundle_part, cache_part, models_part, shards_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trtpoets.bundles.pack import BundleResult
    from trtpoets.judge.all_photos import AllPhotos
    from trtpoets.judge.bench.benchmark import Benchmark, Measurement
    from trtpoets.judge.evaluation import Comparison
    from trtpoets.judge.evaluation_file import Evaluations
    from trtpoets.judge.race import Race
    from trtpoets.judge.sweep import Sweep
    from trtpoets.judge.train_benchmark import TrainBenchmark
    from trtpoets.reporting.model import BenchmarkSummary, EngineEntry, Report

_COLUMNS = 80
_LISTED = 20
"""The most changed answers or labels that are shown: there may be thousands."""

_Rows = list["Sequence[Any]"]


def print_json(value: Any) -> None:
    """Write one JSON document to stdout, in ASCII, so that it can be written in any locale."""
    sys.stdout.write(json_text(to_json(value)) + "\n")


def print_table(what: str, value: Any) -> None:
    """Write the result of a command to stdout as text and tables. `what` is a key of `_KINDS`."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=False)
    # Wide tables are hard to read, and a pipe has no width of its own.
    console.width = min(console.width, _COLUMNS) if console.is_terminal else _COLUMNS
    for number, part in enumerate(_KINDS[what](value)):
        if isinstance(part, Table):
            if part.title:
                # Titles with paths are not broken into lines, so that the paths can be copied.
                title = ("\n" if number else "") + shown(part.title)
                console.print(title, style="bold", soft_wrap="/" in part.title)
            console.print(part.grid)
        else:
            copied = isinstance(part, Text)  # commands and paths are not broken, so that they can be copied
            console.print(Text(shown(part, keep="\n")), soft_wrap=copied)


@dataclass(frozen=True)
class Table:
    """A rich table, and the line above it."""

    title: str
    grid: Any


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> Table:
    """Return rows as a table. Columns whose name ends in `>` are right-aligned numbers; cells are not markup."""
    from rich import box, table
    from rich.text import Text

    named = any(name.rstrip(">") for name in columns)
    grid = table.Table(box=box.SIMPLE_HEAD, show_header=named, show_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        number = name.endswith(">")
        grid.add_column(
            name.rstrip(">"), justify="right" if number else "left", no_wrap=number, overflow="fold", header_style="dim"
        )
    for row in rows:
        grid.add_row(*(Text(shown(cell)) for cell in row))
    return Table(title, grid)


def speed_table(measurements: Sequence[Measurement]) -> Table:
    """Return a table of the latency and throughput of each runner at each batch size."""
    rows = [
        (
            row.runner.name,
            row.batch,
            *map(milliseconds, (row.p50_ms, row.p90_ms, row.p99_ms)),
            f"{row.photos_per_s:,.0f}",
            ratio(row),
        )
        for row in sorted(measurements, key=lambda row: row.batch)
    ]
    baseline = baseline_among({row.runner.name for row in measurements})
    short = "× TF" if baseline == TENSORFLOW else "× orig."
    columns = ["runner", "batch>", "p50 ms>", "p90 ms>", "p99 ms>", "photos/s>", f"{short}>"]
    return table(columns, rows, f"Speed, photos in memory to scores; {short}: ratio to {baseline_text(baseline)}")


# Modules that import numpy are imported by the functions that need them, so that other commands start faster.


def _report(report: Report) -> list[Any]:
    from trtpoets.reporting.tables.accuracy import accuracy_parts, all_photos_parts, not_compared_entries

    parts: list[Any] = ["\n".join(sentence.text for sentence in report.verdict) or "Nothing was measured yet."]
    if report.intervals:
        parts += _parts([*accuracy_parts(report), *all_photos_parts(report.all_photos)])
        parts += [*_skipped(not_compared_entries(report.all_photos)), *_learning_curve(report.all_photos)]
    if report.benchmarks:
        parts += [
            speed_table(report.benchmarks),
            *_stopped(report.benchmark, report.name),
            *_invalid(report.benchmarks),
        ]
    if report.engines:
        parts.append(_engine_rows(map(_engine_entry, report.engines)))
    parts += _skipped(report.skipped)
    return parts


def _evaluation(result: Evaluations) -> list[Any]:
    from trtpoets.reporting.document import accuracies_from_evaluations
    from trtpoets.reporting.tables.accuracy import accuracy_parts, all_photos_parts, not_compared_entries

    parts = _parts(accuracy_parts(accuracies_from_evaluations(result.evaluations)))
    parts += [*_parts(all_photos_parts(result.all_photos)), *_skipped(not_compared_entries(result.all_photos))]
    parts += _learning_curve(result.all_photos)
    return [*parts, *_gate(result), *_skipped(result.skipped)]


def _learning_curve(result: AllPhotos | None) -> list[Any]:
    """Return what more photos are expected to bring, of all classes and of one of them; or why that is unknown."""
    from trtpoets.reporting.sections.learning_curve_section import class_part, class_sentence, gain_sentence

    curve = result.learning_curve if result else None
    if curve is None:
        return []
    if curve.skipped:
        return _skipped([Skipped("the learning curve", curve.skipped)])
    part = class_part(curve)
    text = f"{gain_sentence(curve)} {class_sentence(curve)}".strip()
    return [f"\n{text}", *_parts([part] if part else [])]


def _gate(result: Evaluations) -> list[Any]:
    """Return the gate, and the photos for which failed runners answer differently from the baseline."""
    from trtpoets.judge.gate import GateOutcome
    from trtpoets.reporting.gate_summary import gate_limits, gate_rows

    gate = result.gate
    if not gate:
        return []
    parts = [table(["runner", "", "measured"], gate_rows(gate), f"The gate: {gate_limits(gate)}")]
    failed = [result.runner for result in gate.runners if result.outcome is GateOutcome.FAILED]
    for evaluation in result.evaluations:
        if evaluation.runner in failed and evaluation.comparison and evaluation.comparison.changed:
            baseline = baseline_among({one.runner.name for one in result.evaluations})
            parts.append(_changed(evaluation.runner.name, evaluation.photos, evaluation.comparison, baseline))
    return parts


def _changed(runner: str, photos: int, comparison: Comparison, baseline: RunnerId) -> Table:
    rows: _Rows = [
        (
            "/".join(PurePath(change.path).parts[-2:]),
            f"{change.reference} {percent(change.reference_score)}",
            f"{change.predicted} {percent(change.score)}",
        )
        for change in comparison.changed[:_LISTED]
    ]
    count = photos - comparison.agreed
    if count > len(rows):
        rows.append((f"… and {count - len(rows):,} more", "", ""))
    return table(["photo", baseline_text(baseline), runner], rows, f"{many(count, 'answer')} changed")


def _benchmark(benchmark: Benchmark) -> list[Any]:
    from trtpoets.reporting.document import skipped_failures

    rows = benchmark.measurements
    more = _parts(benched_parts(rows, benchmark.outcomes, benchmark.compared))
    skipped = _skipped((*benchmark.skipped, *skipped_failures(benchmark)))
    return [speed_table(rows), *_stopped(benchmark), *_invalid(rows), *more, *skipped]


def _stopped(benchmark: Benchmark | BenchmarkSummary, name: str = "NAME") -> list[str]:
    """Return the sentences that say why a benchmark ended before its last round."""
    from trtpoets.judge.bench.early_stop import stopped_text, timed_out_text

    config = benchmark.config
    if not config:
        return []
    stopped = stopped_text(benchmark.stopped or {}, config.ratio_within)
    timed_out = timed_out_text(benchmark.timed_out or {}, config, name)
    return [*([f"The benchmark {stopped}."] if stopped else []), *([timed_out] if timed_out else [])]


def _invalid(rows: Sequence[Measurement]) -> list[str]:
    """Return why rows are not valid. Reasons that differ only in a percentage are joined."""
    by_reason: dict[str, list[Measurement]] = {}
    for row in rows:
        if not row.valid:
            by_reason.setdefault(re.sub(r"\d+%", "%", row.reason), []).append(row)
    return [_invalid_text(same, len(rows)) for same in by_reason.values()]


def _invalid_text(same: Sequence[Measurement], count: int) -> str:
    reason = same[0].reason
    if len(same) == 1:
        return f"INVALID: {same[0].runner.name} at batch {same[0].batch}: {reason}"
    shares = [int(share) for row in same for share in re.findall(r"(\d+)%", row.reason)]
    if len(shares) == len(same) and min(shares) < max(shares):
        reason = re.sub(r"\d+%", f"{min(shares)} to {max(shares)}%", reason)
    return f"INVALID: {len(same)} of {count} rows: {reason}"


def _skipped(entries: Iterable[Skipped]) -> list[str]:
    return [shown(f"Skipped: {entry.what}: {entry.why}") for entry in entries]


def _train_benchmark(benchmark: TrainBenchmark) -> list[Any]:
    from trtpoets.reporting.sections.training_section import train_benchmark_parts

    return [*_parts(train_benchmark_parts(benchmark)), *_skipped(benchmark.skipped)]


def _sweep(sweep: Sweep) -> list[Any]:
    from rich.text import Text

    from trtpoets.reporting.sections.sweep_section import sweep_part

    text = f"{sweep.why[0].upper()}{sweep.why[1:]}."
    return [*_parts([sweep_part(sweep)]), text, "\nNext:", Text(shown(f"  {sweep.next}"))]


def _race(race: Race) -> list[Any]:
    from rich.text import Text

    from trtpoets.reporting.sections.race_section import race_part, why_sentence

    return [*_parts([race_part(race)]), why_sentence(race), "\nNext:", Text(shown(f"  {race.next}"))]


def _training(training: Any) -> list[Any]:
    from trtpoets.reporting.sections.training_section import distorted_text, fine_tuning_text

    kept = f"step {training.best_step:,} was kept."
    if training.fine_tuning is not None:  # after which the accuracy was measured
        text = f"The head was trained in {seconds(training.seconds)}; {kept}{distorted_text(training.distorted)} "
        text += fine_tuning_text(training.fine_tuning)
        return [text + _test_accuracy(training, "The shipped network is right")]
    text = f"Trained in {seconds(training.seconds)}; {kept}{_test_accuracy(training, 'Right')}"
    return [text + distorted_text(training.distorted)]


def _test_accuracy(training: Any, subject: str) -> str:
    """Return a sentence with the accuracy on the test photos, with a space before it; "" if there is none."""
    from trtpoets.judge.gate import photos_in_groups

    if training.test_accuracy is None:
        return ""
    count = training.test_photos
    groups = count if training.test_groups is None else training.test_groups
    text = f" {subject} on {percent(training.test_accuracy)} of {photos_in_groups(count, groups, 'test photo')}"
    if training.test_accuracy_low is not None:
        text += f" (95 % interval {interval(training.test_accuracy_low, training.test_accuracy_high)})"
    return f"{text}."


def _adoption(adoption: Any) -> list[Any]:
    from trtpoets.reporting.tables.adoption import adoption_parts, comparison_sentence

    return [*_parts(adoption_parts(adoption)), f"\n{comparison_sentence(adoption)}"]


def _classifier(classifier: Any) -> list[Any]:
    spec = classifier.spec
    classes = many(len(spec.labels), "class", "classes")
    text = f"{spec.name}: {spec.backbone}, {classes}: {first_names(spec.labels, _LISTED)}"
    return [text, shown(classifier.folder)]


def _onnx(models: Iterable[Any]) -> list[Any]:
    rows = [(model.path, model.precision.value, size(model.path.stat().st_size)) for model in models]
    return [table(["ONNX file", "precision", "size>"], rows)]


def _engine_entry(engine: EngineEntry) -> tuple[Any, ...]:
    precision = engine.runner.precision.value if engine.runner.precision else ""
    places = built_for(engine.targets, engine.compute_capability)
    return engine.name, precision, places, size(engine.bytes), seconds(engine.seconds)


def _engines(engines: Sequence[Engine]) -> list[Any]:
    rows = [
        (
            engine.path,
            engine.card.precision.value,
            built_for(engine.card.targets, engine.card.compute_capability),
            size(engine.card.engine_bytes),
            seconds(engine.card.build_seconds),
        )
        for engine in engines
    ]
    return [_engine_rows(rows), *layer_lines(engines)]


def _engine_rows(rows: Iterable[Sequence[Any]]) -> Table:
    return table(["engine", "precision", "for", "size>", "built in>"], rows, "Engines")


def _answers(answers: Iterable[Any]) -> list[Any]:
    parts: list[Any] = []
    for answer in answers:
        rows = [(label, percent(score)) for label, score in zip(answer.labels, answer.scores, strict=True)]
        parts.append(table(["", ">"], rows, shown(f"{answer.photo}  ({answer.runner})")))
    return parts


def _doctor(diagnosis: Any) -> list[Any]:
    from rich.text import Text

    tables = [
        table(["", "", "found"], [(finding.what, finding.state.value, finding.found) for finding in findings], title)
        for title, findings in (("", diagnosis.parts), ("What works here", diagnosis.works))
    ]
    hints: dict[str, str] = {}
    for finding in (*diagnosis.parts, *diagnosis.works):
        if finding.hint:
            hints.setdefault(finding.hint, finding.what)
    # Text is not broken into lines, so that commands can be copied.
    lines = [Text(shown(f"  {what}: {hint}")) for hint, what in hints.items()]
    return [*tables, *(["\nHow to fix the rest:", *lines] if lines else [])]


def _bundle(bundle: BundleResult) -> list[Any]:
    from rich.text import Text

    lines = [Text(shown(f"  {command}")) for command in bundle.next]
    where = Text("\n".join(("", shown(bundle.folder), shown(bundle.archive), f"sha256 {bundle.archive_sha256}")))
    return [*_parts([bundle_part(bundle)]), where, "\nNext:", *lines]


def _parts(parts: Iterable[Part]) -> list[Any]:
    return [table(columns, rows, title) for title, columns, rows in parts]


_KINDS: dict[str, Callable[[Any], list[Any]]] = {
    "report": _report,
    "evaluation": _evaluation,
    "benchmark": _benchmark,
    "board": lambda board: [f"{many(len(board.runs), 'curve')} at {board.url} (Ctrl-C ends it)"],
    "recommendation": lambda recommendation: [recommendation.sentence] if recommendation.sentence else [],
    "train benchmark": _train_benchmark,
    "sweep": _sweep,
    "race": _race,
    "training": _training,
    "classifier": _classifier,
    "adoption": _adoption,
    "onnx": _onnx,
    "engines": _engines,
    "plans": lambda plans: [plan_text(plan) for plan in plans],
    "bundle": _bundle,
    "answers": _answers,
    "models": lambda backbones: _parts([models_part(backbones)]),
    "bottlenecks": lambda result: [bottlenecks_text(result)],
    "shards": lambda states: _parts([shards_part(states)]),
    "cache": lambda stores: _parts([cache_part(stores)]) if stores else ["The cache is empty."],
    "doctor": _doctor,
    "trusted": lambda files: [shown(f"now trusted: {path}") for path in files] or ["All files are trusted already."],
    "inspection": lambda inspection: _parts(inspection_parts(inspection)),
}
