"""Measures the speed of runners: each in a process of its own, in turn, and compared with TensorFlow.

Each round measures all runners, alternately forwards and backwards, so that a drift of the machine affects all alike;
ratios are formed round by round (Kalibera and Jones, 2013, on why a ratio needs an interval). A runner that crashes,
hangs or raises has no measurements but a reason; the others are not affected.
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
from trtpoets.judge.bench.contender import Contender, Failure
from trtpoets.judge.bench.energy import find_sensor, idle_watts
from trtpoets.judge.bench.loadgen import require_loadgen
from trtpoets.judge.bench.measure import Measurement
from trtpoets.judge.bench.rounds import ratio_of_rounds
from trtpoets.judge.bench.scenario import Outcome
from trtpoets.judge.bench.slowdown_watch import CpuWatch, GpuSummary, gpu_summary
from trtpoets.judge.clustered import equality_test

__all__ = ["BASELINE", "DEFAULT", "BenchConfig", "Benchmark", "Failure", "Measurement", "benchmark_from_artefacts"]

DEFAULT = BenchConfig()

_CHILD = python_program("trtpoets.judge.bench.bench_child")

_WORST_DROP = 0.05
"""A runner whose accuracy in the timed run is significantly lower than the baseline's by this share is not valid."""

_SURE = 0.01
"""The p-value of the exact McNemar test below which a loss of accuracy is significant."""


@dataclass(frozen=True)
class Machine:
    """Throttling during a benchmark.

    `cpu_throttled` counts how often cores were throttled by heat, None where the CPU does not report it. `gpu` is the
    state of the GPU in the rounds of all runners that use it, by batch size.
    """

    cpu_throttled: int | None = None
    gpu: Mapping[str, GpuSummary] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """The content of benchmark.json, which `trtpoets.bench` returns.

    All runners ran on the same photos, batch sizes and threads; `conditions` are those before the first of them.
    `incomplete` says where it was interrupted; empty when it was not. `baseline` is the runner that the others are
    compared with. `outcomes` are those of the scenario, if one was measured. `artefacts` is the SHA-256 of each file by
    its name, `skipped` what could not run on this machine. `compared` is the comparison with an older benchmark, None
    without one. Fields with a default may be missing in files of earlier versions.
    """

    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...] = ()
    config: BenchConfig = DEFAULT
    photos: int = 0
    conditions: Conditions = field(default_factory=Conditions)
    incomplete: str = ""
    outcomes: tuple[Outcome, ...] = ()
    machine: Machine = field(default_factory=Machine)
    baseline: str = BASELINE
    artefacts: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    command: str = ""
    compared: BenchmarkComparison | None = field(default=None, metadata=OPTIONAL)
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
    """Measure the runner of each artefact, or each of its `ways` (by index). Photos are taken evenly from all given.

    `baseline` names the runner that the others are compared with; where it is not among them, there are no ratios.

    `prepared` photos are cropped and resized already, and only decoded.

    LoadGen's logs are written to a folder per runner below `logs`.

    Raises BadInput where there is no photo or no artefact, or one runner is given twice; MissingDependency for LoadGen
    where that is not installed. The failure of a runner is part of the result and not raised. After Ctrl-C the result
    holds what was measured until then.
    """
    if not photos:
        raise BadInput("there are no photos to measure with", hint="hold some back: --test-percent 10", code="TP5007")
    if not artefacts:
        raise BadInput(
            "there is nothing to measure",
            hint="make a classifier first: trtpoets run PHOTOS --name NAME",
            code="TP5008",
        )
    if config.loadgen:
        require_loadgen()
    chosen = [photos[i] for i in np.linspace(0, len(photos) - 1, min(config.photos, len(photos))).round().astype(int)]
    before = conditions()
    bus_id = before.gpu_pci_bus_id
    energy = _idle(bus_id)
    idle = energy.idle_watts if energy else None
    contenders = [
        Contender(artefact, way, config, idle, bus_id)
        for place, artefact in enumerate(artefacts)
        for way in (ways or {}).get(place, (Way.PLAIN,))
    ]
    _require_different([each.name for each in contenders])
    truth = label_indices((photo.label for photo in chosen), _spec(artefacts[0]).labels)
    copies = np.unique([photo.sha256 or str(photo.path) for photo in chosen], return_inverse=True)[1]
    outcomes: list[Outcome] = []
    watch = CpuWatch()
    with ExitStack() as stack:
        for each in contenders:
            stack.callback(each.end)
        incomplete = _measure(contenders, chosen, prepared, config, progress)
        waits = {each.name: each.waits for each in contenders if each.waits}
        before = replace(before, energy=energy, gpu_wait=waits)
        base = next((each for each in contenders if each.name == baseline), None)
        ratios = (len(contenders) - 1) * len(config.batches)
        judged = [
            [_judged(each, base, batch, truth, copies, ratios) for batch in config.batches] for each in contenders
        ]
        rows = [[row for row in own if row is not None] for own in judged]
        if config.scenario and not incomplete:
            incomplete = _run_scenario(contenders, rows, config, logs, outcomes, progress)
    return Benchmark(
        tuple(row for own in rows for row in own),
        tuple(failure for each in contenders for failure in each.failures),
        config,
        len(chosen),
        before,
        incomplete,
        tuple(outcomes),
        _meanwhile(contenders, config, watch),
        baseline,
    )


