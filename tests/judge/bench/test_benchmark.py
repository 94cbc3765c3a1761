"""Timing with a clock of our own, and children that crash, hang and lie: each costs its own rows only."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.failing_runners import right_scores
from tests.support.photos import photo_folder
from tests.support.runner_ids import FAKE
from tests.support.tiny import tiny_classifier, tiny_onnx, tiny_photos, tiny_spec
from trtpoets.core.child_process import Child
from trtpoets.core.errors import BadInput, MissingArtefact
from trtpoets.core.files import sha256_of_file
from trtpoets.core.progress import PARTS, Progress, silent
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Classifier, OnnxModel, Photo, Precision, Split, TfliteModel
from trtpoets.device.runners.base import Timing
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.judge.bench import benchmark
from trtpoets.judge.bench.bench_child import artefact_from_description, description_from_artefact
from trtpoets.judge.bench.benchmark import BenchConfig, Benchmark, benchmark_from_artefacts
from trtpoets.judge.bench.compare import rounds_of_both
from trtpoets.judge.bench.measure import Measurement, RunDetails, measurement_from_rounds
from trtpoets.judge.bench.meter import Meter, Round, Warmup
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


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    folder = photo_folder(tmp_path / "photos", {"ant": 5, "bee": 5, "cow": 5})
    return [Photo(path, path.parent.name, Split.TEST, sha256_of_file(path)) for path in sorted(folder.rglob("*.jpg"))]


class Clock:
    """Advances by what it is told, in nanoseconds, at each second look (after an inference)."""

    def __init__(self, *spans: int) -> None:
        self.spans, self.looks, self.now = spans, 0, 0

    def __call__(self) -> int:
        if self.looks % 2:
            self.now += self.spans[min(self.looks // 2, len(self.spans) - 1)]
        self.looks += 1
        return self.now


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


ONE_ROUND = replace(QUICK, rounds=1)


def test_percentiles_count_and_rate_by_a_known_clock() -> None:
    # The first inference, six to warm up, two to settle, then 2 ms each with one outlier in the 64.
    clock = Clock(90_000_000, *[50_000_000] * 8, *[2_000_000] * 63, 20_000_000)
    got, _ = measure(ONE_ROUND, clock=clock, batch=4)
    assert (got.runner.name, got.batch, got.count, got.load_seconds, got.first_ms) == ("fake", 4, 64, 1.5, 90.0)
    assert got.warmup_seconds == pytest.approx(0.39)
    assert (got.p50_ms, got.p90_ms, got.p95_ms, got.p99_ms, got.p99_bound_ms) == (2.0, 2.0, None, None, None)
    assert got.seconds == pytest.approx(0.146)
    assert got.mean_ms == pytest.approx(146 / 64)
    assert got.photos_per_s == pytest.approx(64 * 4 / 0.146)
    assert got.cv == pytest.approx(np.std([2.0] * 63 + [20.0]) / (146 / 64))
    assert (got.round_p50_ms, got.quantiles_ms[0], got.quantiles_ms[-1]) == ([2.0], 2.0, 20.0)
    assert (got.valid, got.reason, got.speedup) == (True, "", None)
    assert (got.device, got.end_to_end, got.peak_memory_mib) == (None, None, 100.0)


def test_p99_needs_662_inferences() -> None:
    got, _ = measure(replace(ONE_ROUND, min_count=662), clock=Clock(1_000_000))
    assert (got.count, got.p95_ms, got.p99_ms, got.p99_bound_ms) == (662, 1.0, 1.0, None), "one round has no bound"
    got, _ = measure(replace(QUICK, min_count=2000), clock=Clock(1_000_000))
    assert got.p99_bound_ms == pytest.approx(1.0)
    assert 662 <= got.independent_count < 2000


def test_it_times_for_the_seconds_and_the_count_that_are_asked_for() -> None:
    got, _ = measure(replace(QUICK, min_seconds=0.5), clock=Clock(5_000_000))
    assert got.count == 100
    got, _ = measure(replace(QUICK, min_count=70), clock=Clock(5_000_000))
    assert (got.count, len(got.round_p50_ms)) == (70, 10)


@pytest.mark.parametrize(
    ("config", "clock", "reason"),
    [
        (QUICK, Clock(*[1_000_000] * 20, -5), "the clock stood still or went back"),
        (QUICK, Clock(0), "the clock stood still or went backwards"),
        (replace(QUICK, min_count=20), Clock(1_000_000), "20 inferences can't support a 90th percentile; 64 do"),
    ],
)
def test_timings_that_must_not_be_used(config: BenchConfig, clock: Clock, reason: str) -> None:
    got, _ = measure(config, clock=clock)
    assert not got.valid
    assert reason in got.reason


def test_too_slow_to_count() -> None:
    runner = FakeRunner(tiny_spec(), delay_seconds=0.03)
    got, _ = measure(replace(ONE_ROUND, max_seconds=0.3), runner=runner)
    assert 1 <= got.count <= 10
    assert got.p90_ms is None
    assert got.reason == f"only {got.count} of 64 inferences in 0.3 s: too slow, or too busy"


def test_it_warms_up_until_it_is_steady() -> None:
    falling = [int(100_000_000 * 0.8**n) for n in range(20)]
    got, _ = measure(replace(ONE_ROUND, warmup_seconds=0.001), clock=Clock(*falling, 1_000_000))
    assert (got.valid, got.p50_ms) == (True, 1.0)
    assert got.warmup_seconds > sum(falling) / 1e9

    class Ever(Clock):
        """Each inference takes a tenth longer than the last."""

        def __call__(self) -> int:
            self.looks += 1
            return int(1000 * 1.1**self.looks)

    warmup = Meter(FakeRunner(tiny_spec()).__enter__(), tiny_photos(2), 1, clock=Ever()).warm_up(0.0, 0.02)
    assert not warmup.stable
    unsteady = measurement_of([Round([1_000_000] * 64)], warmup)
    assert unsteady.reason.startswith("not steady after ")


WARM = Warmup(1.0, 4, 0.1, True)


def measurement_of(rounds: list[Round], warmup: Warmup = WARM, **config: Any) -> Measurement:
    watched = RunDetails(FAKE, 1, 1.5, (), "", 100.0)
    return measurement_from_rounds(warmup, rounds, watched, (), replace(QUICK, **config))


@pytest.mark.parametrize(("taken", "others", "valid"), [(0.5, 0.5, False), (0.1, 0.1, True), (-0.01, 0.0, True)])
def test_others_on_our_cores_make_it_invalid(taken: float, others: float, valid: bool) -> None:
    rounds = [Round([1_000_000] * 64, watched_seconds=1.0, taken_seconds=each) for each in (taken, taken)]
    got = measurement_of(rounds, max_others=0.25)
    assert (got.valid, got.others) == (valid, others)
    if not valid:
        assert got.reason == "other processes used 50% of the cores meanwhile: measure again on a quieter machine"


@pytest.mark.parametrize("rounds", [[Round([1_000_000] * 64, watched_seconds=0.4, taken_seconds=0.4)], [Round([1])]])
def test_what_others_used_is_not_always_known(rounds: list[Round]) -> None:
    assert measurement_of(rounds).others is None


def test_three_clocks(photos: list[Photo]) -> None:
    class OnDevice(FakeRunner):
        """Its device says that it took 1 + 2 + 0.5 ms."""

        def infer_timed(self, photos: np.ndarray) -> tuple[np.ndarray, Timing]:
            return self.infer(photos), Timing(1.0, 2.0, 0.5, 0.1, True)

    config = replace(QUICK, min_seconds=0.2, rounds=20)
    got, _ = measure(config, count=15, batch=4, runner=OnDevice(tiny_spec()), paths=[photo.path for photo in photos])
    assert (got.device.p50_ms, got.device.h2d_ms, got.device.compute_ms, got.device.d2h_ms) == (3.5, 1.0, 2.0, 0.5)
    assert (got.device.enqueue_ms, got.device.graph) == (0.1, True)
    assert got.end_to_end.count >= 11
    assert got.end_to_end.p50_ms > got.p50_ms


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


def test_a_round_on_a_gpu_begins_when_its_clock_has_risen() -> None:
    runner = Ramping()
    watch = BusyWatch(runner)
    with runner:
        meter = Meter(runner, tiny_photos(4), 1, clock=runner.clock, watch=watch, settle_seconds=0.3)
        for _ in range(2):
            runner.busy = 0.0  # others had their turn
            got = meter.round(0.1, 1, 20.0)
            assert watch.begun_mhz == 1980
            assert (got.settled, got.gpu, watch.busy) == (True, GpuLoad(sm_mhz=1980.0), True)
            assert np.ptp(got.spans) < 1000, "nanoseconds"
            assert len(got.spans) == 50
        runner.busy = 0.0
        got = Meter(runner, tiny_photos(4), 1, clock=runner.clock).round(0.1, 1, 20.0)
        assert (got.settle_seconds < 0.1, got.gpu) == (True, None), "a runner on the CPU does not wait"


def test_a_gpu_that_never_is_steady() -> None:
    class Slowing(Ramping):
        """Each batch takes 5 % longer than the last."""

        def infer(self, photos: np.ndarray) -> np.ndarray:
            self.now *= 1.05
            return FakeRunner.infer(self, photos)

    runner = Slowing()
    runner.now = 1.0
    with runner:
        meter = Meter(runner, tiny_photos(4), 1, clock=runner.clock, watch=BusyWatch(runner), settle_seconds=0.3)
        got = meter.round(0.1, 1, 20.0)
    assert not got.settled
    rounds = [Round([2_000_000] * 32, gpu=GpuLoad(sm_mhz=900.0)) for _ in range(10)]
    rounds[3] = replace(rounds[3], settled=False, settle_seconds=3.0)
    found = measurement_from_rounds(WARM, rounds, RunDetails(FAKE, 1, 1.5, (), "", 100.0, gpu=True), (), QUICK)
    assert found.reason == (
        "the GPU was not steady after 3.0 s of work before 1 of 10 rounds: end other programs on it"
    )


def test_rounds_on_a_gpu_are_fewer_and_longer() -> None:
    config = BenchConfig()
    assert list(config.rounds_of(False)) == list(range(20))
    assert config.seconds_of_a_round(False) == 0.1
    numbers = config.rounds_of(True)
    assert len(numbers) == 10
    assert [number % 2 for number in numbers] == [0, 1] * 5, "forwards and backwards by turns"
    assert config.seconds_of_a_round(True) == 0.4
    assert replace(config, min_seconds=10.0).seconds_of_a_round(True) == 1.0
    for rounds in range(1, 41):
        of = list(replace(config, rounds=rounds).rounds_of(True))
        assert (len(of), sorted({*of}), of[-1] < rounds) == (min(rounds, 10), of, True)


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
    told = got.machine.gpu["1"]
    assert (told.sm_mhz_least, told.sm_mhz_most) == (1755.0, 1980.0)
    assert told.throttled == ("at its power limit", "too hot")
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


def test_every_answer_is_looked_at() -> None:
    class Odd(FakeRunner):
        """Breaks its word at the tenth inference; it does not check itself."""

        calls = 0

        def infer(self, photos: np.ndarray) -> np.ndarray:
            self.calls += 1
            scores = np.full((len(photos), 3), 1 / 3, np.float32)
            return self.broken(scores) if self.calls == 10 else scores

        def broken(self, scores: np.ndarray) -> np.ndarray:
            scores[0, 1] = np.inf
            return scores

    class Short(Odd):
        def broken(self, scores: np.ndarray) -> np.ndarray:
            return scores[:, :2]

    got, _ = measure(runner=Odd(tiny_spec()))
    assert (got.valid, got.reason) == (False, "returned a score that is not a number")
    got, _ = measure(runner=Short(tiny_spec()))
    assert got.reason == "returned float32 (1, 2) instead of float32 (1, 3)"


def test_answers_of_the_timed_run_are_scored() -> None:
    runner = FakeRunner(tiny_spec(), right_scores)
    expected = right_scores(tiny_photos(6)).argmax(axis=1)
    truth = [int(answer) for answer in expected[:3]] + [-1, -1, (int(expected[5]) + 1) % 3]
    got, answers = measure(runner=runner, truth=truth, batch=4)
    assert answers == tuple(expected)
    assert got.accuracy == 0.75
    got, _ = measure(runner=runner, truth=[-1] * 6)
    assert got.accuracy is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": ()}, "batch sizes must be different and at least 1, not []"),
        ({"batches": (0,)}, "batch sizes must be different and at least 1, not [0]"),
        ({"batches": (1, 1)}, "batch sizes must be different and at least 1, not [1, 1]"),
        ({"min_count": 0}, "0 inferences, "),
        ({"threads": -1}, "-1 threads at least 0"),
        ({"rounds": 0}, " 0 rounds must"),
        ({"min_seconds": -1.0}, "not -1.0 to"),
        ({"max_seconds": 200.0}, "to 200.0 s with a timeout of 120.0 s"),
        ({"min_seconds": math.nan}, "times and rates must be finite, not nan"),
        ({"target_qps": math.inf}, "times and rates must be finite, not inf"),
    ],
)
def test_configurations_that_make_no_sense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        BenchConfig(**change)
    assert message in caught.value.message
    assert caught.value.hint


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
    artefacts = [Classifier(tmp_path / "classifier", tiny_spec()), *models]
    return benchmark_from_artefacts(artefacts, photos, config, progress)


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
    assert fast.speedup_low < fast.speedup < fast.speedup_high
    assert (wrong.valid, wrong.speedup) == (False, None)
    assert wrong.reason == "wrong: 0% of the timed photos right, tensorflow 100%"
    assert got.photos == 15
    assert got.conditions.cores is not None and got.conditions.cores >= 1 and got.conditions.gpu_wait == {}
    text = json.dumps(to_json(got), allow_nan=False)
    assert from_json(Benchmark, json.loads(text), "benchmark.json") == got


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


@pytest.mark.parametrize(
    "wrong",
    [
        {
            "killed": (None, "its process was ended by SIGKILL, probably because memory ran out"),
            "leave": (None, "its process ended with code 7; its last output: last words"),
            "not at 4": (4, "ValueError: batch 4 is too much"),
        },
        pytest.param(
            {
                "crash": (None, "its process was ended by SIGSEGV"),
                "will not load": (None, "ValueError: no kernel image"),
                "raise": (1, "KeyError: 'scores'"),
            },
            marks=pytest.mark.slow,
        ),
    ],
    ids=", ".join,
)
def test_what_goes_wrong_costs_its_own_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo], wrong: dict[str, tuple[int | None, str]]
) -> None:
    behaviours = dict(zip(("fp32", "fp16", "int8"), wrong, strict=True))
    got = scripted(monkeypatch, tmp_path, photos, **behaviours)
    rows = [row.runner.name for row in got.measurements]
    assert rows[:2] == ["tensorflow"] * 2
    for precision, behaviour in behaviours.items():
        name = f"onnxruntime-{precision}"
        assert [(f.batch, f.why) for f in got.failures if f.runner.name == name][:1] == [wrong[behaviour]]
        assert rows.count(name) == (1 if behaviour == "not at 4" else 0)


def test_bad_scores_are_invalid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]) -> None:
    got = scripted(monkeypatch, tmp_path, photos, replace(QUICK, batches=(1,)), fp32="nan", fp16="shape")
    assert [(row.valid, row.reason) for row in got.measurements[1:]] == [
        (False, "returned a score that is not a number"),
        (False, "returned float32 (1, 2) instead of float32 (1, 3)"),
    ]


def test_runners_that_hang_are_ended_and_say_how_far_they_came(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    before = time.monotonic()
    config = replace(QUICK, batches=(1,), max_seconds=2.5, timeout_seconds=3)
    got = scripted(monkeypatch, tmp_path, photos, config, fp16="hang", int8="hang after 40")
    assert time.monotonic() - before < 25
    early, late = got.failures
    assert early.why == "hung: no reply within 3 s, before its first round"
    assert re.fullmatch(r"hung: no reply within 3 s, after \d of 10 rounds", late.why)
    assert [row.runner.name for row in got.measurements] == ["tensorflow"]
    assert children() == []


def test_a_wrong_runner_is_called_wrong_however_busy_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    config = replace(QUICK, batches=(1,), max_others=-1.0)  # as if there were always somebody else
    got = scripted(monkeypatch, tmp_path, photos, config, classifier="slow", fp16="wrong and slow", int8="slow")
    assert [row.reason[:20] for row in got.measurements] == [
        "other processes used",
        "wrong: 0% of the tim",
        "other processes used",
    ]


def children() -> list[str]:
    """The benchmark's processes that still run."""
    running = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in running.splitlines() if line.split()[0] == str(os.getpid()) and "bench_runn" in line]


