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
    """MLPerf's scenarios: see `scenario.py`."""

    SINGLE_STREAM = "single-stream"
    MULTI_STREAM = "multi-stream"
    OFFLINE = "offline"
    SERVER = "server"


@dataclass(frozen=True)
class BenchConfig:
    """The configuration of a benchmark. Times are in seconds.

    All runners are measured in turn in `rounds` rounds, so that a machine that becomes slower affects all of them
    alike. In all its rounds a batch size is timed for `min_seconds` of inference and `min_count` inferences, whichever
    is later, but no longer than `max_seconds`; for `aim_count` inferences where these allow it. Before, it is warmed up
    for `warmup_seconds` at least, and until it is stable.

    A runner on a GPU takes part in `gpu_rounds` of the rounds, spread evenly, each of `gpu_round_seconds` at least,
    after the GPU has been kept busy for `gpu_settle_seconds` and is steady: its clock falls while other runners
    are measured, and takes some tenths of a second to rise.

    `threads` 0 leaves all usable cores to each runner; otherwise each is pinned to that many. `timeout_seconds` is for
    one step: loading, warming up, or one round. At most `photos` photos are used, again and again. Where other
    processes use more than the share `max_others` of our cores, the measurement is not valid.

    `xla` and `keras` add TensorFlow compiled by XLA, and Keras' `predict`; `cpu` TensorFlow on the
    CPU, for a machine where it uses a GPU.

    `scenario` is one of MLPerf's ("" for none; `scenario.py`), where a server gets `target_qps` photos per
    second and its 99th percentile may be at most `max_p99_ms` (0: no limit). With `loadgen`, MLPerf's LoadGen measures
    the scenario too.
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
    xla: bool = False
    keras: bool = False
    cpu: bool = False
    scenario: str = ""
    target_qps: float = 0.0
    max_p99_ms: float = 0.0
    loadgen: bool = False

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1 or len(set(self.batches)) != len(self.batches):
            raise BadInput(
                f"batch sizes {list(self.batches)}",
                hint="give different sizes of at least 1: --batch 1 --batch 8",
                code="TP5001",
            )
        if self.min_count < 1 or self.photos < 1 or self.threads < 0 or min(self.rounds, self.gpu_rounds) < 1:
            raise BadInput(
                f"at least {self.min_count} inferences of {self.photos} photos on {self.threads} threads, "
                f"in {self.rounds} rounds",
                hint="give at least one inference, one photo and one round, and 0 threads or more",
                code="TP5002",
            )
        at_least = (self.min_seconds, self.warmup_seconds, self.gpu_round_seconds, self.gpu_settle_seconds)
        numbers = (*at_least, self.max_seconds, self.timeout_seconds)
        endless = [number for number in (*numbers, self.target_qps, self.max_p99_ms) if not math.isfinite(number)]
        if endless:
            raise BadInput(
                f"{endless[0]} is no time and no rate", hint="give finite numbers: --seconds 2", code="TP5003"
            )
        if min(self.target_qps, self.max_p99_ms) < 0:
            raise BadInput(
                f"{self.target_qps:g} photos a second within {self.max_p99_ms:g} ms",
                hint="give numbers above 0",
                code="TP5004",
            )
        if min(at_least) < 0 or not 0 < self.max_seconds <= self.timeout_seconds:
            raise BadInput(
                f"timing for {self.min_seconds} to {self.max_seconds} s with a limit of {self.timeout_seconds} s",
                hint="give times above 0, and a limit that is longer than the timing",
                code="TP5005",
            )

    def rounds_of(self, gpu: bool) -> Sequence[int]:
        """Return the numbers of the rounds that a runner takes part in, from 0; fewer on a GPU.

        As all runners go forwards in even rounds and backwards in odd ones, so do those on a GPU in theirs by turns.
        """
        if not gpu or self.rounds <= self.gpu_rounds:
            return range(self.rounds)
        starts = [turn * self.rounds // self.gpu_rounds for turn in range(self.gpu_rounds)]
        return [min(start + (start - turn) % 2, self.rounds - 1) for turn, start in enumerate(starts)]

    def seconds_of_a_round(self, gpu: bool) -> float:
        """Return the shortest duration of a round."""
        share = self.min_seconds / len(self.rounds_of(gpu))
        return max(share, self.gpu_round_seconds) if gpu else share
