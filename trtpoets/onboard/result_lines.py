"""Results of a bundle's commands as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, Iterator

from trtpoets.device.doctor.findings import Finding, State

if TYPE_CHECKING:
    from trtpoets.device.build.build_plan import BuildPlan
    from trtpoets.judge.bench.benchmark import Benchmark, Measurement
    from trtpoets.onboard.build_command import BundleEngine
    from trtpoets.onboard.classify.classify_command import Count
    from trtpoets.onboard.install import Installation
    from trtpoets.onboard.selftest import Selftest
    from trtpoets.onboard.update.update_command import Updated


def finding_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """A line each, and the line that mends it below."""
    for finding in findings:
        yield f"{finding.state.value:<9} {finding.what}: {finding.found}"
        if finding.hint and finding.state in (State.MISSING, State.DOUBTFUL):
            yield f"{'':<9} try: {finding.hint}"


def install_lines(installation: Installation, dry_run: bool) -> Iterator[str]:
    """What was found, and what was done."""
    yield from finding_lines(installation.findings)
    undone = dry_run or bool(installation.lacking)
    for command in installation.commands:
        yield f"{'to run' if undone else 'done':<9} {command}"
    if not installation.lacking and not undone:
        yield "ready: ./build"


def build_lines(result: BundleEngine) -> Iterator[str]:
    """What was tried, and what is to be run."""
    for attempt in result.attempts:
        if attempt.problem:
            yield f"{attempt.precision.value}: not here: {attempt.problem}"
    card = result.engine.card
    yield f"{card.precision.value}: {result.engine.path}, {card.engine_bytes / 1e6:.1f} MB"
    yield f"  built by {card.flavour.value} {card.tensorrt_version} for {card.gpu} in {card.build_seconds:.1f} s"
    if card.typing:
        yield f"  {card.typing}"
    for note in card.notes:
        yield f"  note: {note}"
    verdict = result.attempts[-1].verdict
    if verdict is not None:
        yield (
            f"  golden photos: {verdict.same_answers} of {verdict.photos} the same answer, scores up to "
            f"{verdict.max_difference:.2g} away ({verdict.tolerance:.2g} allowed)"
        )


def plan_lines(plans: Iterable[BuildPlan]) -> Iterator[str]:
    """What would be tried, in order, and what stands in the way."""
    for plan in plans:
        state = "is up to date" if plan.current else "can't be built" if plan.problems else "would be built"
        yield f"{plan.precision.value}: {plan.engine} {state}; {plan.library or 'no TensorRT'}, {plan.gpu or 'no GPU'}"
        for problem in plan.problems:
            yield f"  problem: {problem.message}"
            yield f"    try: {problem.hint}"
        if plan.typing:
            yield f"  types: {plan.typing}"
        for note in plan.notes:
            yield f"  note: {note}"


def selftest_lines(result: Selftest) -> Iterator[str]:
    """Whether the scores are the golden ones, and how long one takes."""
    verdict, latency = result.verdict, result.latency
    yield f"{result.name}, {result.runner}: {'passed' if verdict.passed else 'FAILED'}"
    yield (
        f"  scores up to {verdict.max_difference:.2g} from the golden ones ({verdict.worst}), "
        f"{verdict.tolerance:.2g} allowed"
    )
    yield f"  {verdict.same_answers} of {verdict.photos} photos get the same answer"
    yield f"  {latency.median_ms:.2f} ms a photo (median of {latency.count}, longest {latency.worst_ms:.2f})"
    yield f"  {latency.conditions}; loaded in {result.load_seconds:.2f} s"


def bench_lines(benchmark: Benchmark) -> Iterator[str]:
    """Yield a line for each runner and batch size, then what is not valid, changed, failed or outcome of a scenario."""
    rows: list[tuple[str, ...]] = [("runner", "batch", "p50 ms", "p99 ms", "photos/s", f"times {benchmark.baseline}")]
    rows += [_measured(row) for row in benchmark.measurements]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for cells in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip()
    for row in benchmark.measurements:
        if not row.valid:
            yield f"{row.runner.name}, batch {row.batch}: INVALID: {row.reason}"
    for change in benchmark.compared.changes if benchmark.compared else ():
        share = "" if change.change is None else f" {change.change:+.1%}"
        noise = "" if change.noise is None else f" (noise ±{change.noise:.1%})"
        yield f"{change.runner.name}, batch {change.batch}, since then: {change.verdict}{share}{noise}"
    for failure in benchmark.failures:
        yield f"{failure.runner.name}: not measured: {failure.why}"
    for outcome in benchmark.outcomes:
        validity = "VALID" if outcome.valid else f"INVALID: {outcome.reason}"
        value = "–" if outcome.value is None else f"{outcome.value:.4g}"
        yield f"{outcome.scenario}, {outcome.runner.name}: {value} {outcome.metric}, {validity}"


def _measured(row: Measurement) -> tuple[str, ...]:
    def number(value: float | None, places: int = 2) -> str:
        return "–" if value is None else f"{value:.{places}f}"

    ratio = number(row.speedup) + (" drifts" if row.drifts else "") if row.valid else "INVALID"
    cells = (number(row.p50_ms), number(row.p99_ms), number(row.photos_per_s, 0), ratio)
    return (row.runner.name, str(row.batch), *cells)


def count_line(count: Count) -> str:
    """The last words of `classify`, for stderr."""
    parts = [f"{count.classified:,} classified"]
    parts += [f"{count.failed:,} could not be"] * bool(count.failed)
    parts += [f"{count.dropped:,} frames dropped"] * bool(count.dropped)
    return ", ".join(parts) + "\n"


def update_lines(update: Updated) -> Iterator[str]:
    """What runs now."""
    yield f"current: {update.current}{'' if update.changed else ' (as before)'}"
    yield f"before: {update.previous or 'nothing'}"
    for release in update.pruned:
        yield f"deleted: {release}"
