"""One runner in a benchmark: its process, its measurements and its failures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from trtpoets.core.child_process import Child, ChildFailed
from trtpoets.core.runner_id import RunnerId
from trtpoets.core.serialization import FLAT, from_json, to_json
from trtpoets.core.types import Photo
from trtpoets.device.gpu.nvml import memory_of
from trtpoets.device.runners import Runnable, Way, open_runner
from trtpoets.judge.bench.bench_child import description_from_artefact
from trtpoets.judge.bench.bench_config import BenchConfig, Scenario
from trtpoets.judge.bench.early_stop import least_in_a_round
from trtpoets.judge.bench.measure import Measurement, RunDetails, measurement_from_rounds
from trtpoets.judge.bench.meter import Finished, Round, Warmup
from trtpoets.judge.bench.scenario import (
    LoadgenResult,
    ScenarioOutcome,
    Served,
    Streamed,
    outcome_from_rows,
    outcome_from_served,
    outcome_from_streamed,
    with_loadgen,
)
from trtpoets.judge.bench.slowdown_watch import GpuLoad, throttling_problem

_INTERRUPTED_SECONDS = 5.0
"""Timeout in seconds for the results of a runner after an interruption."""

_BUILD_SECONDS = 1800.0
"""Timeout in seconds for loading with ONNX Runtime's TensorRT provider: it builds an engine, which takes minutes."""


@dataclass(frozen=True)
class BenchFailure:
    """The reason `why` a runner could not be measured at a batch size; `batch` None means at no batch size."""

    runner: RunnerId = field(metadata=FLAT)
    batch: int | None = None
    why: str = ""


@dataclass
class BatchRounds:
    """The rounds of one runner at one batch size, by their number; a runner may skip rounds."""

    warmup: Warmup
    rounds: dict[int, Round] = field(default_factory=dict)
    finished: RunDetails | None = None

    @property
    def seconds(self) -> float:
        """The duration of all rounds."""
        return sum(round_.watched_seconds for round_ in self.rounds.values())

    @property
    def medians(self) -> dict[int, float]:
        """The median latency of each round, in nanoseconds, by its number."""
        return {number: float(np.median(round_.spans)) for number, round_ in self.rounds.items() if round_.spans}


