"""A gate on a benchmark: fast enough beside the baseline, or within so many milliseconds; for CI."""

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any, Callable, Mapping

from trtpoets.core.errors import BadInput, GateFailed
from trtpoets.core.shell_commands import DEFAULT_ENGINES, command
from trtpoets.judge.bench.bench_config import Scenario
from trtpoets.judge.bench.benchmark import BASELINE
from trtpoets.judge.bench.measure import late_percentile, seconds_for_a_bound
from trtpoets.judge.bench.rounds import too_few

log = logging.getLogger(__name__)


def require_limits(fail_below: float | None = None, max_p99: float | None = None) -> None:
    """Raise BadInput unless both limits are finite numbers above 0, or None. Cheap: call it before measuring."""
    for option, limit, example in (("--fail-below", fail_below, "1.5"), ("--max-p99", max_p99, "20")):
        if limit is not None and not 0 < limit < math.inf:
            raise BadInput(
                f"{option} {limit:g} is no limit: a number above 0 is", hint=f"{option} {example}", code="TP5021"
            )


def require_speed(
    name: str,
    benchmark: Mapping[str, Any],
    fail_below: float | None = None,
    max_p99: float | None = None,
    engines: Path = DEFAULT_ENGINES,
) -> None:
    """Raise GateFailed unless, at every batch size that was measured, some valid runner is fast enough.

    That is: at least `fail_below` times as fast as the baseline, and a 99th percentile of at most `max_p99`
    milliseconds with 99 % confidence (a server's: from arrival to answer). Where the intervals of the ratios hold the
    limit, the benchmark can't tell: that is a warning. A 99th percentile without a bound, and numbers that are not
    valid, pass no gate.
    """
    require_limits(fail_below, max_p99)
    if fail_below is None and max_p99 is None:
        return
    served = [each for each in benchmark.get("outcomes", []) if each["scenario"] == Scenario.SERVER.value]
    if served and max_p99 is not None:
        _require_served(served, benchmark["config"], max_p99)
        max_p99 = None
    bench = partial(command, "bench", name, engines=engines)
    for batch in benchmark["config"]["batches"]:
        rows = [row for row in benchmark["measurements"] if row["batch"] == batch and row["valid"]]
        if not rows:
            raise GateFailed(
                f"nothing was measured validly at batch {batch}",
                hint=f"see why, and measure on a quieter machine: {bench()}",
                code="TP5022",
            )
        if fail_below is not None:
            _require_ratio(
                rows,
                batch,
                fail_below,
                benchmark.get("baseline", BASELINE),
                partial(command, "bench", name, engines=engines),
            )
        if max_p99 is not None:
            _require_p99(rows, batch, max_p99, bench)


def _require_served(outcomes: list[Mapping[str, Any]], config: Mapping[str, Any], limit: float) -> None:
    if not any(each["valid"] for each in outcomes):
        best = min(outcomes, key=lambda each: float(each["value"] or math.inf))
        raise GateFailed(
            f"no runner serves {config['target_qps']:g} photos a second within {limit:g} ms; "
            f"{best['runner']}, the nearest: {best['reason']}",
            hint="a lower --target-qps, a larger --batch, or a narrower precision",
            code="TP5023",
        )


def _require_ratio(
    rows: list[Mapping[str, Any]], batch: int, limit: float, baseline: str, bench: Callable[..., str]
) -> None:
    """Some ratio is surely beyond the limit; all of them surely below fail; else it is a warning.

    The intervals of a benchmark hold together, so that it may be any of them. A ratio without one is as it was found.
    """
    base = "TensorFlow" if baseline == BASELINE else baseline
    rated = [row for row in rows if row.get("speedup") is not None and row["runner"] != baseline]
    best = max(rated, key=lambda row: float(row["speedup"]), default=None)
    if best is None:
        raise GateFailed(
            f"no runner has a ratio to {base} at batch {batch}",
            hint="see what was not valid, or left out, above",
            code="TP5024",
        )
    if any(row.get("speedup_low") is not None and row["speedup_low"] >= limit for row in rated):
        return
    ratio = f"{best['speedup']:.2f} times as fast as {base}"
    low, high = best.get("speedup_low"), best.get("speedup_high")
    if all(_most(row) < limit for row in rated):
        within = "" if high is None else f" ({low:.2f} to {high:.2f})"
        raise GateFailed(
            f"{best['runner']}, the fastest at batch {batch}, is {ratio}{within}, not {limit:g}",
            hint=f"compare with a run that passed: {bench('--compare', 'FILE')}",
            code="TP5025",
        )
    sure = f"but another run may find {low:.2f} to {high:.2f}" if low is not None else "that is without an interval"
    log.warning("on the edge: %s is %s, %s: whether that is %g can't be told", best["runner"], ratio, sure, limit)


def _most(row: Mapping[str, Any]) -> float:
    """The most that a ratio may be; without an interval, what was found."""
    return float(row["speedup"] if row.get("speedup_high") is None else row["speedup_high"])


def _require_p99(rows: list[Mapping[str, Any]], batch: int, limit: float, bench: Callable[..., str]) -> None:
    told = [(bound, row) for row in rows if (bound := row.get("p99_bound_ms")) is not None]
    late = [(row["runner"], found) for row in rows if (found := late_percentile(row, limit))]
    if not told and len(late) == len(rows):
        runner, (percent, value) = min(late, key=lambda each: each[1][1])
        raise GateFailed(
            f"the {percent}th percentile of {runner}, the best at batch {batch}, is {value:.3g} ms, "
            f"more than {limit:g} already",
            hint="a smaller --batch, a narrower precision, or a quieter machine",
            code="TP5026",
        )
    if not told:
        best = max(rows, key=lambda row: int(row.get("independent_count") or 0))
        raise GateFailed(
            f"too few inferences at batch {batch} to bound a 99th percentile: {best['runner']}: "
            f"{too_few(best['count'], best.get('independent_count') or 0)}",
            hint=f"measure for longer: {bench('--seconds', seconds_for_a_bound(best), '--max-p99', f'{limit:g}')}",
            code="TP5027",
        )
    bound, best = min(told, key=lambda each: each[0])
    if bound > limit:
        raise GateFailed(
            f"the 99th percentile of {best['runner']}, the best at batch {batch}, may be "
            f"{bound:.3g} ms, more than {limit:g}",
            hint="a smaller --batch, a narrower precision, or a quieter machine",
            code="TP5028",
        )
