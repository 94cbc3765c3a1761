"""MLPerf's scenarios with a clock of our own, and LoadGen itself, with runners that do well and that break."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.fakes.engine import paper_engine
from tests.fakes.gpu import FakeGpu, nothing_left
from tests.support.benchmarks import QUICK, WARM, scripted
from tests.support.runner_ids import FAKE
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.types import Photo
from trtpoets.device.runners.base import Ticket
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.device.runners.trt import TensorRtRunner
from trtpoets.judge.bench.bench_config import BenchConfig, Scenario
from trtpoets.judge.bench.loadgen import _QueryRunner, run_loadgen
from trtpoets.judge.bench.measure import Measurement, RunDetails, measurement_from_rounds
from trtpoets.judge.bench.meter import Round
from trtpoets.judge.bench.scenario import (
    LoadgenResult,
    ScenarioOutcome,
    Served,
    config_for,
    outcome_from_rows,
    outcome_from_served,
    outcome_from_streamed,
    serve,
    stream,
    with_loadgen,
)

SERVER = replace(QUICK, scenario="server", target_qps=100.0, batches=(4,))


def row(batch: int, milliseconds: float, count: int = 700) -> Measurement:
    watched = RunDetails(FAKE, batch, 1.5, (), "", 100.0)
    return measurement_from_rounds(WARM, [Round([int(milliseconds * 1e6)] * count)], watched, (), QUICK)


def test_the_metric_of_each_scenario() -> None:
    assert config_for(Scenario.SINGLE_STREAM, QUICK).batches == (1,)
    multi = config_for(Scenario.MULTI_STREAM, QUICK)
    assert (multi.batches, multi.min_count) == ((8,), 662)
    assert config_for(Scenario.OFFLINE, QUICK).batches == (1, 4)
    assert config_for(Scenario.OFFLINE, replace(QUICK, batches=(1, 8))).batches == (1, 2, 4, 8, 16, 32)
    assert config_for(Scenario.SERVER, replace(SERVER, min_count=662)) == SERVER


@pytest.mark.parametrize(
    ("rate", "message"), [(0.0, "the server scenario needs a rate of arrivals"), (1.0, "a 99th percentile takes 662 s")]
)
def test_a_server_needs_a_rate(rate: float, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        config_for(Scenario.SERVER, replace(SERVER, target_qps=rate))
    assert caught.value.hint


def test_outcomes() -> None:
    assert outcome_from_rows(Scenario.SINGLE_STREAM, [row(1, 2.0)]) == ScenarioOutcome(
        "single-stream", FAKE, 1, "p90_ms", 2.0, True, ""
    )
    few = outcome_from_rows(Scenario.MULTI_STREAM, [row(8, 2.0, count=100)])
    assert (few.metric, few.value, few.valid, few.reason) == ("p99_ms", None, False, "too few queries for p99_ms")
    best = outcome_from_rows(Scenario.OFFLINE, [row(1, 2.0), row(8, 4.0), row(16, 9.0)])
    assert (best.batch, best.metric, best.value) == (8, "photos_per_s", pytest.approx(2000))


class Time:
    """Passes only while it is slept through, or worked through."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        self.now += 1e-6
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-5)


def served(work_seconds: float, config: BenchConfig = SERVER) -> Served:
    time = Time()

    class Working(FakeRunner):
        """Takes its time by the clock of the test, whatever the batch."""

        def infer(self, photos: np.ndarray) -> np.ndarray:
            time.now += work_seconds
            return super().infer(photos)

    with Working(tiny_spec()) as runner:
        return serve(runner, tiny_photos(6), config, time.clock, time.sleep)


class Overlapping(FakeRunner):
    """Has two batches under way, each done so long after it was submitted, and after the one before, by its clock."""

    slots = 2

    def __init__(self, time: Time, work_seconds: float) -> None:
        super().__init__(tiny_spec())
        self.time, self.work_seconds, self.done_at = time, work_seconds, 0.0
        self.under_way: list[tuple[Ticket, float]] = []
        self.most = 0

    def submit(self, photos: np.ndarray) -> Ticket:
        self.done_at = max(self.done_at, self.time.now) + self.work_seconds
        self.under_way.append((super().submit(photos), self.done_at))
        self.most = max(self.most, len(self.under_way))
        return self.under_way[-1][0]

    def collect(self, ticket: Ticket) -> np.ndarray:
        first, done_at = self.under_way.pop(0)
        assert first is ticket, "the first is collected first"
        self.time.now = max(self.time.now, done_at)
        return super().collect(ticket)