class MeasuredRunner:
    """A runner that is measured. Its errors are added to `failures` and never raised.

    `waits` is how it waits for the GPU, set when it is loaded; empty for a runner on the CPU.
    """

    def __init__(
        self,
        artefact: Runnable,
        way: Way,
        config: BenchConfig,
        idle_watts: float | None = None,
        bus_id: str | None = None,
    ) -> None:
        """`idle_watts` is the power when idle, None without a sensor; `bus_id` is the PCI bus id of CUDA's GPU."""
        self.runner = open_runner(artefact, way=way).identity
        self.name = self.runner.name
        self.batch_rounds: dict[int, BatchRounds] = {}
        self.failures: list[BenchFailure] = []
        self.waits = ""
        self._slots = 1
        self._artefact, self._way, self._config = artefact, way, config
        self._idle_watts, self._bus_id = idle_watts, bus_id
        self._gpu = False
        self._child: Child | None = None
        self._load_seconds = 0.0

    def load(self, command: Sequence[str], photos: Sequence[Photo], prepared: bool) -> None:
        """Start the process that loads the runner, without waiting. `prepared` photos are cropped and resized."""
        self._child = Child(command, self._config.threads)
        request = {
            "artefact": description_from_artefact(self._artefact),
            "way": self._way.value,
            "photos": [[str(photo.path.resolve()), photo.sha256] for photo in photos],
            "prepared": prepared,
            "config": to_json(self._config),
            "energy": self._idle_watts is not None,
            "bus_id": self._bus_id,
        }
        self._child.begin(request)

    def wait_loaded(self) -> None:
        """Wait until the process has loaded the runner."""
        reply = self._answer(None, self._load_timeout())
        if reply is None:
            self.end()
        else:
            self._load_seconds, self._gpu = reply["loaded"], reply["gpu"]
            self.waits, self._slots = reply["waits"], reply["slots"]

    def _load_timeout(self) -> float | None:
        """Return the timeout for loading in seconds; None for the usual one."""
        return max(_BUILD_SECONDS, self._config.timeout_seconds) if self._way is Way.TENSORRT else None

    def warm_up(self, batch: int) -> None:
        """Warm up at a batch size."""
        reply = self._ask({"warm_up": batch}, batch)
        if reply is not None:
            self.batch_rounds[batch] = BatchRounds(from_json(Warmup, reply["warmup"], self.name))

    def round(self, batch: int, number: int) -> None:
        """Measure one round. Does nothing if the runner skips it, has failed, or has used up its time."""
        config, batch_rounds = self._config, self.batch_rounds.get(batch)
        rounds = config.rounds_of(self._gpu)
        if batch_rounds is None or batch_rounds.seconds >= config.max_seconds or number not in rounds:
            return
        count, place = max(config.min_count, config.aim_count), rounds.index(number)
        seconds = config.seconds_of_a_round(self._gpu)
        share = (place + 1) * count // len(rounds) - place * count // len(rounds)
        request = {
            "round": batch,
            "seconds": seconds,
            "count": max(share, least_in_a_round(config)),
            "limit": max(config.max_seconds / len(rounds), seconds),
        }
        reply = self._ask(request, batch)
        if reply is not None:
            batch_rounds.rounds[number] = from_json(Round, reply["round"], self.name)

    def counts(self, batch: int) -> tuple[int, int] | None:
        """Return how many rounds and inferences were timed; None where no more can be, after a failure or its time."""
        batch_rounds = self.batch_rounds.get(batch)
        if batch_rounds is None or batch_rounds.seconds >= self._config.max_seconds:
            return None
        return len(batch_rounds.rounds), sum(len(round_.spans) for round_ in batch_rounds.rounds.values())

    def finish(self, batch: int, *, interrupted: bool = False, stopped: bool = False) -> None:
        """Collect the answers of the timed rounds.

        With `interrupted`, the answers are those before an interruption, and the runner has little time to send them.
        `stopped` says that the batch size ended before its last round, because the ratios were accurate or the time
        limit was reached.
        """
        batch_rounds = self.batch_rounds.get(batch)
        if batch_rounds is None:
            return
        reply = (
            self._ask({"finish": batch}, batch, _INTERRUPTED_SECONDS if interrupted else None)
            if batch_rounds.rounds
            else None
        )
        if reply is None:
            self.batch_rounds.pop(batch, None)
        else:
            gpu_memory = memory_of(self._child.pid, self._bus_id) if self._child and self._gpu else None
            finished = from_json(Finished, reply["finished"], self.name)
            batch_rounds.finished = RunDetails(
                runner=self.runner,
                batch=batch,
                load_seconds=self._load_seconds,
                answers=finished.answers,
                fault=finished.fault,
                peak_memory_mib=finished.peak_memory_mib,
                gpu_memory_mib=gpu_memory,
                idle_watts=self._idle_watts,
                interrupted=interrupted,
                stopped=stopped,
                gpu=self._gpu,
            )

    def finish_interrupted(self) -> None:
        """Collect the answers of the batch sizes that an interruption left unfinished."""
        for batch, batch_rounds in list(self.batch_rounds.items()):
            if batch_rounds.finished is None:
                self.finish(batch, interrupted=True)

    def measurement(self, batch: int, truth: Sequence[int]) -> Measurement | None:
        """Return the measurement at a batch size; None if it was not finished."""
        batch_rounds = self.batch_rounds.get(batch)
        if batch_rounds is None or batch_rounds.finished is None:
            return None
        return measurement_from_rounds(
            batch_rounds.warmup,
            list(batch_rounds.rounds.values()),
            batch_rounds.finished,
            truth,
            self._config,
            list(batch_rounds.rounds),
        )

    def outcome(self, scenario: Scenario, rows: Sequence[Measurement]) -> ScenarioOutcome | None:
        """Return the outcome of a scenario, given its measurements `rows`; None if its process has failed."""
        if scenario is not Scenario.SERVER:
            outcome = outcome_from_rows(scenario, rows)
            if scenario is not Scenario.OFFLINE or self._slots == 1:
                return outcome
            reply = self._ask({"stream": outcome.batch}, None)
            if reply is None:
                return None
            streamed = from_json(Streamed, reply["streamed"], self.name)
            return self._unless_throttled(outcome_from_streamed(outcome, streamed, self._config), reply)
        reply = self._ask({"serve": True}, None)
        if reply is None:
            return None
        served = from_json(Served, reply["served"], self.name)
        outcome = self._unless_throttled(outcome_from_served(self.runner, served, self._config), reply)
        fault = next((row.fault for row in rows if row.fault), "")
        return replace(outcome, valid=False, reason=fault) if fault else outcome

    def with_loadgen_result(self, outcome: ScenarioOutcome, rows: Sequence[Measurement], logs: Path) -> ScenarioOutcome:
        """Return the outcome with LoadGen's result; unchanged if LoadGen failed, which is added to `failures`."""
        measured = next((row for row in rows if row.batch == outcome.batch), None)
        if measured is None:
            return outcome
        request = {
            "loadgen": outcome.scenario,
            "batch": outcome.batch,
            "median_ms": measured.mean_ms if measured.p50_ms is None else measured.p50_ms,
            "out": str((logs / f"{self.name}-{outcome.scenario}").resolve()),
        }
        reply = self._ask(request, None)
        return with_loadgen(outcome, from_json(LoadgenResult, reply["judged"], self.name)) if reply else outcome

    def end(self) -> None:
        """End the process of the runner."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _ask(self, request: dict[str, Any], batch: int | None, timeout: float | None = None) -> dict[str, Any] | None:
        """Return the reply of the process to a request; None after a failure, which is added to `failures`."""
        if self._child is not None:
            self._child.begin(request)
        return self._answer(batch, timeout)

    def _answer(self, batch: int | None, timeout: float | None = None) -> dict[str, Any] | None:
        """Return the reply to the last request; None after a failure, which is added to `failures`."""
        if self._child is None:
            return None
        try:
            return self._child.answer(timeout or self._config.timeout_seconds)
        except ChildFailed as failed:
            if failed.alive:
                self.failures.append(BenchFailure(self.runner, batch, failed.why))
            else:
                self.failures.append(
                    BenchFailure(self.runner, None, failed.why + (self._progress_text() if failed.hung else ""))
                )
                self.end()
        if batch is not None:
            self.batch_rounds.pop(batch, None)
        return None

    def _unless_throttled(self, outcome: ScenarioOutcome, reply: dict[str, Any]) -> ScenarioOutcome:
        """Return the outcome, not valid if the GPU was throttled."""
        load = None if reply["gpu"] is None else from_json(GpuLoad, reply["gpu"], self.name)
        why = throttling_problem([load])
        return replace(outcome, valid=False, reason=outcome.reason or why) if why else outcome

    def _progress_text(self) -> str:
        done = sum(measured.finished is not None for measured in self.batch_rounds.values())
        rounds = sum(len(measured.rounds) for measured in self.batch_rounds.values() if measured.finished is None)
        if done:
            return f", after {done} of {len(self._config.batches)} batch sizes"
        of = len(self._config.rounds_of(self._gpu))
        return f", after {rounds} of {of} rounds" if rounds else ", before its first round"
