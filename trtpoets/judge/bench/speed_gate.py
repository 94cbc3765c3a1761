"""The speed gate of a benchmark, for CI: a minimum ratio to the baseline, or a maximum latency."""

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path
from typing import Callable, Sequence

from trtpoets.core.errors import BadInput, GateFailed
from trtpoets.core.runner_id import baseline_text
from trtpoets.core.shell_commands import DEFAULT_ENGINES, command
from trtpoets.judge.bench.bench_config import BenchConfig, Scenario
from trtpoets.judge.bench.benchmark import Benchmark
from trtpoets.judge.bench.measure import Measurement, late_percentile, seconds_for_a_bound
from trtpoets.judge.bench.rounds import too_few
from trtpoets.judge.bench.scenario import ScenarioOutcome

log = logging.getLogger(__name__)


def require_limits(fail_below: float | None = None, max_p99: float | None = None) -> None:
    """Raise BadInput unless both limits are finite numbers above 0, or None. Call it before measuring."""
    for option, limit, example in (("--fail-below", fail_below, "1.5"), ("--max-p99", max_p99, "20")):
        if limit is not None and not 0 < limit < math.inf:
            raise BadInput(
                f"{option} must be a finite number above 0, not {limit:g}",
                hint=f"give for example {option} {example}",
                code="TP5021",
            )


def require_speed(
    name: str,
    benchmark: Benchmark,
    fail_below: float | None = None,
    max_p99: float | None = None,
    engines: Path = DEFAULT_ENGINES,
) -> None:
    """Raise GateFailed unless a runner with valid measurements is fast enough at every measured batch size.

    A runner is fast enough if it is at least `fail_below` times as fast as the baseline, and its 99th percentile is at
    most `max_p99` milliseconds with 99 % confidence (in the server scenario from arrival to answer). If the interval of
    the ratio contains the limit, a warning is logged and no error raised. Measurements that are not valid, and 99th
    percentiles without a bound, do not count.
    """
    require_limits(fail_below, max_p99)
    if fail_below is None and max_p99 is None:
        return
    served = [outcome for outcome in benchmark.outcomes if outcome.scenario == Scenario.SERVER.value]
    if served and max_p99 is not None:
        _require_served(served, benchmark.config, max_p99)
        max_p99 = None
    bench = partial(command, "bench", name, engines=engines)
    for batch in benchmark.config.batches:
        rows = [row for row in benchmark.measurements if row.batch == batch and row.valid]
        if not rows:
            raise GateFailed(
                f"no measurement at batch {batch} is valid",
                hint=f"see why, and measure on a quieter machine: {bench()}",
                code="TP5022",
            )
        if fail_below is not None:
            _require_ratio(rows, batch, fail_below, benchmark.baseline, bench)
        if max_p99 is not None:
            _require_p99(rows, batch, max_p99, bench)


def _require_served(outcomes: Sequence[ScenarioOutcome], config: BenchConfig, limit: float) -> None:
    if not any(outcome.valid for outcome in outcomes):
        best = min(outcomes, key=lambda outcome: outcome.value or math.inf)
        raise GateFailed(
            f"no runner serves {config.target_qps:g} photos a second within {limit:g} ms; "
            f"the nearest is {best.runner.name}: {best.reason}",
            hint="give a lower --target-qps or a larger --batch, or use a lower precision",
            code="TP5023",
        )


def _require_ratio(
    rows: Sequence[Measurement], batch: int, limit: float, baseline: str, bench: Callable[..., str]
) -> None:
    """Raise GateFailed if the intervals of all ratios are below the limit; log a warning if none is above it.

    A ratio without an interval is compared with the limit itself. The number of ratios needs no correction, because the
    intervals of a benchmark hold all together with 95 % confidence.
    """
    base = baseline_text(baseline)
    rated = [(row.speedup, row) for row in rows if row.speedup is not None and row.runner.name != baseline]
    speedup, best = max(rated, key=lambda pair: pair[0], default=(0.0, None))
    if best is None:
        raise GateFailed(
            f"no runner has a ratio to {base} at batch {batch}",
            hint=f"see in the output which runners were not valid or not measured: {bench()}",
            code="TP5024",
        )
    if any(row.speedup_low is not None and row.speedup_low >= limit for _, row in rated):
        return
    ratio = f"{speedup:.2f} times as fast as {base}"
    low, high = best.speedup_low, best.speedup_high
    if all((speedup if row.speedup_high is None else row.speedup_high) < limit for speedup, row in rated):
        within = "" if high is None else f" ({low:.2f} to {high:.2f})"
        raise GateFailed(
            f"{best.runner.name}, the fastest at batch {batch}, is {ratio}{within}, not {limit:g}",
            hint=f"compare with a run that passed: {bench('--compare', 'FILE')}",
            code="TP5025",
        )
    within = f"but the interval is {low:.2f} to {high:.2f}" if low is not None else "without an interval"
    log.warning("the speed gate is undecided: %s is %s, %s; the limit is %g", best.runner.name, ratio, within, limit)


def _require_p99(rows: Sequence[Measurement], batch: int, limit: float, bench: Callable[..., str]) -> None:
    """Raise GateFailed unless the lowest bound of a 99th percentile is within the limit."""
    bounded = [(bound, row) for row in rows if (bound := row.p99_bound_ms) is not None]
    if not bounded:
        raise _without_bound(rows, batch, limit, bench)
    bound, best = min(bounded, key=lambda pair: pair[0])
    if bound > limit:
        raise GateFailed(
            f"the 99th percentile of {best.runner.name}, the best at batch {batch}, may be "
            f"{bound:.3g} ms, more than {limit:g}",
            hint="use a smaller --batch, a lower precision, or a quieter machine",
            code="TP5028",
        )


def _without_bound(rows: Sequence[Measurement], batch: int, limit: float, bench: Callable[..., str]) -> GateFailed:
    """Return the error if no 99th percentile has a bound: all exceed the limit, or there are too few inferences."""
    late = [(row.runner.name, exceeded) for row in rows if (exceeded := late_percentile(row, limit))]
    if len(late) == len(rows):
        runner, (percent, value) = min(late, key=lambda pair: pair[1][1])
        return GateFailed(
            f"the {percent}th percentile of {runner}, the best at batch {batch}, is {value:.3g} ms, "
            f"more than {limit:g}",
            hint="use a smaller --batch, a lower precision, or a quieter machine",
            code="TP5026",
        )
    best = max(rows, key=lambda row: row.independent_count)
    return GateFailed(
        f"too few inferences at batch {batch} to bound a 99th percentile: {best.runner.name}: "
        f"{too_few(best.count, best.independent_count)}",
        hint=f"measure for longer: {bench('--seconds', seconds_for_a_bound(best), '--max-p99', f'{limit:g}')}",
        code="TP5027",
    )
