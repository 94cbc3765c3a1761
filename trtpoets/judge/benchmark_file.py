"""benchmark.json: read, and written so that nothing that was measured is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

from trtpoets.core.errors import BadArtefact, Interrupted, MissingArtefact, RunFailed, StorageFailed
from trtpoets.core.files import read_json, write_json
from trtpoets.core.paths import temporary_root
from trtpoets.core.workspace import seal_card
from trtpoets.judge.benchmark import Benchmark
from trtpoets.judge.compare import compared


def read_benchmark(path: Path) -> Mapping[str, Any]:
    """benchmark.json, or what `bench --json` printed. Raises MissingArtefact, or BadArtefact when it is neither."""
    if not path.is_file():
        raise MissingArtefact(f"{path} is not there", hint="keep one first: trtpoets bench NAME --json > old.json")
    found = read_json(path)
    details = found.get("details", found) if isinstance(found, dict) else None
    if not isinstance(details, dict) or not isinstance(details.get("measurements"), list):
        raise BadArtefact(
            f"{path} is no benchmark",
            hint="give benchmark.json of a run, or what this wrote: trtpoets bench NAME --json",
        )
    return details


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
        raise RunFailed(f"nothing could be measured: {whys}", hint="see what works on this machine: trtpoets doctor")
    details = {**measured.to_dict(), "artefacts": dict(artefacts), "skipped": list(skipped), "command": again}
    if before is not None:
        details["compared"] = compared(before, details)
    try:
        seal_card(path, key=key, files=[], details=details)
    except StorageFailed as error:
        try:
            elsewhere = temporary_root() / f"{name}-benchmark.json"
            write_json(elsewhere, {**details, "incomplete": measured.incomplete or "before it could be written"})
        except StorageFailed:
            raise error from None
        raise StorageFailed(error.message, f"{error.hint}; what was measured is in {elsewhere}") from error
    if measured.incomplete:
        raise Interrupted(
            f"interrupted {measured.incomplete}; what was measured until then is in {path}",
            hint=f"measure again: {again}",
        )
    return details