def test_ctrl_c_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]) -> None:
    def press(task: str, done: int, total: int) -> None:
        if done == PARTS * (2 + 10 + 7) // 22:
            raise KeyboardInterrupt

    config = replace(QUICK, min_count=100)
    got = scripted(monkeypatch, tmp_path, photos, config, progress=press, fp16="good")
    assert got.incomplete == "at batch 4, in round 8 of 10"
    assert [(row.batch, row.valid, len(row.round_p50_ms)) for row in got.measurements] == [
        (1, True, 10),
        (4, False, 7),
    ] * 2
    assert got.measurements[1].reason == "interrupted after 7 of 10 rounds"
    assert got.failures == ()
    assert children() == []


def test_a_reply_that_nobody_waited_for_is_not_taken_for_the_next() -> None:
    code = "import json, sys, time\nfor line in sys.stdin:\n time.sleep(.3); print(line.strip(), flush=True)"
    with Child((sys.executable, "-c", code)) as child:
        threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            child.ask({"first": 1}, 5)
        assert child.ask({"second": 2}, 5) == {"second": 2}


def test_five_photos_and_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]) -> None:
    got = scripted(monkeypatch, tmp_path, photos[::3], replace(QUICK, batches=(8,)))
    assert [(row.batch, row.valid, row.accuracy) for row in got.measurements] == [(8, True, 1.0)]
    with pytest.raises(BadInput, match="no photos to measure with"):
        scripted(monkeypatch, tmp_path, [])
    with pytest.raises(BadInput, match="nothing to measure"):
        benchmark_from_artefacts([], photos)


