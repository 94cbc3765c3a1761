"""The configuration of a benchmark, with checked values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Sequence

from trtpoets.core.errors import BadInput
from trtpoets.core.runner_id import TENSORFLOW

BASELINE = TENSORFLOW.name
"""The runner that the others are compared with, unless another is named: a device has no TensorFlow."""


class Scenario(Enum):
    """The scenarios of MLPerf inference: see `scenario.py`."""

    SINGLE_STREAM = "single-stream"
    MULTI_STREAM = "multi-stream"
    OFFLINE = "offline"
    SERVER = "server"


@dataclass(frozen=True)
class BenchConfig:
    """The configuration of a benchmark. Times are in seconds.

    All runners are measured alternately in `rounds` rounds, so that a machine that becomes slower affects all of them
    equally. All rounds of a batch size together take `min_seconds` of inference and `min_count` inferences, whichever
    is later, but at most `max_seconds`. Within these limits, `aim_count` inferences are timed. A warm-up of at least
    `warmup_seconds` comes first; it ends when the latency is stable.

    A runner on a GPU is measured in `gpu_rounds` of the rounds, spread evenly, for at least `gpu_round_seconds` each.
    Before each round the GPU is kept busy for `gpu_settle_seconds` and until its latency is steady: its clock falls
    while other runners are measured, and takes some tenths of a second to rise.

    `threads` is the number of cores that each runner is pinned to; 0 means all usable cores. `timeout_seconds` applies
    to one step: loading, warming up, or one round. At most `photos` photos are used, repeatedly. A measurement is not
    valid if other processes use more than the share `max_others` of the cores of the measured process.

    With `ratio_within` above 0, a batch size ends before its last round when each runner's ratio to the baseline is
    known to that share (`early_stop.py`). 0 measures all rounds.

    With `wall_seconds` above 0, the benchmark takes about that long, including the loading of its runners: they are
    loaded at the same time, which makes `load_seconds` longer, and each batch size ends after its share of the time,
    but not before each runner has a median and an interval. If an inference takes more than 0.1 s, the untimed
    inferences before each round and the end-to-end clock are then omitted; otherwise that clock takes no more than its
    share of the time. 0 sets no limit.

    `xla` adds TensorFlow compiled by XLA, `keras` adds Keras' `predict`, and `cpu` adds TensorFlow on the CPU on a
    machine where TensorFlow uses a GPU. `qdq_on_cpu` measures int8.onnx on a machine without a GPU, where ONNX Runtime
    does not fuse it.

    `scenario` is the value of a `Scenario`, or "" for none. In the server scenario, `target_qps` photos arrive per
    second, and the 99th percentile of the latency may be at most `max_p99_ms` (0: no limit). With `loadgen`, MLPerf's
    LoadGen measures the scenario too.
    """

    batches: tuple[int, ...] = (1, 8)
    min_seconds: float = 2.0
    min_count: int = 64
    aim_count: int = 0
    max_seconds: float = 20.0
    warmup_seconds: float = 0.5
    rounds: int = 20
    gpu_rounds: int = 10
    gpu_round_seconds: float = 0.4
    gpu_settle_seconds: float = 0.3
    threads: int = 0
    timeout_seconds: float = 120.0
    photos: int = 128
    max_others: float = 0.25
    ratio_within: float = 0.0
    wall_seconds: float = 0.0
    xla: bool = False
    keras: bool = False
    cpu: bool = False
    qdq_on_cpu: bool = False
    scenario: str = ""
    target_qps: float = 0.0
    max_p99_ms: float = 0.0
    loadgen: bool = False

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1 or len(set(self.batches)) != len(self.batches):
            raise BadInput(
                f"batch sizes must be different and at least 1, not {list(self.batches)}",
                hint="give different sizes of at least 1, such as --batch 1 --batch 8",
                code="TP5001",
            )
        if self.min_count < 1 or self.photos < 1 or self.threads < 0 or min(self.rounds, self.gpu_rounds) < 1:
            raise BadInput(
                f"{self.min_count} inferences, {self.photos} photos and {self.rounds} rounds must each be at least 1, "
                f"and {self.threads} threads at least 0",
                hint="give at least one inference, one photo and one round, and 0 threads or more",
                code="TP5002",
            )
        at_least = (
            self.min_seconds,
            self.warmup_seconds,
            self.gpu_round_seconds,
            self.gpu_settle_seconds,
            self.wall_seconds,
        )
        numbers = (*at_least, self.max_seconds, self.timeout_seconds)
        rates = (self.target_qps, self.max_p99_ms, self.ratio_within)
        infinite = [number for number in (*numbers, *rates) if not math.isfinite(number)]
        if infinite:
            raise BadInput(
                f"times and rates must be finite, not {infinite[0]}",
                hint="give finite numbers, such as --seconds 2",
                code="TP5003",
            )
        if min(self.target_qps, self.max_p99_ms) < 0:
            raise BadInput(
                f"the rate ({self.target_qps:g} photos/s) and the latency limit ({self.max_p99_ms:g} ms) must not be "
                "negative",
                hint="give numbers above 0",
                code="TP5004",
            )
        if not 0 <= self.ratio_within < 1:
            raise BadInput(
                f"the accuracy of a ratio must be at least 0 and below 1, not {self.ratio_within:g}",
                hint="give 0.05 to stop at ±5 %, or 0 to measure all rounds",
                code="TP5180",
            )
        if min(at_least) < 0 or not 0 < self.max_seconds <= self.timeout_seconds:
            raise BadInput(
                "times must not be negative, and the longest timing must be above 0 and at most the timeout, not "
                f"{self.min_seconds} to {self.max_seconds} s with a timeout of {self.timeout_seconds} s",
                hint="give times above 0, and a timeout that is longer than the timing",
                code="TP5005",
            )

    def rounds_of(self, gpu: bool) -> Sequence[int]:
        """Return the numbers, from 0, of the rounds in which a runner is measured; fewer on a GPU.

        All runners are measured in their order in even rounds and in reverse order in odd ones. The rounds of runners
        on a GPU are chosen so that even and odd ones alternate.
        """
        if not gpu or self.rounds <= self.gpu_rounds:
            return range(self.rounds)
        starts = [turn * self.rounds // self.gpu_rounds for turn in range(self.gpu_rounds)]
        return [min(start + (start - turn) % 2, self.rounds - 1) for turn, start in enumerate(starts)]

    def seconds_of_a_round(self, gpu: bool) -> float:
        """Return the shortest duration of a round, in seconds."""
        share = self.min_seconds / len(self.rounds_of(gpu))
        return max(share, self.gpu_round_seconds) if gpu else share
