"""A gate on a benchmark: fast enough beside the baseline, or within so many milliseconds; for CI."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, Mapping

from trtpoets.core.commands import DEFAULT_ENGINES, command
from trtpoets.core.errors import GateFailed
from trtpoets.judge.bench_config import Scenario
from trtpoets.judge.benchmark import BASELINE

log = logging.getLogger(__name__)


def require_speed(
    name: str,
    benchmark: Mapping[str, Any],
    fail_below: float | None = None,
    max_p99: float | None = None,
    engines: Path = DEFAULT_ENGINES,
) -> None:
    """Raise GateFailed unless, at every batch size that was measured, some valid runner is fast enough.

    That is: at least `fail_below` times as fast as the baseline, and a 99th percentile of at most `max_p99`
    milliseconds with 99 % confidence (a server's: from arrival to answer). What is on the edge (the limit is within the
    ratio's interval) is a warning. Numbers that are not valid pass no gate.
    """
    if fail_below is None and max_p99 is None:
        return
    served = [each for each in benchmark.get("outcomes", []) if each["scenario"] == Scenario.SERVER.value]
    if served and max_p99 is not None:
        _require_served(served, benchmark["config"], max_p99)
        max_p99 = None
    for batch in benchmark["config"]["batches"]:
        rows = [row for row in benchmark["measurements"] if row["batch"] == batch and row["valid"]]
        if not rows:
            raise GateFailed(
                f"nothing was measured validly at batch {batch}",
                hint=f"see why, and measure on a quieter machine: {command('bench', name, engines=engines)}",
            )
        if fail_below is not None:
            _require_ratio(rows, batch, fail_below, benchmark.get("baseline", BASELINE))
        if max_p99 is not None:
            _require_p99(rows, batch, max_p99)


def _require_served(outcomes: list[Mapping[str, Any]], config: Mapping[str, Any], limit: float) -> None:
    if not any(each["valid"] for each in outcomes):
        best = min(outcomes, key=lambda each: float(each["value"] or math.inf))
        raise GateFailed(
            f"no runner serves {config['target_qps']:g} photos a second within {limit:g} ms; "
            f"{best['runner']}, the nearest: {best['reason']}",
            hint="a lower --target-qps, a larger --batch, or a narrower precision",
        )


def _require_ratio(rows: list[Mapping[str, Any]], batch: int, limit: float, baseline: str) -> None:
    base = "TensorFlow" if baseline == BASELINE else baseline
    rated = [row for row in rows if row.get("speedup") is not None and row["runner"] != baseline]
    best = max(rated, key=lambda row: float(row["speedup"]), default=None)
    if best is None:
        raise GateFailed(
            f"no runner has a ratio to {base} at batch {batch}", hint="see what was not valid, or left out, above"
        )
    if best["speedup"] < limit:
        raise GateFailed(
            f"{best['runner']}, the fastest at batch {batch}, is {best['speedup']:.2f} times as fast as {base}, "
            f"not {limit:g}",
            hint="compare with a run that passed: trtpoets bench NAME --compare OLD.json",
        )
    low = best.get("speedup_low")
    if low is not None and low < limit:
        log.warning(
            "on the edge: %s is %.2f times as fast as %s, but another run may find %.2f",
            best["runner"],
            best["speedup"],
            base,
            low,
        )


def _require_p99(rows: list[Mapping[str, Any]], batch: int, limit: float) -> None:
    told = [row for row in rows if row.get("p99_bound_ms") is not None]
    best = min(told, key=lambda row: float(row["p99_bound_ms"]), default=None)
    if best is None:
        raise GateFailed(
            f"too few inferences at batch {batch} to claim a 99th percentile",
            hint="measure for longer: --seconds 20",
        )
    if best["p99_bound_ms"] > limit:
        raise GateFailed(
            f"the 99th percentile of {best['runner']}, the best at batch {batch}, may be "
            f"{best['p99_bound_ms']:.3g} ms, more than {limit:g}",
            hint="a smaller --batch, a narrower precision, or a quieter machine",
        )
