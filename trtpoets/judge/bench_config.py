"""How to measure: what `bench` may be told, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from trtpoets.core.errors import BadInput


class Scenario(Enum):
    """MLPerf's ways to ask for work: see judge/scenario.py."""

    SINGLE_STREAM = "single-stream"
    MULTI_STREAM = "multi-stream"
    OFFLINE = "offline"
    SERVER = "server"


@dataclass(frozen=True)
class BenchConfig:
    """How to measure. Times are in seconds.

    All runners are measured in turn, `rounds` times over, so that a machine that gets slower hurts all alike. In all
    its rounds a batch size is timed for `min_seconds` of inference and `min_count` inferences, whichever is later, but
    no longer than `max_seconds`; for `aim_count` inferences where these allow it. Before, it is warmed up for
    `warmup_seconds` at least, and until it is stable.

    `threads` 0 leaves all usable cores to each runner; otherwise each is pinned to that many. `timeout_seconds` is for
    one step: loading, warming up, or one round. At most `photos` photos are used, again and again. Where other
    processes use more than the share `max_others` of our cores, the numbers are as much about them: not valid.

    `xla` and `keras` add TensorFlow compiled by XLA, and Keras' `predict` as people call it; `cpu` TensorFlow on the
    CPU, for a machine where it uses a GPU.

    `scenario` is one of MLPerf's ("" for none; judge/scenario.py), where a server is asked for `target_qps` photos a
    second and may take `max_p99_ms` (0: as long as it likes). With `loadgen`, MLPerf's LoadGen judges it too.
    """

    batches: tuple[int, ...] = (1, 8)
    min_seconds: float = 2.0
    min_count: int = 64
    aim_count: int = 0
    max_seconds: float = 20.0
    warmup_seconds: float = 0.5
    rounds: int = 20
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
                f"batch sizes {list(self.batches)}", hint="give different sizes of at least 1: --batch 1 --batch 8"
            )
        if self.min_count < 1 or self.photos < 1 or self.threads < 0 or self.rounds < 1:
            raise BadInput(
                f"at least {self.min_count} inferences of {self.photos} photos on {self.threads} threads, "
                f"in {self.rounds} rounds",
                hint="give at least one inference, one photo and one round, and 0 threads or more",
            )
        numbers = (self.min_seconds, self.max_seconds, self.warmup_seconds, self.timeout_seconds)
        endless = [number for number in (*numbers, self.target_qps, self.max_p99_ms) if not math.isfinite(number)]
        if endless:
            raise BadInput(f"{endless[0]} is no time and no rate", hint="give finite numbers: --seconds 2")
        if min(self.target_qps, self.max_p99_ms) < 0:
            raise BadInput(
                f"{self.target_qps:g} photos a second within {self.max_p99_ms:g} ms", hint="give numbers above 0"
            )
        if min(self.min_seconds, self.warmup_seconds) < 0 or not 0 < self.max_seconds <= self.timeout_seconds:
            raise BadInput(
                f"timing for {self.min_seconds} to {self.max_seconds} s with a limit of {self.timeout_seconds} s",
                hint="give times above 0, and a limit that is longer than the timing",
            )