def _require_different(names: Sequence[str]) -> None:
    """Raise BadInput where two runners have the same name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"more than one artefact is run as {twice[0]}", hint="give each artefact once", code="TP5009")


def _idle(bus_id: str | None) -> EnergyConditions | None:
    """Measure the power of the machine when idle; None without a sensor."""
    sensor = find_sensor(gpu=bus_id)
    if sensor is None:
        return None
    with sensor:
        return EnergyConditions(sensor.covers, idle_watts(sensor))


def _meanwhile(contenders: Sequence[Contender], config: BenchConfig, watch: CpuWatch) -> Machine:
    gpu = {}
    for batch in config.batches:
        heats = [each.heats[batch] for each in contenders if batch in each.heats]
        found = gpu_summary(round_.gpu for heat in heats for round_ in heat.rounds.values())
        if found:
            gpu[str(batch)] = found
    return Machine(watch.throttled(), gpu)


def _spec(artefact: Runnable) -> ModelSpec:
    return artefact.card.spec if isinstance(artefact, Engine) else artefact.spec


def _measure(
    contenders: Sequence[Contender],
    photos: Sequence[Photo],
    prepared: bool,
    config: BenchConfig,
    progress: Progress,
) -> str:
    """Load all runners, then measure round by round at each batch size. Returns where it was interrupted, or ""."""
    steps = len(contenders) + len(config.batches) * config.rounds
    done, where = 0, "while runners were loaded"

    def tell() -> None:
        progress("benchmark", PARTS * done // steps, PARTS)

    try:
        for each in contenders:
            tell()
            each.load(_CHILD, photos, prepared)
            done += 1
        for batch in config.batches:
            where = f"before the first round at batch {batch}"
            for each in contenders:
                each.warm_up(batch)
            for number in range(config.rounds):
                where = f"at batch {batch}, in round {number + 1} of {config.rounds}"
                tell()
                for each in contenders if number % 2 == 0 else reversed(contenders):
                    each.round(batch, number)
                done += 1
            for each in contenders:
                each.finish(batch)
        tell()
    except KeyboardInterrupt:
        for each in contenders:
            for batch, heat in list(each.heats.items()):
                if heat.finished is None:
                    each.finish(batch, hurry=True)
        return where
    return ""


def _run_scenario(
    contenders: Sequence[Contender],
    rows: Sequence[Sequence[Measurement]],
    config: BenchConfig,
    logs: Path,
    outcomes: list[Outcome],
    progress: Progress,
) -> str:
    """Add the outcome of each runner that has rows to `outcomes`; `rows` are those of each contender in turn.

    Returns where it was interrupted, or "".
    """
    where = ""
    try:
        for done, (each, own) in enumerate(zip(contenders, rows)):
            where = f"in the {config.scenario} scenario of {each.name}"
            progress(f"{config.scenario} scenario", done, len(contenders))
            outcome = each.outcome(Scenario(config.scenario), own) if own else None
            if outcome is not None:
                outcomes.append(outcome)
                if config.loadgen:
                    outcomes[-1] = each.judged_by_loadgen(outcome, own, logs)
        progress(f"{config.scenario} scenario", len(contenders), len(contenders))
    except KeyboardInterrupt:
        return where
    return ""


def _judged(
    contender: Contender,
    base: Contender | None,
    batch: int,
    truth: Sequence[int],
    copies: np.ndarray,
    ratios: int,
) -> Measurement | None:
    """Return a measurement with its ratio to the baseline at the same batch size; not valid if its answers are wrong.

    `ratios` is the number of ratios in the benchmark, whose intervals hold together.
    """
    measured = contender.measurement(batch, truth)
    base_measured = base.measurement(batch, truth) if base else None
    if measured is None or base is None or base_measured is None:
        return measured
    heat, base_heat = contender.heats[batch], base.heats[batch]
    assert heat.finished is not None
    assert base_heat.finished is not None
    answers, base_answers = np.array(heat.finished.answers), np.array(base_heat.finished.answers)
    wrong = _wrong(answers, base_answers, np.asarray(truth), copies, base.name)
    if wrong and not measured.fault:  # however busy the machine was
        measured = replace(measured, valid=False, reason=wrong, fault=wrong)
    both = sorted(heat.rounds.keys() & base_heat.rounds.keys())
    if not (measured.valid and base_measured.valid and both):
        return measured
    if contender is base:
        return replace(measured, speedup=1.0, speedup_low=1.0, speedup_high=1.0)
    first, second = ([float(np.median(each.rounds[number].spans)) for number in both] for each in (base_heat, heat))
    ratio, interval, drifts = ratio_of_rounds(first, second, comparisons=ratios)
    low, high = interval or (None, None)
    return replace(measured, speedup=ratio, speedup_low=low, speedup_high=high, speedup_rows=ratios, drifts=drifts)


def _wrong(answers: np.ndarray, base_answers: np.ndarray, truth: np.ndarray, copies: np.ndarray, baseline: str) -> str:
    """Return why the answers of the timed run are wrong; an empty string if they are not."""
    both = (answers >= 0) & (base_answers >= 0) & (truth >= 0)
    if not both.any():
        return ""
    right, base_right = (answers == truth)[both], (base_answers == truth)[both]
    if right.mean() >= base_right.mean() - _WORST_DROP or equality_test(base_right, right, copies[both]) > _SURE:
        return ""
    return f"wrong: {right.mean():.0%} of the timed photos right, {baseline} {base_right.mean():.0%}"
