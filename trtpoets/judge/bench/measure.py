"""Summarises the rounds of a runner as a Measurement, and decides whether it is valid."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol, Sequence

import numpy as np

from trtpoets.core.runner_id import RunnerId
from trtpoets.core.serialization import FLAT
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.judge.bench.meter import Round, Warmup
from trtpoets.judge.bench.rounds import percentile_bound
from trtpoets.judge.bench.slowdown_watch import GpuSummary, gpu_summary, throttling_problem
from trtpoets.judge.statistics import coefficient_of_variation, least_count, percentile, supported_percentile

_MIN_WATCH = 0.5
"""Seconds below which the kernel's counters, in hundredths of a second, are too coarse to measure other processes."""


@dataclass(frozen=True)
class Clock:
    """Durations by one clock, in milliseconds. A percentile that the count does not support is None."""

    count: int
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class DeviceClock(Clock):
    """Durations by the GPU's clock: copies and computation together, and the median of each part.

    `enqueue_ms` is the host's time to queue the computation. `graph` says whether a CUDA graph was replayed; None where
    the library decides.
    """

    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    enqueue_ms: float
    graph: bool | None


_UNCLEAR = 4.0
"""The quotient of the ends of a ratio's interval above which the interval is not shown."""


@dataclass(frozen=True)
class Measurement:
    """The measurement of one runner at one batch size. A percentile that the count does not support is None.

    Times without a clock in their name are those of the inference clock: from photos in memory to scores on the host.
    `count` inferences took `seconds` in total. They count as `independent_count` independent inferences. `p99_bound_ms`
    is the upper bound of the 99th percentile, with 99 % confidence; None with fewer than 662 independent inferences.
    `round_p50_ms` is the median of each round, `round_numbers` are the numbers of the rounds, from 0: a runner on a GPU
    is measured in fewer rounds than others. `round_sm_mhz` is the GPU's clock at the end of each round, in MHz, and
    `gpu_state` the state of the GPU in all rounds; [] and None for a runner that uses no GPU. `quantiles_ms` are the
    0th, 5th ... 100th percentile, for plots. `first_ms` is the first inference at this batch size. `load_seconds` is
    the time to load the runner, with its imports. `cv` is the standard deviation over the mean. `peak_memory_mib` is
    that of the process so far, with the photos. `accuracy` is that of the answers of the timed run; None if the
    classifier does not have the labels of the photos. `others` is the share 0..1 of the process's cores that other
    processes used; None if the timing was too short. `device` and `end_to_end` are the other two clocks; None if they
    did not run. `joules_per_photo` is the energy beyond that of the idle machine; None without a sensor (the conditions
    name the part of the machine that it covers). `valid` is False if the numbers must not be used, for `reason`;
    `fault` describes wrong answers, or is empty.

    `speedup` is the ratio of TensorFlow's latency to that of this runner at the same batch size: the median over the
    rounds of the ratio of both medians. The ratio of another run under the same conditions is between `speedup_low` and
    `speedup_high`, with 95 % confidence for all `speedup_rows` ratios of a benchmark together. `drifts` is True where
    the ratio changed during the measurement, or depends on that of the round before: there is then no interval.

    Fields with a default may be missing in benchmark.json of an earlier version.
    """

    runner: RunnerId = field(metadata=FLAT)
    batch: int
    valid: bool
    count: int = 0
    seconds: float = 0.0
    load_seconds: float = 0.0
    first_ms: float = 0.0
    warmup_seconds: float = 0.0
    mean_ms: float = 0.0
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    p99_bound_ms: float | None = None
    independent_count: int = 0
    photos_per_s: float = 0.0
    cv: float = 0.0
    round_p50_ms: list[float] = field(default_factory=list)
    round_numbers: list[int] = field(default_factory=list)
    round_sm_mhz: list[float | None] = field(default_factory=list)
    quantiles_ms: list[float] = field(default_factory=list)
    peak_memory_mib: float | None = None
    gpu_memory_mib: float | None = None
    gpu_state: GpuSummary | None = None
    accuracy: float | None = None
    others: float | None = None
    device: DeviceClock | None = None
    end_to_end: Clock | None = None
    joules_per_photo: float | None = None
    reason: str = ""
    speedup: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None
    speedup_rows: int = 0
    drifts: bool = False
    fault: str = ""

    @property
    def is_unclear(self) -> bool:
        """Whether the rounds differ so much that the ratio is not even known to a factor of two in both directions."""
        low, high = self.speedup_low, self.speedup_high
        return low is not None and high is not None and high > _UNCLEAR * low