def test_threads_pin_every_runner_and_many_photos_are_thinned_evenly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    got = scripted(monkeypatch, tmp_path, photos, replace(QUICK, batches=(3,), photos=6, threads=1))
    assert [row.valid for row in got.measurements] == [True]
    assert got.config.threads == 1
    assert got.photos == 6
    assert got.measurements[0].accuracy == 1.0


def test_artefacts_travel_to_the_child(tmp_path: Path) -> None:
    folder = tmp_path / "a folder\udcff"
    for artefact in (
        Classifier(folder, tiny_spec()),
        OnnxModel(folder / "int8.onnx", Precision.INT8, tiny_spec()),
        TfliteModel(folder / "int8.tflite", Precision.INT8, tiny_spec()),
    ):
        text = json.dumps(description_from_artefact(artefact))
        assert artefact_from_description(json.loads(text)) == artefact
    with pytest.raises(MissingArtefact):
        artefact_from_description({"kind": "engine", "path": str(tmp_path / "none.engine")})


@pytest.mark.slow
def test_real_runners_side_by_side(tmp_path: Path, photos: list[Photo]) -> None:
    artefacts = [tiny_classifier(tmp_path / "classifier"), tiny_onnx(tmp_path / "fp32.onnx")]
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
    return scripted(monkeypatch, tmp_path, photos, config, **behave)


