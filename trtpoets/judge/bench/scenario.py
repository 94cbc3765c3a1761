"""MLPerf's four scenarios, scaled down to one command: what each measures, and its outcome for a runner.

- single-stream: one photo at a time; the 90th percentile of its latency;
- multi-stream: eight photos at a time; the 99th percentile of the query's latency;
- offline: all photos at once; photos per second at the best batch size, with as many batches in progress as the runner
  has slots;
- server: photos arrive at random (Poisson), a target rate on average; the 99th percentile from arrival to answer.

(MLPerf inference rules, scenarios.)
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import chain, cycle, repeat, takewhile
from typing import Callable, Sequence

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.core.runner_id import RunnerId
from trtpoets.core.serialization import FLAT
from trtpoets.device.runners.base import Runner, Ticket, pipelined
from trtpoets.judge.bench.bench_config import BenchConfig, Scenario
from trtpoets.judge.bench.cpu_contention import CpuContention
from trtpoets.judge.bench.measure import Measurement, contention_problem
from trtpoets.judge.bench.rounds import percentile_bound, too_few
from trtpoets.judge.statistics import least_count, supported_percentile

_SPIN_SECONDS = 0.0005
"""Seconds before an arrival during which the server polls instead of sleeping, which is less precise."""

_KEEPS_UP = 0.95
"""A server keeps up if the last photo arrives after at least this share of the total time."""

FOR_A_BOUND = 3
"""Multiple of the fewest independent observations that is measured where a 99th percentile has a limit."""

_SEGMENTS = 20
"""The number of consecutive parts of a server's arrivals, which are used like rounds."""

MULTI_STREAM = 8
"""Photos per query in the multi-stream scenario, as in MLPerf."""

BATCHES_TO_TRY = (1, 2, 4, 8, 16, 32)
"""The batch sizes of the offline scenario, unless others are chosen."""


@dataclass(frozen=True)
class LoadgenResult:
    """LoadGen's result for one runner: values in milliseconds, or photos/s in the offline scenario.

    `clock_value` is the value of the same queries by trtpoets' clock; None for a server, where only LoadGen knows how
    long a query waited. `logs` is the folder of LoadGen's logs; `why` explains a difference from trtpoets' measurement.
    """

    valid: bool
    value: float
    clock_value: float | None = None
    queries: int = 0
    logs: str = ""
    why: str = ""


@dataclass(frozen=True)
class ScenarioOutcome:
    """The outcome of a scenario for one runner: `value` in the unit that `metric` names, None without one.

    `batch` is the batch size, `under_way` the number of batches in progress at once. `loadgen` is LoadGen's own result,
    None if it did not run.
    """

    scenario: str
    runner: RunnerId = field(metadata=FLAT)
    batch: int
    metric: str
    value: float | None
    valid: bool
    reason: str
    loadgen: LoadgenResult | None = None
    under_way: int = 1


@dataclass(frozen=True)
class Streamed:
    """The result of `stream`. `taken_seconds` is the time that other processes used, per core of this process."""

    photos: int
    seconds: float
    slots: int
    taken_seconds: float | None


@dataclass(frozen=True)
class Served:
    """The result of `serve`.

    `offered` photos arrived, the last after `arrived_seconds`; the last answer came after `seconds`. `latencies_ms` are
    those of the classified photos. `taken_seconds` is the time that other processes used of each of our cores.
    """

    latencies_ms: list[float]
    offered: int
    arrived_seconds: float
    seconds: float
    taken_seconds: float | None