@pytest.mark.parametrize("rate", [100.0, 6000.0])
def test_a_server_with_two_slots_submits_what_waits(rate: float) -> None:
    time = Time()
    runner = Overlapping(time, 0.001)
    with runner:
        result = serve(runner, tiny_photos(6), replace(SERVER, target_qps=rate), time.clock, time.sleep)
    assert result.offered == len(result.latencies_ms) and runner.under_way == []
    assert min(result.latencies_ms) >= 1.0 and runner.most == 2
    assert outcome_from_served(FAKE, result, replace(SERVER, target_qps=rate)).valid is (rate < 6000)


def test_offline_work_keeps_all_slots_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch)
    config = replace(QUICK, min_seconds=0.01)
    with nothing_left(gpu), TensorRtRunner(paper_engine(tmp_path)) as runner:
        run = stream(runner, tiny_photos(6), 4, config)
        journal = [call for call in gpu.journal if call in ("launch", "synchronize")]
    assert run.slots == 2 and run.photos % 4 == 0 and run.photos >= 4
    assert journal.count("launch") > 3 and journal[-3:] == ["launch", "synchronize", "synchronize"], "two are under way"
    alone = outcome_from_rows(Scenario.OFFLINE, [row(4, 2.0)])
    outcome = outcome_from_streamed(alone, replace(run, photos=400, seconds=0.1, taken_seconds=0.0), config)
    assert (outcome.value, outcome.batch, outcome.under_way, outcome.valid) == (4000, 4, 2, True)
    strict = replace(config, max_others=0.25)
    late = outcome_from_streamed(alone, replace(run, seconds=0.1, taken_seconds=0.09), strict)
    assert not late.valid and "other processes" in late.reason
    with FakeRunner(tiny_spec()) as plain:
        assert stream(plain, tiny_photos(6), 4, config).slots == 1


class Judge:
    """LoadGen's answers, as far as a desk needs them."""

    def __init__(self) -> None:
        self.completed: list[int] = []

    def QuerySampleResponse(self, sample: int, address: int, size: int) -> int:
        return sample

    def QuerySamplesComplete(self, samples: list[int]) -> None:
        self.completed += samples


@pytest.mark.parametrize("inline", [True, False])
def test_a_desk_has_the_next_batch_under_way(inline: bool) -> None:
    judge, runner = Judge(), Overlapping(Time(), 0.001)
    samples = [SimpleNamespace(id=number, index=number % 6) for number in range(10)]
    with runner:
        desk = _QueryRunner(runner, tiny_photos(6), 4, judge, inline=inline)
        desk.issue(samples)
        desk.close()
    assert judge.completed == list(range(10)) and desk.error is None and runner.under_way == []
    assert not inline or (runner.most == 2 and desk.value(Scenario.OFFLINE))


