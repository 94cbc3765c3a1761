"""benchmark.json: read, and written so that nothing that was measured is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

from trtpoets.core.errors import BadArtefact, Interrupted, MissingArtefact, RunFailed, StorageFailed
from trtpoets.core.files import read_json, write_json
from trtpoets.core.paths import temporary_root
from trtpoets.core.workspace import seal_card
from trtpoets.judge.bench.benchmark import Benchmark
from trtpoets.judge.bench.compare import compared

_LEAST, _MOST = 1e-9, 1e12
"""Of a time in ms or a ratio that is compared."""


def read_benchmark(path: Path) -> Mapping[str, Any]:
    """benchmark.json, or what `bench --json` printed: all that `compared` reads of it is there, and is what it should.

    Raises MissingArtefact, or BadArtefact when it is neither.
    """
    if not path.is_file():
        raise MissingArtefact(
            f"{path} is not there", hint="keep one first: trtpoets bench NAME --json > old.json", code="TP5010"
        )
    found = read_json(path)
    details = found.get("details", found) if isinstance(found, dict) else None
    problem = _problem(details)
    if problem:
        raise BadArtefact(
            f"{path} is no benchmark: {problem}",
            hint="give benchmark.json of a run, or what this wrote: trtpoets bench NAME --json > old.json",
            code="TP5011",
        )
    assert isinstance(details, dict)
    return details


def _problem(details: Any) -> str:
    """What of a benchmark is not as it should be; empty where all is."""
    if not isinstance(details, dict) or not isinstance(details.get("measurements"), list):
        return "it has no list of measurements"
    if not isinstance(details.get("baseline", ""), str):
        return "its baseline is no name"
    conditions = details.get("conditions") or {}
    parts = {"conditions": conditions, **{word: details.get(word) for word in ("config", "artefacts")}}
    if isinstance(conditions, dict):
        parts.update((word, conditions.get(word)) for word in ("versions", "jetson", "gpu_wait"))
        states = conditions.get("gpu_state") or []
        if not isinstance(states, list) or not all(isinstance(each, dict) for each in states):
            return "its GPU state is no list of objects"
    wrong = [word for word, part in parts.items() if part is not None and not isinstance(part, dict)]
    if wrong:
        return f"its {wrong[0]} is no object"
    problems = (_row_problem(row) for row in details["measurements"])
    return next((f"measurement {place}: {text}" for place, text in enumerate(problems, 1) if text), "")


def _row_problem(row: Any) -> str:
    if not isinstance(row, dict):
        return "it is no object"
    if not isinstance(row.get("runner"), str):
        return "its runner has no name"
    batch, valid = row.get("batch"), row.get("valid")
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        return "its batch is no size"
    if not isinstance(valid, bool):
        return "it is neither valid nor not"
    for word, what, fits in (("round_p50_ms", "times", _is_measure), ("round_numbers", "numbers", _is_number)):
        values = row.get(word) or []
        if not isinstance(values, list) or not all(map(fits, values)):
            return f"its {word} is no list of {what}"
    wrong = [word for word in ("p50_ms", "speedup") if row.get(word) is not None and not _is_measure(row[word])]
    return f"its {wrong[0]} is no number above 0" if wrong else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_measure(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _LEAST <= value <= _MOST


def write_benchmark(
    path: Path,
    measured: Benchmark,
    *,
    key: str,
    name: str,
    again: str,
    artefacts: Mapping[str, str],
    skipped: Sequence[Mapping[str, Any]] = (),
    before: Mapping[str, Any] | None = None,
) -> Mapping[str, Any]:
    """Seal `path` and return its details; with an older benchmark `before`, what changed is under "compared".

    `artefacts` gives each file's sha256 by its name, `skipped` what could not be measured and why. Where the disk is
    full, what was measured goes to the temporary folder under the run's `name`, and StorageFailed says so.

    Raises Interrupted for a benchmark that was cut off, after writing it; `again` is the command that takes it anew,
    which is kept under "command".
    Raises RunFailed where no runner could be measured: an older benchmark is left as it is.
    """
    if measured.failures and not measured.measurements and not measured.incomplete:
        whys = "; ".join(f"{failure.runner.name}: {failure.why}" for failure in measured.failures)
        raise RunFailed(
            f"nothing could be measured: {whys}", hint="see what works on this machine: trtpoets doctor", code="TP5012"
        )
    details = {**measured.to_dict(), "artefacts": dict(artefacts), "skipped": list(skipped), "command": again}
    try:
        seal_card(path, key=key, files=[], details=details)
        if before is not None:  # only now: whatever becomes of comparing, what was measured is kept
            details["compared"] = compared(before, details)
            seal_card(path, key=key, files=[], details=details)
    except StorageFailed as error:
        try:
            elsewhere = temporary_root() / f"{name}-benchmark.json"
            write_json(elsewhere, {**details, "incomplete": measured.incomplete or "before it could be written"})
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
    return details
