"""Whether what runs here answers as it did where the bundle was made: golden photos in, scores compared, time taken."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from trtpoets.core.errors import GateFailed
from trtpoets.core.types import Precision
from trtpoets.device.doctor.system import system_at
from trtpoets.device.runners.base import Runner
from trtpoets.judge.golden import Verdict, check_scores_against
from trtpoets.judge.statistics import percentile
from trtpoets.onboard.build_command import golden_problem
from trtpoets.onboard.installed_bundle import ENGINE, Bundle, runner_in

_WARM_UP = 5
"""Inferences before the first that is timed: the first ones load kernels and capture the graph."""

_MOST_TIMED, _MOST_SECONDS = 100, 0.5
"""A self-test is no benchmark: it shows that the time is about right, and is over soon."""


@dataclass(frozen=True)
class Latency:
    """How long one photo takes, host to host, in milliseconds. `conditions` says how that was measured."""

    median_ms: float
    worst_ms: float
    count: int
    conditions: str


@dataclass(frozen=True)
class Selftest:
    """What a runner made of the golden photos. `load_seconds` is how long it took to get ready."""

    name: str
    runner: str
    verdict: Verdict
    load_seconds: float
    latency: Latency


def selftest(bundle: Bundle, *, runner: str = ENGINE, precision: Precision | None = None) -> Selftest:
    """Ask the engine, or with `runner` "onnxruntime" an ONNX file, for the golden scores, and time it.

    Raises what `runner_in` raises, and RunFailed where it can't run. Scores that are not the golden ones are told and
    raise nothing: `require_passed` does.
    """
    found, precision = runner_in(bundle, runner, precision)
    golden = bundle.golden
    begun = time.monotonic()
    with found as running:
        loaded = time.monotonic() - begun
        verdict = check_scores_against(golden, precision, running.infer(golden.pixels))
        latency = _latency(running, golden.pixels)
    return Selftest(bundle.manifest.name, running.name, verdict, loaded, latency)


def require_passed(found: Selftest) -> None:
    """Raise GateFailed where the scores were not the golden ones."""
    if not found.verdict.passed:
        raise GateFailed(
            f"{found.runner}: {golden_problem(found.verdict)}",
            hint="build again, and go back if it stays: ./build --force",
            code="TP7034",
        )


def _latency(runner: Runner, photos: np.ndarray) -> Latency:
    for number in range(_WARM_UP):
        runner.infer(photos[number % len(photos)][None])
    times: list[float] = []
    end = time.perf_counter() + _MOST_SECONDS
    while len(times) < _MOST_TIMED and (len(times) < len(photos) or time.perf_counter() < end):
        photo = photos[len(times) % len(photos)][None]
        begun = time.perf_counter()
        runner.infer(photo)
        times.append(1000 * (time.perf_counter() - begun))
    board = system_at().jetson
    mode = f", power mode {board.power_mode}" if board and board.power_mode else ""
    return Latency(
        median_ms=percentile(sorted(times), 50),
        worst_ms=max(times),
        count=len(times),
        conditions=f"one photo at a time, host to host, after {_WARM_UP} to warm up, clocks as they are{mode}",
    )
