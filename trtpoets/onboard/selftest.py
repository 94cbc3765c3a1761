"""The `selftest` command: compares the scores of the golden photos with the expected ones and measures the latency."""

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
"""Untimed inferences at the start, which load kernels and capture the CUDA graph."""

_MAX_TIMED, _MAX_SECONDS = 100, 0.5
"""Limits of the measurement, which is only a quick check and not a benchmark."""


@dataclass(frozen=True)
class Latency:
    """Latency of one photo, host to host, in milliseconds. `conditions` describes the measurement."""

    median_ms: float
    worst_ms: float
    count: int
    conditions: str


@dataclass(frozen=True)
class Selftest:
    """The result of the self-test. `load_seconds` is the time for entering the runner."""

    name: str
    runner: str
    verdict: Verdict
    load_seconds: float
    latency: Latency


def selftest(bundle: Bundle, *, runner: str = ENGINE, precision: Precision | None = None) -> Selftest:
    """Run the golden photos with the engine (or an ONNX file, if `runner` is "onnxruntime") and measure the latency.

    Raises as `runner_in` does, and RunFailed. Wrong scores are reported in the result; `require_passed` raises for
    them.
    """
    opened, precision = runner_in(bundle, runner, precision)
    golden = bundle.golden
    started = time.monotonic()
    with opened as running:
        loaded = time.monotonic() - started
        verdict = check_scores_against(golden, precision, running.infer(golden.pixels))
        latency = _latency(running, golden.pixels)
    return Selftest(bundle.manifest.name, running.name, verdict, loaded, latency)


def require_passed(result: Selftest) -> None:
    """Raise GateFailed if the scores differ from the golden ones."""
    if not result.verdict.passed:
        raise GateFailed(
            f"{result.runner}: {golden_problem(result.verdict)}",
            hint="build again, and go back to the previous bundle if it still fails: ./build --force",
            code="TP7034",
        )


def _latency(runner: Runner, photos: np.ndarray) -> Latency:
    for number in range(_WARM_UP):
        runner.infer(photos[number % len(photos)][None])
    times: list[float] = []
    end = time.perf_counter() + _MAX_SECONDS
    while len(times) < _MAX_TIMED and (len(times) < len(photos) or time.perf_counter() < end):
        photo = photos[len(times) % len(photos)][None]
        started = time.perf_counter()
        runner.infer(photo)
        times.append(1000 * (time.perf_counter() - started))
    board = system_at().jetson
    mode = f", power mode {board.power_mode}" if board and board.power_mode else ""
    return Latency(
        median_ms=percentile(sorted(times), 50),
        worst_ms=max(times),
        count=len(times),
        conditions=f"one photo at a time, host to host, after {_WARM_UP} to warm up, clocks as they are{mode}",
    )
