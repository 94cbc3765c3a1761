"""Measures the speed of runners, each in its own process, and compares it with a baseline, by default TensorFlow.

Each round measures all runners, alternately in their order and in reverse order, so that a drift of the machine affects
all of them equally. A ratio is computed for each round, and the rounds give its interval (Kalibera and Jones, 2013). A
runner that crashes, hangs or raises an exception is listed with the reason instead of measurements; the others are not
affected.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from trtpoets.core.child_process import python_program
from trtpoets.core.errors import BadInput
from trtpoets.core.labels import label_indices
from trtpoets.core.progress import PARTS, Progress, silent
from trtpoets.core.serialization import OPTIONAL
from trtpoets.core.types import Engine, ModelSpec, Photo, Skipped
from trtpoets.device.runners import Runnable, Way
from trtpoets.judge.bench.bench_config import BASELINE, BenchConfig, Scenario
from trtpoets.judge.bench.compare import BenchmarkComparison
from trtpoets.judge.bench.conditions import Conditions, EnergyConditions, conditions
from trtpoets.judge.bench.early_stop import TimeLimit, is_check_due, ratios_are_within
from trtpoets.judge.bench.energy import find_sensor, idle_watts
from trtpoets.judge.bench.loadgen import require_loadgen
from trtpoets.judge.bench.measure import Measurement
from trtpoets.judge.bench.measured_runner import BenchFailure, MeasuredRunner
from trtpoets.judge.bench.rounds import ratio_of_rounds
from trtpoets.judge.bench.scenario import ScenarioOutcome
from trtpoets.judge.bench.slowdown_watch import CpuWatch, GpuSummary, gpu_summary
from trtpoets.judge.clustered import equality_test

__all__ = ["BASELINE", "DEFAULT", "BenchConfig", "BenchFailure", "Benchmark", "Measurement", "benchmark_from_artefacts"]

DEFAULT = BenchConfig()

_CHILD = python_program("trtpoets.judge.bench.bench_child")

_WORST_DROP = 0.05
"""A runner is not valid if its accuracy in the timed run is lower than the baseline's by more than this share, and the
loss is significant."""

_SIGNIFICANT = 0.01
"""The p-value of the exact McNemar test below which a loss of accuracy is significant."""


@dataclass(frozen=True)
class Throttling:
    """Throttling of the CPU and the GPU during a benchmark.

    `cpu_throttled` counts how often cores were throttled by heat, None where the CPU does not report it. `gpu` is the
    state of the GPU in the rounds of all runners that use it, by batch size.
    """

    cpu_throttled: int | None = None
    gpu: Mapping[str, GpuSummary] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """The content of benchmark.json, which `trtpoets.bench` returns.

    All runners ran on the same photos, batch sizes and threads; `conditions` are those before the first of them.
    `incomplete` says where the benchmark was interrupted, and is empty if it was not. `baseline` is the runner with
    which the others are compared. `outcomes` are those of the scenario, if one was measured. `artefacts` is the SHA-256
    of each file by its name, `skipped` what could not run on this machine. `compared` is the comparison with an older
    benchmark, None without one.

    `stopped` and `timed_out` map the batch sizes that ended early to their number of rounds, and are None if there are
    none: `stopped` those whose ratios were within `config.ratio_within`, `timed_out` those whose share of
    `config.wall_seconds` was used up. Fields with a default may be missing in files of earlier versions.
    """

    measurements: tuple[Measurement, ...]
    failures: tuple[BenchFailure, ...] = ()
    config: BenchConfig = DEFAULT
    photos: int = 0
    conditions: Conditions = field(default_factory=Conditions)
    incomplete: str = ""
    outcomes: tuple[ScenarioOutcome, ...] = ()
    machine: Throttling = field(default_factory=Throttling)
    baseline: str = BASELINE
    artefacts: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    command: str = ""
    compared: BenchmarkComparison | None = field(default=None, metadata=OPTIONAL)
    stopped: Mapping[str, int] | None = field(default=None, metadata=OPTIONAL)
    timed_out: Mapping[str, int] | None = field(default=None, metadata=OPTIONAL)
    schema_version: int = 1


def benchmark_from_artefacts(
    artefacts: Sequence[Runnable],
    photos: Sequence[Photo],
    config: BenchConfig = DEFAULT,
    progress: Progress = silent,
    ways: Mapping[int, Sequence[Way]] | None = None,
    logs: Path = Path("loadgen"),
    baseline: str = BASELINE,
    prepared: bool = False,
) -> Benchmark:
    """Measure the runner of each artefact on `config.photos` of the photos, evenly distributed.

    `ways` maps the index of an artefact to the ways in which it is run; by default it is run in one way. `baseline` is
    the name of the runner with which the others are compared; without it there are no ratios. `prepared` photos are
    cropped and resized already, and are only decoded. LoadGen's logs are written to a folder per runner below `logs`.

    Raises BadInput if there is no photo or no artefact, or if a runner is given twice; MissingDependency if LoadGen is
    needed and not installed. The failure of a runner is part of the result and not raised. After Ctrl-C the result
    contains the measurements so far.
    """
    _require_input(artefacts, photos, config)
    chosen = [photos[i] for i in np.linspace(0, len(photos) - 1, min(config.photos, len(photos))).round().astype(int)]
    before = conditions()
    energy = _energy_when_idle(before.gpu_pci_bus_id)
    runners = _runners(artefacts, ways or {}, config, energy, before.gpu_pci_bus_id)
    outcomes: list[ScenarioOutcome] = []
    watch = CpuWatch()
    with ExitStack() as stack:
        for runner in runners:
            stack.callback(runner.end)
        ends = _EarlyEnds(config, baseline)
        incomplete = _measure(runners, chosen, prepared, config, progress, ends)
        gpu_wait = {runner.name: runner.waits for runner in runners if runner.waits}
        rows = _all_compared(runners, baseline, config, chosen, _spec(artefacts[0]).labels)
        if config.scenario and not incomplete:
            incomplete = _run_scenario(runners, rows, config, logs, outcomes, progress)
    return Benchmark(
        tuple(row for own in rows for row in own),
        tuple(failure for runner in runners for failure in runner.failures),
        config,
        len(chosen),
        replace(before, energy=energy, gpu_wait=gpu_wait),
        incomplete,
        tuple(outcomes),
        _throttling(runners, config, watch),
        baseline,
        stopped=ends.stopped or None,
        timed_out=ends.timed_out or None,
    )


def _require_input(artefacts: Sequence[Runnable], photos: Sequence[Photo], config: BenchConfig) -> None:
    """Raise BadInput without photos or artefacts, MissingDependency if LoadGen is needed and not installed."""
    if not photos:
        raise BadInput(
            "there are no photos to measure with", hint="hold some back with --test-percent 10", code="TP5007"
        )
    if not artefacts:
        raise BadInput(
            "there is nothing to measure",
            hint="make a classifier first: trtpoets run PHOTOS --name NAME",
            code="TP5008",
        )
    if config.loadgen:
        require_loadgen()


def _runners(
    artefacts: Sequence[Runnable],
    ways: Mapping[int, Sequence[Way]],
    config: BenchConfig,
    energy: EnergyConditions | None,
    bus_id: str | None,
) -> list[MeasuredRunner]:
    """Return the runners of all artefacts, not yet loaded. Raises BadInput if two have the same name."""
    idle_watts = energy.idle_watts if energy else None
    runners = [
        MeasuredRunner(artefact, way, config, idle_watts, bus_id)
        for index, artefact in enumerate(artefacts)
        for way in ways.get(index, (Way.PLAIN,))
    ]
    _require_different([runner.name for runner in runners])
    return runners


def _require_different(names: Sequence[str]) -> None:
    """Raise BadInput if two runners have the same name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"more than one artefact is run as {twice[0]}", hint="give each artefact once", code="TP5009")