def config_for(scenario: Scenario, config: BenchConfig) -> BenchConfig:
    """Return the configuration for a scenario. Chosen batch sizes are kept for offline and server.

    Raises BadInput for a server without a target rate, or with one too low for a 99th percentile in its time.
    """
    if scenario is Scenario.SINGLE_STREAM:
        return replace(config, batches=(1,))
    if scenario is Scenario.MULTI_STREAM:
        longest = max(config.max_seconds, config.timeout_seconds / 2)
        count = max(config.min_count, least_count(99))
        return replace(config, batches=(MULTI_STREAM,), min_count=count, max_seconds=longest)
    if scenario is Scenario.OFFLINE:
        chosen = config.batches != BenchConfig.batches
        return replace(config, batches=config.batches if chosen else BATCHES_TO_TRY)
    if config.target_qps <= 0:
        raise BadInput(
            "the server scenario needs a rate of arrivals",
            hint="give photos per second, as in --target-qps 50",
            code="TP5019",
        )
    count = _least_arrivals(config)
    if count / config.target_qps > config.timeout_seconds / 2:
        what = "a bound of the 99th percentile" if config.max_p99_ms else "a 99th percentile"
        raise BadInput(
            f"at {config.target_qps:g} photos a second {what} takes {count / config.target_qps:.0f} s, "
            f"more than half of the limit of {config.timeout_seconds:g} s",
            hint=f"give a rate of at least {2 * count / config.timeout_seconds:.0f}, or a longer --seconds",
            code="TP5020",
        )
    return replace(config, min_count=BenchConfig.min_count, aim_count=0)  # the 99th percentile is of the arrivals


def _least_arrivals(config: BenchConfig) -> int:
    """Return the fewest arrivals for a 99th percentile, or for its bound: latencies in a queue depend on each other."""
    return (FOR_A_BOUND if config.max_p99_ms else 1) * least_count(99)


def outcome_from_rows(scenario: Scenario, rows: Sequence[Measurement]) -> ScenarioOutcome:
    """Return the outcome of a scenario other than the server's from a runner's measurements at each batch size."""
    if scenario is Scenario.OFFLINE:
        best = max(rows, key=lambda row: (row.valid, row.photos_per_s))
        return ScenarioOutcome(
            scenario.value, best.runner, best.batch, "photos_per_s", best.photos_per_s, best.valid, best.reason
        )
    (row,) = rows
    metric = "p90_ms" if scenario is Scenario.SINGLE_STREAM else "p99_ms"
    value = getattr(row, metric)
    reason = row.reason or ("" if value is not None else f"too few queries for {metric}")
    return ScenarioOutcome(scenario.value, row.runner, row.batch, metric, value, not reason, reason)