@dataclass(frozen=True)
class RunDetails:
    """The parts of a measurement that are not times: see Measurement and Finished.

    `stopped` says that the benchmark ended before its last round, because the ratios were accurate or the time was
    up.
    """

    runner: RunnerId
    batch: int
    load_seconds: float
    answers: Sequence[int]
    fault: str
    peak_memory_mib: float | None
    gpu_memory_mib: float | None = None
    idle_watts: float | None = None
    interrupted: bool = False
    gpu: bool = False
    stopped: bool = False


def measurement_from_rounds(
    warmup: Warmup,
    rounds: Sequence[Round],
    details: RunDetails,
    truth: Sequence[int],
    config: BenchConfig,
    numbers: Sequence[int] = (),
) -> Measurement:
    """Return the measurement from the rounds of one runner at one batch size.

    `truth` is the index of each photo's label, -1 for an unknown label. `numbers` are the numbers of the rounds in the
    benchmark; () means that no round was skipped.
    """
    spans = np.array([span for round_ in rounds for span in round_.spans], dtype=np.float64)
    others = _share_of_others(rounds)
    planned = len(config.rounds_of(details.gpu))
    interruption = f"interrupted after {len(rounds)} of {planned} rounds" if details.interrupted else ""
    least_seconds = config.min_seconds * (len(rounds) / planned if details.stopped else 1.0)
    reason = (
        details.fault
        or _timing_problem(spans, warmup, config, interruption, least_seconds)
        or contention_problem(others, config)
        or _gpu_problem(rounds)
    )
    ordered = np.sort(spans) / 1e6
    seconds = float(spans.sum()) / 1e9
    bound = percentile_bound([round_.spans for round_ in rounds], 99)
    return Measurement(
        runner=details.runner,
        batch=details.batch,
        count=len(spans),
        seconds=seconds,
        load_seconds=details.load_seconds,
        first_ms=warmup.first_ms,
        warmup_seconds=warmup.seconds,
        mean_ms=float(ordered.mean()),
        p50_ms=supported_percentile(ordered, 50),
        p90_ms=supported_percentile(ordered, 90),
        p95_ms=supported_percentile(ordered, 95),
        p99_ms=supported_percentile(ordered, 99),
        p99_bound_ms=None if bound.value is None else bound.value / 1e6,
        independent_count=bound.independent,
        photos_per_s=len(spans) * details.batch / max(seconds, 1e-9),
        cv=coefficient_of_variation(ordered),
        round_p50_ms=[float(np.median(round_.spans)) / 1e6 for round_ in rounds],
        round_numbers=list(numbers) or list(range(len(rounds))),
        round_sm_mhz=[round_.gpu.sm_mhz for round_ in rounds if round_.gpu],
        quantiles_ms=[percentile(ordered, percent) for percent in range(0, 101, 5)],
        peak_memory_mib=details.peak_memory_mib,
        gpu_memory_mib=details.gpu_memory_mib,
        gpu_state=gpu_summary(round_.gpu for round_ in rounds),
        accuracy=_accuracy(np.asarray(details.answers), np.asarray(truth)),
        others=others,
        device=_device(rounds),
        end_to_end=_clock(np.array([span for round_ in rounds for span in round_.end_to_end], dtype=np.float64) / 1e6),
        joules_per_photo=_energy(rounds, details),
        valid=not reason,
        reason=reason,
        fault=details.fault,
    )


class Timed(Protocol):
    """The fields of a measurement, or of a candidate, that estimate the duration of a measurement."""

    @property
    def batch(self) -> int:
        """The batch size."""

    @property
    def count(self) -> int:
        """The number of inferences that were timed."""

    @property
    def independent_count(self) -> int:
        """The effective number of independent inferences."""

    @property
    def photos_per_s(self) -> float:
        """The throughput in photos per second."""


def seconds_for_a_bound(row: Timed) -> int:
    """Return how many seconds to measure for a bound of the 99th percentile, estimated from a measurement.

    The estimate is proportional to the independent inferences that are needed; where their number is unknown, half of
    the inferences count as independent.
    """
    needed, count = least_count(99), max(row.count, 1)
    inferences = 1.2 * needed * count / row.independent_count if row.independent_count else 2.0 * needed
    return math.ceil(inferences * row.batch / max(row.photos_per_s, 1e-9))