def _energy_when_idle(bus_id: str | None) -> EnergyConditions | None:
    """Measure the power of the machine when idle; None without a sensor."""
    sensor = find_sensor(gpu=bus_id)
    if sensor is None:
        return None
    with sensor:
        return EnergyConditions(sensor.covers, idle_watts(sensor))


def _throttling(runners: Sequence[MeasuredRunner], config: BenchConfig, watch: CpuWatch) -> Throttling:
    gpu = {}
    for batch in config.batches:
        measured = [runner.batch_rounds[batch] for runner in runners if batch in runner.batch_rounds]
        summary = gpu_summary(round_.gpu for batch_rounds in measured for round_ in batch_rounds.rounds.values())
        if summary:
            gpu[str(batch)] = summary
    return Throttling(watch.throttled(), gpu)


def _spec(artefact: Runnable) -> ModelSpec:
    return artefact.card.spec if isinstance(artefact, Engine) else artefact.spec


class _EarlyEnds:
    """Decides after which round each batch size ends, and counts the rounds of those that ended early.

    `stopped` and `timed_out` are as in `Benchmark`. The time limit begins at the construction.
    """

    def __init__(self, config: BenchConfig, baseline: str) -> None:
        self.stopped: dict[str, int] = {}
        self.timed_out: dict[str, int] = {}
        self.limit = TimeLimit(config.wall_seconds, len(config.batches))
        self._config, self._baseline = config, baseline

    def after(self, done: int, runners: Sequence[MeasuredRunner], batch: int) -> bool:
        """Return whether a batch size ends early, after `done` rounds."""
        rounds = self._config.rounds
        if is_check_due(done, rounds) and self._accurate(runners, batch):
            self.stopped[str(batch)] = done
            return True
        if done < rounds and self.limit.is_reached(done, [runner.counts(batch) for runner in runners]):
            self.timed_out[str(batch)] = done
            return True
        return False

    def ended(self, batch: int) -> bool:
        """Return whether a batch size ended early."""
        return str(batch) in self.stopped or str(batch) in self.timed_out

    def _accurate(self, runners: Sequence[MeasuredRunner], batch: int) -> bool:
        """Return whether the ratio of each runner that works at a batch size is accurate enough to stop."""
        if not self._config.ratio_within:
            return False
        medians = {
            runner.name: runner.batch_rounds[batch].medians for runner in runners if batch in runner.batch_rounds
        }
        base = medians.pop(self._baseline, {})
        return ratios_are_within(self._config.ratio_within, base, list(medians.values()))