def stream(
    runner: Runner, photos: np.ndarray, batch: int, config: BenchConfig, clock: Callable[[], float] = time.perf_counter
) -> Streamed:
    """Run batches of photos, uint8 (P, H, W, 3), for `min_seconds` without a pause and with all slots in use.

    There are no rounds of other runners in between, as in offline work.
    """
    padded = np.resize(photos, (-(-len(photos) // batch) * batch, *photos.shape[1:]))
    batches = [padded[start : start + batch] for start in range(0, len(padded), batch)]
    _warm(runner, batches[0], 8)
    contention = CpuContention()
    began = clock()
    until = began + config.min_seconds
    endless = takewhile(lambda _: clock() < until, cycle(batches))
    done = sum(1 for _ in pipelined(runner, chain(batches[:1], endless)))
    seconds = clock() - began
    return Streamed(done * batch, seconds, runner.slots, contention.other_seconds())


def _warm(runner: Runner, photos: np.ndarray, times: int = 3) -> None:
    """Run a batch `times` in each slot; once where the runner has a single slot.

    After 3 runs the batch size is captured as a CUDA graph, possibly a padded one; after more runs, without padding.
    """
    deque(pipelined(runner, repeat(photos, 1 if runner.slots == 1 else times * runner.slots)), maxlen=0)


def outcome_from_streamed(outcome: ScenarioOutcome, streamed: Streamed, config: BenchConfig) -> ScenarioOutcome:
    """Return the offline outcome with the throughput that `stream` measured."""
    taken = streamed.taken_seconds
    reason = outcome.reason or contention_problem(None if taken is None else min(taken / streamed.seconds, 1.0), config)
    rate = streamed.photos / streamed.seconds
    return replace(outcome, value=rate, valid=outcome.valid and not reason, reason=reason, under_way=streamed.slots)


def serve(
    runner: Runner,
    photos: np.ndarray,
    config: BenchConfig,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Served:
    """Simulate a server on photos, uint8 (P, H, W, 3), that arrive at random times, the same for all runners.

    All waiting photos, up to the largest batch size, run as one batch. If the runner has several slots, waiting photos
    are submitted while earlier batches are in progress. Latencies are measured from the planned arrival of a photo, so
    that delays of the loop are included. The arrivals are not interrupted by rounds of other runners: interruptions
    keep a queue short, and a server near its limit would have too good a latency.
    """
    most = max(config.batches)
    count = max(_least_arrivals(config), int(config.target_qps * config.min_seconds))
    due = np.cumsum(np.random.default_rng(0).exponential(1 / config.target_qps, count))
    for size in range(1, most + 1):
        _warm(runner, np.resize(photos, (size, *photos.shape[1:])))
    latencies: list[float] = []
    under_way: deque[tuple[Ticket, int]] = deque()
    begun = 0
    contention = CpuContention()
    began, limit = clock(), config.timeout_seconds * 0.8
    while len(latencies) < count:
        now = clock() - began
        waiting = int(np.searchsorted(due, now, side="right")) - begun
        if waiting and len(under_way) < runner.slots:
            if now > limit:
                break
            size = min(waiting, most)
            under_way.append((runner.submit(photos[np.arange(begun, begun + size) % len(photos)]), size))
            begun += size
            if waiting > size and len(under_way) < runner.slots:
                continue
        if not under_way:
            sleep(max(float(due[begun]) - now - _SPIN_SECONDS, 0.0))
            continue
        ticket, size = under_way.popleft()
        runner.collect(ticket)
        done = len(latencies)
        latencies += [1000 * float(seconds) for seconds in (clock() - began) - due[done : done + size]]
    for ticket, _ in under_way:
        runner.collect(ticket)
    return Served(latencies, count, float(due[-1]), clock() - began, contention.other_seconds())


def outcome_from_served(runner: RunnerId, served: Served, config: BenchConfig) -> ScenarioOutcome:
    """Return the outcome of a server: valid if it keeps up, with a 99th percentile within `max_p99_ms` if set."""
    ordered = np.sort(served.latencies_ms)
    p99 = supported_percentile(ordered, 99)
    bound, independent = percentile_bound(np.array_split(served.latencies_ms, _SEGMENTS), 99)
    rate = len(ordered) / served.seconds
    taken = served.taken_seconds
    reason = contention_problem(None if taken is None else min(taken / served.seconds, 1.0), config)
    if not reason and (len(ordered) < served.offered or served.arrived_seconds < _KEEPS_UP * served.seconds):
        reason = f"can't keep up: answers {rate:.0f} of {config.target_qps:g} photos per second"
    if not reason and config.max_p99_ms and p99 is not None and p99 > config.max_p99_ms:
        reason = f"the 99th percentile is {p99:.3g} ms, more than {config.max_p99_ms:g}"
    elif not reason and config.max_p99_ms and bound is None:
        reason = f"no bound of the 99th percentile: {too_few(len(ordered), independent, 'arrival')}"
    elif not reason and config.max_p99_ms and bound is not None and bound > config.max_p99_ms:
        reason = f"the 99th percentile may be {bound:.3g} ms, more than {config.max_p99_ms:g}"
    return ScenarioOutcome(Scenario.SERVER.value, runner, max(config.batches), "p99_ms", p99, not reason, reason)


def with_loadgen(outcome: ScenarioOutcome, result: LoadgenResult) -> ScenarioOutcome:
    """Return the outcome with LoadGen's result, and the reason for a difference of more than 5 %."""
    measured, loadgen, clock = outcome.value, result.value, result.clock_value
    why = ""
    if measured and loadgen and abs(loadgen / measured - 1) > 0.05:
        why = f"LoadGen's {outcome.metric} is {loadgen:.3g}, trtpoets' is {measured:.3g}: "
        if not clock:
            why += "other arrivals, at another time"
        elif abs(clock / measured - 1) > abs(loadgen / clock - 1):
            slower = (clock > measured) == outcome.metric.endswith("_ms")
            speed = "slower" if slower else "faster"
            why += f"the machine was {speed} during LoadGen's run: trtpoets' clock measured {clock:.3g} then"
        else:
            why += f"LoadGen's overhead: trtpoets' clock measured {clock:.3g} for the same queries"
    return replace(outcome, loadgen=replace(result, why=why))