@pytest.mark.parametrize("broken", ["submit", "collect"])
@pytest.mark.parametrize("inline", [True, False])
def test_a_desk_completes_every_sample_of_a_runner_that_breaks(
    inline: bool, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> Any:
        raise KeyError("scores")

    judge, runner = Judge(), FakeRunner(tiny_spec())
    monkeypatch.setattr(runner, broken, breaks)
    with runner:
        desk = _QueryRunner(runner, tiny_photos(6), 4, judge, inline=inline)
        desk.issue([SimpleNamespace(id=number, index=0) for number in range(10)])
        desk.close()
    assert judge.completed == list(range(10)) and isinstance(desk.error, KeyError)


def test_a_server_that_is_quick_enough() -> None:
    result = served(0.001)
    assert result.offered == len(result.latencies_ms) == 662
    assert min(result.latencies_ms) >= 1.0
    bounded = replace(SERVER, max_p99_ms=20.0, timeout_seconds=60.0)
    unsure = outcome_from_served(FAKE, result, bounded)
    assert (unsure.valid, unsure.reason[:31]) == (False, "no bound of the 99th percentile")
    result = served(0.001, bounded)
    assert result.offered == 3 * 662
    outcome = outcome_from_served(FAKE, result, bounded)
    assert (outcome.valid, outcome.batch, outcome.metric) == (True, 4, "p99_ms")
    assert outcome.value is not None
    assert 1.0 < outcome.value < 5.0
    late = outcome_from_served(FAKE, result, replace(bounded, max_p99_ms=1.0))
    assert (late.valid, late.reason[:25]) == (False, "the 99th percentile is 1.")
    assert outcome.value is not None
    edge = outcome_from_served(FAKE, result, replace(bounded, max_p99_ms=1.001 * outcome.value))
    assert (edge.valid, edge.reason[:25]) == (False, "the 99th percentile may b")


def test_a_server_waits_in_line() -> None:
    # A service of 8 ms, one photo at a time, 100 of them a second at random: a queue that is 80 % busy. By theory
    # (M/D/1) the mean wait is 0.8 / (2 * 0.2) services, 16 ms, beside the 8 ms of the service itself.
    config = replace(SERVER, batches=(1,), min_seconds=200.0)
    result = served(0.008, config)
    assert np.mean(result.latencies_ms) == pytest.approx(24, rel=0.15)


def test_a_server_beside_other_processes_is_invalid() -> None:
    result = replace(served(0.001), taken_seconds=5.0)
    assert result.seconds == pytest.approx(6.6, rel=0.2)
    outcome = outcome_from_served(FAKE, result, replace(SERVER, max_others=0.25))
    assert (outcome.valid, outcome.reason[:20]) == (False, "other processes used")
    assert outcome_from_served(FAKE, replace(result, taken_seconds=None), replace(SERVER, max_others=0.25)).valid
    # The kernel's counters may make a little more of a core than there is of it.
    assert outcome_from_served(FAKE, replace(result, taken_seconds=1.01 * result.seconds), SERVER).valid


def test_a_server_that_cant_keep_up() -> None:
    result = served(0.05, replace(SERVER, batches=(1,)))
    outcome = outcome_from_served(FAKE, result, SERVER)
    assert outcome.reason == "can't keep up: answers 20 of 100 photos per second"


@pytest.mark.parametrize(
    ("value", "clock", "why"),
    [
        (2.05, 2.05, ""),
        (3.0, 2.9, "LoadGen's p90_ms is 3, ours 2: the machine was slower then: our own clock measured 2.9 in its"),
        (
            1.5,
            1.6,
            "LoadGen's p90_ms is 1.5, ours 2: the machine was faster then: our own clock measured 1.6 in its run",
        ),
        (3.0, 2.1, "LoadGen's p90_ms is 3, ours 2: its own overhead: our own clock measured 2.1 for the same queries"),
        (3.0, None, "LoadGen's p90_ms is 3, ours 2: other arrivals, at another time"),
    ],
)
def test_why_loadgen_differs(value: float, clock: float | None, why: str) -> None:
    outcome = with_loadgen(outcome_from_rows(Scenario.SINGLE_STREAM, [row(1, 2.0)]), LoadgenResult(True, value, clock))
    assert outcome.loadgen is not None
    assert outcome.loadgen.why.startswith(why)
    assert bool(outcome.loadgen.why) == bool(why)


@pytest.mark.parametrize("scenario", list(Scenario), ids=lambda each: each.value)
def test_loadgen_itself(tmp_path: Path, scenario: Scenario) -> None:
    pytest.importorskip("mlperf_loadgen")
    delay = 0.0005
    config = replace(QUICK, min_seconds=0.2, target_qps=500.0, max_p99_ms=100.0)
    batch = 8 if scenario is not Scenario.SINGLE_STREAM else 1
    with FakeRunner(tiny_spec(), delay_seconds=delay) as runner:
        judged = run_loadgen(runner, tiny_photos(16), scenario, batch, 1000 * delay, config, tmp_path / "logs")
    assert (tmp_path / "logs" / "mlperf_log_summary.txt").is_file()
    assert judged.logs == str(tmp_path / "logs")
    if scenario is Scenario.OFFLINE:
        assert judged.value < 8 / delay
    else:
        assert judged.value > 1000 * delay
        assert judged.queries >= 64
    assert (judged.clock_value is None) == (scenario is Scenario.SERVER)


@pytest.mark.parametrize("scenario", [Scenario.SINGLE_STREAM, Scenario.SERVER], ids=lambda each: each.value)
def test_a_runner_that_breaks_under_loadgen(tmp_path: Path, scenario: Scenario) -> None:
    pytest.importorskip("mlperf_loadgen")

    class Breaks(FakeRunner):
        """After a while."""

        calls = 0

        def infer(self, photos: np.ndarray) -> np.ndarray:
            self.calls += 1
            if self.calls > 10:
                raise KeyError("scores")
            return super().infer(photos)

    config = replace(QUICK, min_seconds=0.05, target_qps=2000.0)
    with Breaks(tiny_spec()) as runner, pytest.raises(RunFailed, match="fake failed under LoadGen: 'scores'"):
        run_loadgen(runner, tiny_photos(4), scenario, 1, 0.05, config, tmp_path)


def test_a_benchmark_of_a_scenario(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]) -> None:
    pytest.importorskip("mlperf_loadgen")
    monkeypatch.chdir(tmp_path)
    config = replace(QUICK, batches=(1,), min_seconds=0.2, scenario="single-stream", loadgen=True)
    got = scripted(monkeypatch, tmp_path, photos, config, fp16="work 100", int8="crash")
    assert [(outcome.runner.name, outcome.metric, outcome.valid) for outcome in got.outcomes] == [
        ("tensorflow", "p90_ms", True),
        ("onnxruntime-fp16", "p90_ms", True),
    ]
    for outcome in got.outcomes:
        assert outcome.loadgen is not None
        assert outcome.loadgen.valid
        # The same inferences by both clocks, LoadGen's around ours; its rank of a percentile may be one below.
        assert outcome.loadgen.clock_value is not None
        assert outcome.loadgen.value > 0.9 * outcome.loadgen.clock_value
        assert (Path(outcome.loadgen.logs) / "mlperf_log_detail.txt").is_file()
    assert [failure.why for failure in got.failures] == ["its process was ended by SIGSEGV"]