def _measure(
    runners: Sequence[MeasuredRunner],
    photos: Sequence[Photo],
    prepared: bool,
    config: BenchConfig,
    progress: Progress,
    ends: _EarlyEnds,
) -> str:
    """Load all runners, then measure them round by round at each batch size.

    Returns where it was interrupted; an empty string if it was not.
    """
    position = _Position(progress, len(runners) + len(config.batches) * config.rounds, ends.limit)
    try:
        _load(runners, photos, prepared, config, position)
        for batch in config.batches:
            _measure_batch(runners, batch, config, position, ends)
        position.end()
    except KeyboardInterrupt:
        for runner in runners:
            runner.finish_interrupted()
        return position.where
    return ""


class _Position:
    """How far a measurement is: `where`, in words, for the message of an interruption, and the finished steps."""

    def __init__(self, progress: Progress, steps: int, limit: TimeLimit) -> None:
        self.where = "while runners were loaded"
        self.done = 0
        self._progress, self._steps, self._limit = progress, steps, limit

    def show(self) -> None:
        """Report the progress: the share of the steps, or of the time limit if that is used up earlier."""
        by_time = min(int(PARTS * self._limit.share_used()), PARTS - 1)
        self._progress("benchmark", max(PARTS * self.done // self._steps, by_time), PARTS)

    def end(self) -> None:
        """Report the end."""
        self._progress("benchmark", PARTS, PARTS)


def _load(
    runners: Sequence[MeasuredRunner],
    photos: Sequence[Photo],
    prepared: bool,
    config: BenchConfig,
    position: _Position,
) -> None:
    """Load all runners: one after the other, or with a time limit, at the same time."""
    if config.wall_seconds:
        for runner in runners:
            runner.load(_CHILD, photos, prepared)
    for runner in runners:
        position.show()
        if not config.wall_seconds:
            runner.load(_CHILD, photos, prepared)
        runner.wait_loaded()
        position.done += 1


def _measure_batch(
    runners: Sequence[MeasuredRunner], batch: int, config: BenchConfig, position: _Position, ends: _EarlyEnds
) -> None:
    """Measure all runners at a batch size, until its last round or an early end."""
    position.where = f"before the first round at batch {batch}"
    ends.limit.begin_batch()
    for runner in runners:
        runner.warm_up(batch)
    for number in range(config.rounds):
        position.where = f"at batch {batch}, in round {number + 1} of {config.rounds}"
        position.show()
        for runner in runners if number % 2 == 0 else reversed(runners):
            runner.round(batch, number)
        position.done += 1
        if ends.after(number + 1, runners, batch):
            position.done += config.rounds - number - 1
            break
    for runner in runners:
        runner.finish(batch, stopped=ends.ended(batch))


def _run_scenario(
    runners: Sequence[MeasuredRunner],
    rows: Sequence[Sequence[Measurement]],
    config: BenchConfig,
    logs: Path,
    outcomes: list[ScenarioOutcome],
    progress: Progress,
) -> str:
    """Add the outcome of each runner with measurements to `outcomes`; `rows` are the measurements of each runner.

    Returns where it was interrupted; an empty string if it was not.
    """
    where = ""
    try:
        for done, (runner, own) in enumerate(zip(runners, rows)):
            where = f"in the {config.scenario} scenario of {runner.name}"
            progress(f"{config.scenario} scenario", done, len(runners))
            outcome = runner.outcome(Scenario(config.scenario), own) if own else None
            if outcome is not None:
                outcomes.append(outcome)
                if config.loadgen:
                    outcomes[-1] = runner.with_loadgen_result(outcome, own, logs)
        progress(f"{config.scenario} scenario", len(runners), len(runners))
    except KeyboardInterrupt:
        return where
    return ""


def _all_compared(
    runners: Sequence[MeasuredRunner],
    baseline: str,
    config: BenchConfig,
    photos: Sequence[Photo],
    labels: Sequence[str],
) -> list[list[Measurement]]:
    """Return the measurements of each runner with their ratios to the baseline."""
    truth = label_indices((photo.label for photo in photos), labels)
    copies = np.unique([photo.sha256 or str(photo.path) for photo in photos], return_inverse=True)[1]
    base = next((runner for runner in runners if runner.name == baseline), None)
    ratios = (len(runners) - 1) * len(config.batches)
    rows = [[_compared(runner, base, batch, truth, copies, ratios) for batch in config.batches] for runner in runners]
    return [[row for row in own if row is not None] for own in rows]


def _compared(
    runner: MeasuredRunner,
    base: MeasuredRunner | None,
    batch: int,
    truth: Sequence[int],
    copies: np.ndarray,
    ratios: int,
) -> Measurement | None:
    """Return a measurement with its ratio to the baseline at the same batch size; not valid if its answers are wrong.

    None if there is no measurement. `truth` has the label index of each photo, `copies` is equal for equal photos. The
    confidence of 95 % is that all `ratios` ratios of the benchmark are within their intervals.
    """
    measured = runner.measurement(batch, truth)
    base_measured = base.measurement(batch, truth) if base else None
    if measured is None or base is None or base_measured is None:
        return measured
    own_rounds, base_rounds = runner.batch_rounds[batch], base.batch_rounds[batch]
    assert own_rounds.finished is not None
    assert base_rounds.finished is not None
    answers, base_answers = np.array(own_rounds.finished.answers), np.array(base_rounds.finished.answers)
    wrong = _wrong(answers, base_answers, np.asarray(truth), copies, base.name)
    if wrong and not measured.fault:  # this reason replaces others, such as a busy machine
        measured = replace(measured, valid=False, reason=wrong, fault=wrong)
    both = sorted(own_rounds.rounds.keys() & base_rounds.rounds.keys())
    if not (measured.valid and base_measured.valid and both):
        return measured
    if runner is base:
        return replace(measured, speedup=1.0, speedup_low=1.0, speedup_high=1.0)
    first, second = (
        [float(np.median(measured_rounds.rounds[number].spans)) for number in both]
        for measured_rounds in (base_rounds, own_rounds)
    )
    ratio, interval, drifts = ratio_of_rounds(first, second, comparisons=ratios)
    low, high = interval or (None, None)
    return replace(measured, speedup=ratio, speedup_low=low, speedup_high=high, speedup_rows=ratios, drifts=drifts)


def _wrong(answers: np.ndarray, base_answers: np.ndarray, truth: np.ndarray, copies: np.ndarray, baseline: str) -> str:
    """Return why the answers of the timed run are wrong; an empty string if they are not."""
    both = (answers >= 0) & (base_answers >= 0) & (truth >= 0)
    if not both.any():
        return ""
    right, base_right = (answers == truth)[both], (base_answers == truth)[both]
    if right.mean() >= base_right.mean() - _WORST_DROP or equality_test(base_right, right, copies[both]) > _SIGNIFICANT:
        return ""
    return f"wrong: {right.mean():.0%} of the timed photos right, {baseline} {base_right.mean():.0%}"