def late_percentile(row: Measurement, limit: float) -> tuple[int, float] | None:
    """Return the highest known percentile that exceeds `limit` ms, and its value in ms; None where none does."""
    percentiles = ((99, row.p99_ms), (95, row.p95_ms), (90, row.p90_ms), (50, row.p50_ms))
    return next(((percent, value) for percent, value in percentiles if value is not None and value > limit), None)


def _clock(milliseconds: np.ndarray) -> Clock | None:
    if not len(milliseconds):
        return None
    ordered = np.sort(milliseconds)
    return Clock(len(ordered), *(supported_percentile(ordered, percent) for percent in (50, 90, 99)))


def _device(rounds: Sequence[Round]) -> DeviceClock | None:
    rows = np.array([row for round_ in rounds for row in round_.device], dtype=np.float64)
    if not len(rows):
        return None
    whole = _clock(rows[:, :3].sum(axis=1))
    assert whole is not None
    h2d, compute, d2h, enqueue = (float(part) for part in np.median(rows, axis=0))
    graph = next(round_.graph for round_ in reversed(rounds) if round_.device)
    return DeviceClock(whole.count, whole.p50_ms, whole.p90_ms, whole.p99_ms, h2d, compute, d2h, enqueue, graph)


def _energy(rounds: Sequence[Round], details: RunDetails) -> float | None:
    """Return joules per photo beyond those of the idle machine; None if the difference is not measurable."""
    used = [round_.joules for round_ in rounds]
    if details.idle_watts is None or None in used:
        return None
    seconds = sum(round_.watched_seconds for round_ in rounds)
    photos = details.batch * sum(len(round_.spans) for round_ in rounds)
    more = sum(joules for joules in used if joules is not None) - details.idle_watts * seconds
    return more / photos if more > 0 else None


def _share_of_others(rounds: Sequence[Round]) -> float | None:
    seconds = sum(round_.watched_seconds for round_ in rounds)
    if seconds < _MIN_WATCH:
        return None
    taken = 0.0
    for round_ in rounds:
        if round_.taken_seconds is None:
            return None
        taken += round_.taken_seconds
    return min(max(taken / seconds, 0.0), 1.0)


def _timing_problem(
    spans: np.ndarray, warmup: Warmup, config: BenchConfig, interruption: str, least_seconds: float
) -> str:
    """Return why the timing must not be used, or "". `interruption` is the reason for missing rounds, or "".

    A percentile that the count does not support is left out; without a median there is nothing to report.
    """
    if (spans <= 0).any():
        return "the clock stood still or went backwards"
    if interruption and len(spans) < config.min_count:
        return interruption
    if len(spans) < min(config.min_count, least_count(50)):
        return f"only {len(spans)} of {config.min_count} inferences in {config.max_seconds:g} s: too slow, or too busy"
    # Sums of the same spans in another order differ in the last bits.
    if spans.sum() < least_seconds * 1e9 * (1 - 1e-9):
        return interruption or f"timed for {spans.sum() / 1e9:.2f} of {least_seconds:g} s: too slow, or too busy"
    if not warmup.stable:
        return f"not steady after {warmup.seconds:.1f} s of warm-up: measure again on a quieter or cooler machine"
    return ""


def _gpu_problem(rounds: Sequence[Round]) -> str:
    """Return why the GPU disturbed some of a runner's rounds, or ""."""
    throttled = throttling_problem(round_.gpu for round_ in rounds)
    if throttled:
        return throttled
    unsettled = [round_.settle_seconds for round_ in rounds if not round_.settled]
    if unsettled:
        which = f"before {len(unsettled)} of {len(rounds)} rounds"
        return f"the GPU was not steady after {max(unsettled):.1f} s of work {which}: end other programs on it"
    return ""


def contention_problem(others: float | None, config: BenchConfig) -> str:
    """Return why a measurement is not valid if other processes used the share `others` of the cores, or ""."""
    if others is None or others <= config.max_others:
        return ""
    return f"other processes used {others:.0%} of the cores meanwhile: measure again on a quieter machine"


def _accuracy(answers: np.ndarray, truth: np.ndarray) -> float | None:
    labelled = (answers >= 0) & (truth >= 0)
    return float((answers == truth)[labelled].mean()) if labelled.any() else None