def reasons(got: Benchmark) -> list[str]:
    """Why rows are not valid."""
    return [row.reason for row in got.measurements if not row.valid]


@pytest.mark.slow
def test_two_runs_agree_and_a_runner_slower_by_5_percent_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    ratios, told, untold = [], [], []
    while len(ratios) < 21:
        began = time.monotonic()
        got = worked(monkeypatch, tmp_path, photos, classifier="work 300", fp16="work 100", fp32="work 315")
        assert time.monotonic() - began < 60
        if reasons(got):  # once in a while something else runs; more often, and the machine is busy
            untold += reasons(got)[:1]
            if len(untold) > 2 + len(ratios) // 4:
                pytest.skip(f"this machine is busy: {len(untold)} runs were not valid, as {untold[-1]}")
            continue
        _, fast, slower = got.measurements
        ratios.append((fast.speedup, fast.speedup_low, fast.speedup_high))
        told.append(slower.speedup_high < 1)
    assert sum(told) >= 20
    pairs = list(pairwise(ratios))
    assert sum(low <= other <= high for (_, low, high), (other, _, _) in pairs) >= 18
    assert sum(abs(first[0] / second[0] - 1) <= 0.03 for first, second in pairs) >= 18


@contextmanager
def busy(core: int | None = None) -> Iterator[None]:
    """Another process that works without end while inside, on one core if it is told which."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as beside:
        try:
            if core is not None:
                os.sched_setaffinity(beside.pid, {core})
            yield
        finally:
            beside.kill()


@pytest.mark.slow
def test_a_loaded_core_is_never_a_confident_wrong_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    quiet = worked(monkeypatch, tmp_path, photos, classifier="work 300", fp16="work 100")
    if reasons(quiet):
        pytest.skip(f"this machine is busy: {reasons(quiet)[0]}")
    with busy():
        got = worked(monkeypatch, tmp_path, photos, classifier="work 300", fp16="work 100")
    fast = got.measurements[1]
    assert not fast.valid or fast.speedup_low <= quiet.measurements[1].speedup <= fast.speedup_high


@pytest.mark.slow
def test_a_core_that_is_shared_makes_every_row_invalid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    with busy(core=min(os.sched_getaffinity(0))):
        change = {"threads": 1, "min_seconds": 1.5, "warmup_seconds": 0.1}
        got = worked(monkeypatch, tmp_path, photos, change, classifier="work 30", fp16="work 10")
    assert len(reasons(got)) == len(got.measurements) == 2
    assert all(re.match(r"other processes used \d+% of the cores meanwhile|not steady", each) for each in reasons(got))


@pytest.mark.slow  # only an idle machine can tell
def test_the_harness_adds_little() -> None:
    spec = tiny_spec()
    answer = np.array([[0.2, 0.3, 0.5]], np.float32)

    class Instant(FakeRunner):
        """Costs nothing itself."""

        def infer(self, photos: np.ndarray) -> np.ndarray:
            return answer

    meter = Meter(Instant(spec).__enter__(), tiny_photos(4), 1)
    meter.warm_up(0.01, 1.0)
    assert min(meter.round(0.0, 2000, 5.0).watched_seconds for _ in range(9)) / 2000 < 20e-6
