"""One runner in a benchmark: its process, its measurements and its failures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Sequence

from trtpoets.core.child_process import Child, ChildFailed
from trtpoets.core.runner_id import RunnerId
from trtpoets.core.serialization import FLAT, from_json, to_json
from trtpoets.core.types import Photo
from trtpoets.device.gpu.nvml import memory_of
from trtpoets.device.runners import Runnable, Way, open_runner
from trtpoets.judge.bench.bench_child import description_from_artefact
from trtpoets.judge.bench.bench_config import BenchConfig, Scenario
from trtpoets.judge.bench.measure import Measurement, Watched, measurement_from_rounds
from trtpoets.judge.bench.meter import Finished, Round, Warmup
from trtpoets.judge.bench.scenario import (
    LoadgenResult,
    Outcome,
    Served,
    Streamed,
    outcome_from_rows,
    outcome_from_served,
    outcome_from_streamed,
    with_loadgen,
)
from trtpoets.judge.bench.slowdown_watch import GpuLoad, why_slowed

_PATIENCE = 5.0
"""Seconds for a runner to return its results after an interruption."""

_BUILD_SECONDS = 1800.0
"""Seconds for loading with ONNX Runtime's TensorRT provider, which builds its engine then: minutes on a Jetson."""


@dataclass(frozen=True)
class Failure:
    """A runner that could not be measured, at one batch size or (None) at any, and why."""

    runner: RunnerId = field(metadata=FLAT)
    batch: int | None = None
    why: str = ""


@dataclass
class Heat:
    """The measurement of one runner at one batch size in progress: rounds by their number, as a runner may miss one."""

    warmup: Warmup
    rounds: dict[int, Round] = field(default_factory=dict)
    finished: Watched | None = None

    @property
    def seconds(self) -> float:
        """The duration of all rounds."""
        return sum(each.watched_seconds for each in self.rounds.values())


class Contender:
    """A runner that is measured. Its errors are added to `failures` and never raised.

    `waits` is how it waits for the GPU, once it is loaded; empty where it does not.
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
        self.heats: dict[int, Heat] = {}
        self.failures: list[Failure] = []
        self.waits = ""
        self._slots = 1
        self._artefact, self._way, self._config = artefact, way, config
        self._idle_watts, self._bus_id = idle_watts, bus_id
        self._gpu = False
        self._child: Child | None = None
        self._load_seconds = 0.0

    def load(self, command: Sequence[str], photos: Sequence[Photo], prepared: bool) -> None:
        """Start its process and load it there. `prepared` photos are cropped and resized already."""
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
        reply = self._ask(request, None, self._load_timeout())
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
            self.heats[batch] = Heat(from_json(Warmup, reply["warmup"], self.name))

    def round(self, batch: int, number: int) -> None:
        """Measure one round, unless the runner skips it, failed, or has used up its time for this batch size."""
        config, heat = self._config, self.heats.get(batch)
        rounds = config.rounds_of(self._gpu)
        if heat is None or heat.seconds >= config.max_seconds or number not in rounds:
            return
        count, place = max(config.min_count, config.aim_count), rounds.index(number)
        seconds = config.seconds_of_a_round(self._gpu)
        request = {
            "round": batch,
            "seconds": seconds,
            "count": (place + 1) * count // len(rounds) - place * count // len(rounds),
            "limit": max(config.max_seconds / len(rounds), seconds),
        }
        reply = self._ask(request, batch)
        if reply is not None:
            heat.rounds[number] = from_json(Round, reply["round"], self.name)

    def finish(self, batch: int, *, hurry: bool = False) -> None:
        """Collect the answers of the timed rounds; with `hurry`, of those before an interruption."""
        heat = self.heats.get(batch)
        if heat is None:
            return
        reply = self._ask({"finish": batch}, batch, _PATIENCE if hurry else None) if heat.rounds else None
        if reply is None:
            self.heats.pop(batch, None)
        else:
            held = memory_of(self._child.pid, self._bus_id) if self._child and self._gpu else None
            finished = from_json(Finished, reply["finished"], self.name)
            heat.finished = Watched(
                runner=self.runner,
                batch=batch,
                load_seconds=self._load_seconds,
                answers=finished.answers,
                fault=finished.fault,
                peak_memory_mib=finished.peak_memory_mib,
                gpu_memory_mib=held,
                idle_watts=self._idle_watts,
                interrupted=hurry,
                gpu=self._gpu,
            )

    def measurement(self, batch: int, truth: Sequence[int]) -> Measurement | None:
        """Return the measurement at a batch size; None if it was not finished."""
        heat = self.heats.get(batch)
        if heat is None or heat.finished is None:
            return None
        return measurement_from_rounds(
            heat.warmup, list(heat.rounds.values()), heat.finished, truth, self._config, list(heat.rounds)
        )

    def outcome(self, scenario: Scenario, rows: Sequence[Measurement]) -> Outcome | None:
        """Return the outcome of a scenario, given its measurements `rows`; None if its process has failed."""
        if scenario is not Scenario.SERVER:
            outcome = outcome_from_rows(scenario, rows)
            if scenario is not Scenario.OFFLINE or self._slots == 1:
                return outcome
            reply = self._ask({"stream": outcome.batch}, None)
            if reply is None:
                return None
            streamed = from_json(Streamed, reply["streamed"], self.name)
            return self._unless_slowed(outcome_from_streamed(outcome, streamed, self._config), reply)
        reply = self._ask({"serve": True}, None)
        if reply is None:
            return None
        served = from_json(Served, reply["served"], self.name)
        found = self._unless_slowed(outcome_from_served(self.runner, served, self._config), reply)
        fault = next((row.fault for row in rows if row.fault), "")
        return replace(found, valid=False, reason=fault) if fault else found

    def judged_by_loadgen(self, outcome: Outcome, rows: Sequence[Measurement], logs: Path) -> Outcome:
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
        """End its process."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _ask(self, request: dict[str, Any], batch: int | None, timeout: float | None = None) -> dict[str, Any] | None:
        """Return the reply of its process; None after a failure, which is added to `failures`."""
        if self._child is None:
            return None
        try:
            return self._child.ask(request, timeout or self._config.timeout_seconds)
        except ChildFailed as failed:
            if failed.alive:
                self.failures.append(Failure(self.runner, batch, failed.why))
            else:
                self.failures.append(Failure(self.runner, None, failed.why + (self._so_far() if failed.hung else "")))
                self.end()
        if batch is not None:
            self.heats.pop(batch, None)
        return None

    def _unless_slowed(self, outcome: Outcome, reply: dict[str, Any]) -> Outcome:
        """Return the outcome, not valid if the GPU was throttled."""
        load = None if reply["gpu"] is None else from_json(GpuLoad, reply["gpu"], self.name)
        why = why_slowed([load])
        return replace(outcome, valid=False, reason=outcome.reason or why) if why else outcome

    def _so_far(self) -> str:
        done = sum(heat.finished is not None for heat in self.heats.values())
        rounds = sum(len(heat.rounds) for heat in self.heats.values() if heat.finished is None)
        if done:
            return f", after {done} of {len(self._config.batches)} batch sizes"
        of = len(self._config.rounds_of(self._gpu))
        return f", after {rounds} of {of} rounds" if rounds else ", before its first round"