@pytest.mark.parametrize("scenario", ["offline", pytest.param("server", marks=pytest.mark.slow)])
def test_a_fast_wrong_runner_wins_no_scenario(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo], scenario: str
) -> None:
    config = replace(SERVER, target_qps=1500.0, batches=(4,), scenario=scenario)
    got = scripted(monkeypatch, tmp_path, photos, config, fp16="wrong", int8="crash")
    assert [outcome.runner.name for outcome in got.outcomes] == ["tensorflow", "onnxruntime-fp16"]
    assert (got.outcomes[1].valid, got.outcomes[1].reason[:9]) == (False, "wrong: 0%")


def test_ctrl_c_in_a_scenario_keeps_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    calls: list[tuple[str, int, int]] = []

    def press(task: str, done: int, total: int) -> None:
        calls.append((task, done, total))
        if (task, done) == ("offline scenario", 1):
            raise KeyboardInterrupt

    config = replace(QUICK, batches=(1, 4), min_seconds=0.1, scenario="offline")
    got = scripted(monkeypatch, tmp_path, photos, config, progress=press, fp16="good")
    assert got.incomplete == "in the offline scenario of onnxruntime-fp16"
    assert [outcome.runner.name for outcome in got.outcomes] == ["tensorflow"]
    assert [row.valid for row in got.measurements] == [True] * 4
    assert calls[-2:] == [("offline scenario", 0, 2), ("offline scenario", 1, 2)]


def test_a_benchmark_of_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]) -> None:
    config = replace(SERVER, target_qps=1500.0, batches=(16,))
    got = scripted(monkeypatch, tmp_path, photos, config, classifier="slow", fp16="good")
    slow, fast = got.outcomes
    assert (slow.runner.name, slow.valid) == ("tensorflow", False)  # 20 ms for at most 16: 800 photos a second
    assert slow.reason.startswith("can't keep up: answers ")
    assert fast.value is not None


def test_without_loadgen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from trtpoets.core.errors import MissingDependency

    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MissingDependency) as caught, FakeRunner(tiny_spec()) as runner:
        run_loadgen(runner, tiny_photos(2), Scenario.OFFLINE, 1, 1.0, QUICK, tmp_path)
    assert caught.value.hint == "pip install 'trtpoets[loadgen]'"
