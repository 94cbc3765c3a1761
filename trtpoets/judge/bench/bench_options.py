"""Makes the configuration of a benchmark from the options of the command line."""

from __future__ import annotations

from typing import Any, Sequence

from trtpoets.core.errors import BadInput
from trtpoets.judge.bench.bench_config import BenchConfig, Scenario
from trtpoets.judge.bench.scenario import FOR_A_BOUND, config_for
from trtpoets.judge.statistics import least_count


def bench_config(
    batches: Sequence[int] | None,
    seconds: float,
    threads: int,
    *,
    scenario: Scenario | None = None,
    max_p99: float | None = None,
    **more: Any,
) -> BenchConfig:
    """Return the configuration of `bench`. LoadGen without a scenario measures single-stream. Raises BadInput."""
    if more.get("loadgen") and scenario is None:
        scenario = Scenario.SINGLE_STREAM
    if more.get("target_qps") and scenario is not Scenario.SERVER:
        raise BadInput(
            f"--target-qps {more['target_qps']:g} applies to the server scenario only",
            hint="add --scenario server",
            code="TP5006",
        )
    sizes = tuple(batches or BenchConfig.batches)
    # A 99th percentile needs a minimum count, which takes time; its bound needs more, as inferences are correlated.
    count, longest = (BenchConfig.min_count, 0.0) if max_p99 is None else (least_count(99), 120.0)
    longest = max(BenchConfig.max_seconds, 2 * seconds, longest)
    config = BenchConfig(
        batches=sizes,
        min_seconds=seconds,
        min_count=count,
        aim_count=0 if max_p99 is None else FOR_A_BOUND * count,
        max_seconds=longest,
        timeout_seconds=max(BenchConfig.timeout_seconds, 2 * longest),
        threads=threads,
        scenario=scenario.value if scenario else "",
        max_p99_ms=max_p99 or 0.0,
        **more,
    )
    return config_for(scenario, config) if scenario else config
