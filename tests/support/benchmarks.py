"""Short benchmarks of scripted runners, whose processes do what a test names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.photos import photo_folder
from tests.support.runner_ids import FAKE
from tests.support.runner_ids import runner as runner_id
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.files import sha256_of_file
from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import TENSORFLOW
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Classifier, OnnxModel, Photo, Precision, Split
from trtpoets.device.runners import Runnable
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.judge.bench import benchmark
from trtpoets.judge.bench.benchmark import BenchConfig, Benchmark, benchmark_from_artefacts
from trtpoets.judge.bench.conditions import Conditions
from trtpoets.judge.bench.measure import Measurement, RunDetails, measurement_from_rounds
from trtpoets.judge.bench.meter import Meter, Round, Warmup
from trtpoets.judge.bench.rounds import ratio_of_rounds
from trtpoets.judge.bench.slowdown_watch import GpuLoad, GpuWatch

# The machine that runs the tests may be busy: that is tested apart.
QUICK = BenchConfig(
    batches=(1, 4),
    min_seconds=0.0,
    min_count=64,
    warmup_seconds=0.0,
    max_seconds=20,
    timeout_seconds=25,
    max_others=1.0,
    rounds=10,
)


def photos_in(folder: Path) -> list[Photo]:
    """15 photos of the test split, of three classes."""
    root = photo_folder(folder / "photos", {"ant": 5, "bee": 5, "cow": 5})
    return [Photo(path, path.parent.name, Split.TEST, sha256_of_file(path)) for path in sorted(root.rglob("*.jpg"))]


def measure(config: BenchConfig = QUICK, count: int = 6, batch: int = 1, runner: Any = None, **given: Any) -> Any:
    """What the rounds of one runner say, without a process: the measurement and the answers."""
    truth = given.pop("truth", [0] * count)
    with runner or FakeRunner(tiny_spec()) as entered:
        meter = Meter(entered, tiny_photos(count), batch, **given)
        warmup = meter.warm_up(config.warmup_seconds, config.max_seconds)
        share = config.rounds
        rounds = [
            meter.round(config.min_seconds / share, -(-config.min_count // share), config.max_seconds / share)
            for _ in range(share)
        ]
    watched = RunDetails(entered.identity, batch, 1.5, tuple(meter.answers), meter.fault, 100.0)
    return measurement_from_rounds(warmup, rounds, watched, truth, config), tuple(meter.answers)


WARM = Warmup(1.0, 4, 0.1, True)


def measurement_of(rounds: list[Round], warmup: Warmup = WARM, **config: Any) -> Measurement:
    watched = RunDetails(FAKE, 1, 1.5, (), "", 100.0)
    return measurement_from_rounds(warmup, rounds, watched, (), replace(QUICK, **config))


class Ramping(FakeRunner):
    """On a GPU whose clock rises in half a second of work from 345 to 1,980 MHz, where a batch takes 2 ms."""

    def __init__(self) -> None:
        super().__init__(tiny_spec())
        self.now = self.busy = 0.0

    def infer(self, photos: np.ndarray) -> np.ndarray:
        mhz = min(345 + (1980 - 345) * self.busy / 0.5, 1980.0)
        self.now += 0.002 * 1980 / mhz
        self.busy += 0.002 * 1980 / mhz
        return super().infer(photos)

    def clock(self) -> int:
        return int(self.now * 1e9)


class BusyWatch(GpuWatch):
    """Waits for an inference while it is asked: the GPU must not be idle then."""

    def __init__(self, runner: Ramping) -> None:
        super().__init__(None, Path("/nowhere"))
        self.runner, self.begun_mhz, self.busy = runner, 0.0, False

    def begin(self) -> None:
        self.begun_mhz = min(345 + (1980 - 345) * self.runner.busy / 0.5, 1980.0)

    def end(self) -> GpuLoad:
        before, deadline = self.runner.now, time.monotonic() + 20
        while self.runner.now == before and time.monotonic() < deadline:
            time.sleep(0)
        self.busy = self.runner.now > before
        return GpuLoad(sm_mhz=1980.0)


def scripted(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    photos: list[Photo],
    config: BenchConfig = QUICK,
    progress: Progress = silent,
    **behave: str,
) -> Benchmark:
    """A benchmark of TensorFlow and the precisions in `behave`, whose children run scripted runners."""
    child = (sys.executable, "-m", "tests.fakes.failing_runners", json.dumps(behave))
    monkeypatch.setattr(benchmark, "_CHILD", child)
    models = [OnnxModel(tmp_path / f"{p}.onnx", Precision(p), tiny_spec()) for p in behave if p != "classifier"]
    artefacts: list[Runnable] = [Classifier(tmp_path / "classifier", tiny_spec()), *models]
    return benchmark_from_artefacts(artefacts, photos, config, progress)


@contextmanager
def busy(core: int | None = None) -> Iterator[None]:
    """Run another process that uses the processor during the context; on `core` alone if it is given."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as beside:
        try:
            if core is not None:
                os.sched_setaffinity(beside.pid, {core})
            yield
        finally:
            beside.kill()


def rounds(milliseconds: float, seed: int, count: int = 70) -> tuple[Measurement, list[float]]:
    rng = np.random.default_rng(seed)
    results = [
        Round([int(1e6 * milliseconds * item) for item in np.exp(rng.normal(0, 0.01) + rng.normal(0, 0.02, count))])
        for _ in range(20)
    ]
    row = measurement_from_rounds(WARM, results, RunDetails(TENSORFLOW, 1, 1.0, (), "", 100.0), (), QUICK)
    return row, row.round_p50_ms


def benchmark_document(seed: int, fast_ms: float, *, baseline: bool = True, **other: Any) -> dict[str, Any]:
    base, base_rounds = rounds(20.0, seed)
    fast, fast_rounds = rounds(fast_ms, seed + 1000)
    ratio, interval, _ = ratio_of_rounds(base_rounds, fast_rounds)
    assert interval is not None
    rows = [replace(base, speedup=1.0, speedup_low=1.0, speedup_high=1.0)] if baseline else []
    rated = {"speedup": ratio, "speedup_low": interval.low, "speedup_high": interval.high} if baseline else {}
    rows.append(replace(fast, runner=runner_id("onnxruntime-fp32"), **{**rated, **other}))
    conditions = Conditions(cpu="one", versions={"numpy": "2"})
    details = Benchmark(tuple(rows), (), replace(QUICK, batches=(1,)), 15, conditions, artefacts={"fp32.onnx": "ab"})
    return dict(json.loads(json.dumps(to_json(details))))


def typed(details: Mapping[str, Any]) -> Benchmark:
    return from_json(Benchmark, details, "the benchmark")
