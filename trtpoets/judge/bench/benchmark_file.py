"""Reads and writes benchmark.json. Measurements are kept even if writing or comparing fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from trtpoets.core.errors import BadArtefact, Interrupted, MissingArtefact, RunFailed, StorageFailed
from trtpoets.core.files import read_json, write_json
from trtpoets.core.paths import temporary_root
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.shell_commands import command
from trtpoets.core.types import Skipped
from trtpoets.core.workspace import seal_card
from trtpoets.judge.bench.benchmark import Benchmark
from trtpoets.judge.bench.compare import compared
from trtpoets.judge.bench.measure import Measurement

_MIN_COMPARED, _MAX_COMPARED = 1e-9, 1e12
"""The range of times in ms and ratios that are compared."""


def read_benchmark(path: Path) -> Benchmark:
    """Read benchmark.json, or the output of `bench --json`.

    Raises MissingArtefact where there is no such file, BadArtefact for other content.
    """
    if not path.is_file():
        raise MissingArtefact(
            f"{path} does not exist", hint="write one: trtpoets bench NAME --json > old.json", code="TP5010"
        )
    document = read_json(path)
    try:
        benchmark = from_json(
            Benchmark, document.get("details", document) if isinstance(document, dict) else None, "it"
        )
        problem = next(filter(None, map(_problem, benchmark.measurements)), "")
    except BadArtefact as error:
        problem = error.message
    if problem:
        raise BadArtefact(
            f"{path} is not a benchmark: {problem}",
            hint="give benchmark.json of a run, or the output of: trtpoets bench NAME --json > old.json",
            code="TP5011",
        )
    return benchmark


def benchmark_from_card(details: Mapping[str, Any], path: Path) -> Benchmark:
    """Return the content of benchmark.json from the details of its card.

    Earlier versions counted all inferences as independent; their p99 bounds are wrong and become None. Raises
    BadArtefact for a field of another type.
    """
    benchmark = from_json(
        Benchmark,
        details,
        str(path),
        f"measure again: {command('bench', path.parent.name, engines=path.parent.parent)}",
    )
    rows = details["measurements"]
    return replace(
        benchmark,
        measurements=tuple(
            row if "independent_count" in given else replace(row, p99_bound_ms=None)
            for row, given in zip(benchmark.measurements, rows)
        ),
    )


def _problem(row: Measurement) -> str:
    """Return what makes a measurement unusable for a comparison; an empty string if nothing does."""
    where = f"{row.runner.name} at batch {row.batch}"
    if row.batch < 1:
        return f"{where}: the batch size is below 1"
    for name, values in (("p50_ms", [row.p50_ms]), ("speedup", [row.speedup]), ("round_p50_ms", row.round_p50_ms)):
        wrong = [value for value in values if value is not None and not _MIN_COMPARED <= value <= _MAX_COMPARED]
        if wrong:
            return f"{where}: {name} is {wrong[0]}, and must be a number above 0"
    return ""


def write_benchmark(
    path: Path,
    measured: Benchmark,
    *,
    key: str,
    name: str,
    again: str,
    artefacts: Mapping[str, str],
    skipped: Sequence[Skipped] = (),
    before: Benchmark | None = None,
) -> Benchmark:
    """Compare `measured` with an older benchmark `before`, write it to `path`, and return it.

    `artefacts` is the sha256 of each file by its name, `skipped` what could not be measured and why, `again` the
    command that repeats the benchmark, written as "command".

    Raises StorageFailed where `path` can't be written; the measurements are then in the temporary folder, in a file
    that the hint names. Raises Interrupted for an interrupted benchmark, after writing what was measured; RunFailed
    where no runner could be measured. An older benchmark is left as it is if there is no measurement.
    """
    if measured.incomplete and not measured.measurements and not measured.outcomes:
        raise Interrupted(
            f"interrupted {measured.incomplete}; nothing was measured", hint=f"measure again: {again}", code="TP5164"
        )
    if measured.failures and not measured.measurements and not measured.incomplete:
        reasons = "; ".join(f"{failure.runner.name}: {failure.why}" for failure in measured.failures)
        raise RunFailed(
            f"nothing could be measured: {reasons}",
            hint="see what works on this machine: trtpoets doctor",
            code="TP5012",
        )
    result = replace(measured, artefacts=dict(artefacts), skipped=tuple(skipped), command=again)
    try:
        seal_card(path, key=key, files=[], details=to_json(result))
        if before is not None:  # written before: the measurements are kept if this fails
            result = replace(result, compared=compared(before, result))
            seal_card(path, key=key, files=[], details=to_json(result))
    except StorageFailed as error:
        try:
            elsewhere = temporary_root() / f"{name}-benchmark.json"
            kept = replace(result, incomplete=measured.incomplete or "before it could be written")
            write_json(elsewhere, to_json(kept))
        except StorageFailed:
            raise error from None
        raise StorageFailed(
            error.message, f"{error.hint}; what was measured is in {elsewhere}", code="TP5013"
        ) from error
    if measured.incomplete:
        raise Interrupted(
            f"interrupted {measured.incomplete}; what was measured until then is in {path}",
            hint=f"measure again: {again}",
            code="TP5014",
        )
    return result
