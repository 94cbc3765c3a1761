"""Timing with a clock of our own, and children that crash, hang and lie: each costs its own rows only."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.benchmarks import QUICK, busy, scripted
from tests.support.errors import raises
from tests.support.tiny import tiny_classifier, tiny_onnx, tiny_spec
from trtpoets.core.errors import BadInput
from trtpoets.core.progress import PARTS, silent
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import OnnxModel, Photo, Precision
from trtpoets.device.runners import Runnable
from trtpoets.judge.bench import benchmark
from trtpoets.judge.bench.benchmark import BenchConfig, Benchmark, _Position, benchmark_from_artefacts
from trtpoets.judge.bench.compare import rounds_of_both
from trtpoets.judge.bench.early_stop import TimeLimit
from trtpoets.judge.bench.measure import Measurement


def test_a_runner_on_the_gpu_beside_one_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    config = replace(QUICK, batches=(1,), gpu_rounds=5, gpu_round_seconds=0.0, gpu_settle_seconds=0.003)
    got = scripted(monkeypatch, tmp_path, photos, config, fp16="gpu", int8="gpu hot")
    base, fast, hot = got.measurements
    assert (base.round_numbers, base.round_sm_mhz, base.gpu_state) == (list(range(10)), [], None)
    assert fast.round_numbers == hot.round_numbers == [0, 3, 4, 7, 8]
    assert fast.round_sm_mhz == [1980.0] * 5
    assert fast.gpu_state is not None and fast.gpu_state.sm_mhz_least == 1755.0
    reason = "the GPU was too hot meanwhile: measure again when it is cool, with power enough"
    assert (hot.valid, hot.reason) == (False, reason)
    assert "too hot" not in fast.reason, "only the runner in whose rounds it was hot is marked"
    value = got.machine.gpu["1"]
    assert (value.sm_mhz_least, value.sm_mhz_most) == (1755.0, 1980.0)
    assert value.throttled == ("at its power limit", "too hot")
    medians = zip(fast.round_numbers, fast.round_p50_ms, strict=True)
    both = [(base.round_p50_ms[number], median) for number, median in medians]
    assert fast.speedup is None or fast.speedup == pytest.approx(np.median([slow / quick for slow, quick in both]))
    assert rounds_of_both(base, fast) == both


def test_a_server_on_a_gpu_that_is_throttled_is_invalid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    config = replace(QUICK, batches=(1,), gpu_rounds=1, gpu_round_seconds=0.0, gpu_settle_seconds=0.003)
    config = replace(config, scenario="server", target_qps=1000.0)
    got = scripted(monkeypatch, tmp_path, photos, config, fp16="gpu", int8="gpu hot")
    cool, hot = got.outcomes[1:]
    assert "too hot" not in cool.reason
    assert (hot.valid, hot.reason.startswith("the GPU was too hot meanwhile")) == (False, True)


@pytest.mark.slow
def test_a_benchmark_beside_tensorflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]) -> None:
    got = scripted(monkeypatch, tmp_path, photos, classifier="slow", fp16="noise", int8="wrong")
    assert got.failures == ()
    assert [(row.runner.name, row.batch) for row in got.measurements] == [
        (name, batch) for name in ("tensorflow", "onnxruntime-fp16", "onnxruntime-int8") for batch in (1, 4)
    ]
    base, _, fast, _, wrong, _ = got.measurements
    assert (base.valid, base.accuracy, base.speedup) == (True, 1.0, 1.0)
    assert base.p50_ms is not None
    assert base.p50_ms >= 20
    assert (fast.valid, fast.accuracy) == (True, 1.0)
    assert len(base.round_p50_ms) == len(fast.round_p50_ms) == 10
    ratios = [slow / quick for slow, quick in zip(base.round_p50_ms, fast.round_p50_ms, strict=True)]
    assert fast.speedup == pytest.approx(np.median(ratios), rel=0.01)
    speedup, low, high = speedup_and_interval(fast)
    assert low < speedup < high
    assert (wrong.valid, wrong.speedup) == (False, None)
    assert wrong.reason == "wrong: 0% of the timed photos right, tensorflow 100%"
    assert got.photos == 15
    assert got.conditions.cores is not None and got.conditions.cores >= 1 and got.conditions.gpu_wait == {}
    text = json.dumps(to_json(got), allow_nan=False)
    assert from_json(Benchmark, json.loads(text), "benchmark.json") == got


@pytest.mark.slow  # starts three programs
def test_another_runner_may_be_the_baseline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    """As on a device, which has no TensorFlow."""
    behave = {"fp32": "slow", "fp16": "good", "int8": "wrong"}
    monkeypatch.setattr(benchmark, "_CHILD", (sys.executable, "-m", "tests.fakes.failing_runners", json.dumps(behave)))
    models = [OnnxModel(tmp_path / f"{p}.onnx", Precision(p), tiny_spec()) for p in behave]
    got = benchmark_from_artefacts(models, photos, replace(QUICK, batches=(1,)), baseline="onnxruntime-fp32")
    base, fast, wrong = got.measurements
    assert (got.baseline, to_json(got)["baseline"], base.speedup) == ("onnxruntime-fp32", "onnxruntime-fp32", 1.0)
    assert fast.speedup is not None
    assert fast.speedup > 1
    assert wrong.reason == "wrong: 0% of the timed photos right, onnxruntime-fp32 100%"


@pytest.mark.slow  # starts two programs
def test_a_benchmark_of_five_photos_and_of_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    got = scripted(monkeypatch, tmp_path, photos[::3], replace(QUICK, batches=(8,)))
    assert [(row.batch, row.valid, row.accuracy) for row in got.measurements] == [(8, True, 1.0)]
    with raises(BadInput, "TP5007"):
        scripted(monkeypatch, tmp_path, [])
    with raises(BadInput, "TP5008"):
        benchmark_from_artefacts([], photos)


def test_threads_pin_every_runner_and_photos_beyond_the_limit_are_sampled_evenly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    got = scripted(monkeypatch, tmp_path, photos, replace(QUICK, batches=(3,), photos=6, threads=1))
    assert [row.valid for row in got.measurements] == [True]
    assert got.config.threads == 1
    assert got.photos == 6
    assert got.measurements[0].accuracy == 1.0


@pytest.mark.slow
def test_real_runners_side_by_side(tmp_path: Path, photos: list[Photo]) -> None:
    artefacts: list[Runnable] = [tiny_classifier(tmp_path / "classifier"), tiny_onnx(tmp_path / "fp32.onnx")]
    seen: list[tuple[str, int, int]] = []
    config = replace(QUICK, max_seconds=30, timeout_seconds=60)
    got = benchmark_from_artefacts(artefacts, photos, config, lambda *call: seen.append(call))
    assert got.failures == ()
    assert [(row.runner.name, row.batch, row.valid) for row in got.measurements] == [
        ("tensorflow", 1, True),
        ("tensorflow", 4, True),
        ("onnxruntime-fp32", 1, True),
        ("onnxruntime-fp32", 4, True),
    ]
    tensorflow, onnx = got.measurements[0], got.measurements[2]
    assert onnx.speedup is not None
    assert onnx.speedup > 1
    assert tensorflow.peak_memory_mib is not None
    assert onnx.peak_memory_mib is not None
    # Each has a process of its own: ONNX Runtime's does not carry TensorFlow.
    assert onnx.peak_memory_mib < 0.7 * tensorflow.peak_memory_mib
    assert onnx.load_seconds < tensorflow.load_seconds
    assert seen == [("benchmark", PARTS * done // 22, PARTS) for done in range(23)]


# What the benchmark must reach


def worked(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    photos: list[Photo],
    change: dict[str, Any] | None = None,
    **behave: str,
) -> Benchmark:
    """A benchmark of real work at the defaults, but for shorter."""
    config = replace(BenchConfig(batches=(1,), min_seconds=1.0, photos=8), **(change or {}))
    return scripted(monkeypatch, tmp_path, photos, config, silent, **behave)


def speedup_and_interval(row: Measurement) -> tuple[float, float, float]:
    """The speedup over TensorFlow, and the lower and upper end of its interval."""
    assert row.speedup is not None and row.speedup_low is not None and row.speedup_high is not None
    return row.speedup, row.speedup_low, row.speedup_high


def reasons(got: Benchmark) -> list[str]:
    """Why rows are not valid."""
    return [row.reason for row in got.measurements if not row.valid]


@pytest.mark.slow
def test_two_runs_agree_and_a_runner_slower_by_5_percent_is_detected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    ratios: list[tuple[float, float, float]] = []
    recognised: list[bool] = []
    busy_reasons: list[str] = []
    while len(ratios) < 21:
        began = time.monotonic()
        got = worked(monkeypatch, tmp_path, photos, classifier="work 300", fp16="work 100", fp32="work 315")
        assert time.monotonic() - began < 60
        if reasons(got):  # once in a while something else runs; more often, and the machine is busy
            busy_reasons += reasons(got)[:1]
            if len(busy_reasons) > 2 + len(ratios) // 4:
                pytest.skip(f"this machine is busy: {len(busy_reasons)} runs were not valid, as {busy_reasons[-1]}")
            continue
        _, fast, slower = got.measurements
        ratios.append(speedup_and_interval(fast))
        recognised.append(speedup_and_interval(slower)[2] < 1)
    assert sum(recognised) >= 20
    pairs = list(pairwise(ratios))
    assert sum(low <= other <= high for (_, low, high), (other, _, _) in pairs) >= 18
    assert sum(abs(first[0] / second[0] - 1) <= 0.03 for first, second in pairs) >= 18


@pytest.mark.slow
def test_a_busy_core_gives_no_wrong_valid_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    quiet = worked(monkeypatch, tmp_path, photos, classifier="work 300", fp16="work 100")
    if reasons(quiet):
        pytest.skip(f"this machine is busy: {reasons(quiet)[0]}")
    with busy():
        got = worked(monkeypatch, tmp_path, photos, classifier="work 300", fp16="work 100")
    fast = got.measurements[1]
    if fast.valid:
        _, low, high = speedup_and_interval(fast)
        assert low <= speedup_and_interval(quiet.measurements[1])[0] <= high


@pytest.mark.slow
def test_a_core_that_is_shared_makes_every_row_invalid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    with busy(core=min(os.sched_getaffinity(0))):
        change = {"threads": 1, "min_seconds": 1.5, "warmup_seconds": 0.1}
        got = worked(monkeypatch, tmp_path, photos, change, classifier="work 30", fp16="work 10")
    assert len(reasons(got)) == len(got.measurements) == 2
    assert all(
        re.match(r"other processes used \d+% of the cores meanwhile|not steady", reason) for reason in reasons(got)
    )


def test_the_progress_follows_the_time_limit_where_it_comes_before_the_last_round() -> None:
    now: list[float] = [0.0]
    shown: list[int] = []
    limit = TimeLimit(10.0, 1, lambda: now[0])
    position = _Position(lambda task, done, total: shown.append(done), 100, limit)
    position.done = 20
    for seconds in (1.0, 6.0, 12.0):
        now[0] = seconds
        position.show()
    position.end()
    assert shown == [200, 600, PARTS - 1, PARTS]
