"""MLPerf's scenarios with a simulated clock, and LoadGen itself, with runners that work and runners that fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.engine import paper_engine
from tests.fakes.gpu import FakeGpu, nothing_left
from tests.fakes.timed_runners import Overlapping, Time
from tests.support.benchmarks import QUICK, WARM, scripted
from tests.support.errors import raises
from tests.support.runner_ids import FAKE
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import BadInput
from trtpoets.core.types import Photo
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.device.runners.trt import TensorRtRunner
from trtpoets.judge.bench.bench_config import BenchConfig, Scenario
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


@pytest.mark.parametrize(("rate", "code", "values"), [(0.0, "TP5019", ()), (1.0, "TP5020", (1, "662 s", "25 s"))])
def test_a_server_needs_a_rate(rate: float, code: str, values: tuple[object, ...]) -> None:
    with raises(BadInput, code, *values) as caught:
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


def served(work_seconds: float, config: BenchConfig = SERVER) -> Served:
    time = Time()

    class Working(FakeRunner):
        """Takes `work_seconds` of the simulated clock for each batch, of any size."""

        def infer(self, photos: np.ndarray) -> np.ndarray:
            time.now += work_seconds
            return super().infer(photos)

    with Working(tiny_spec()) as runner:
        return serve(runner, tiny_photos(6), config, time.clock, time.sleep)


@pytest.mark.parametrize("rate", [100.0, 6000.0])
def test_a_server_with_two_slots_submits_the_waiting_photos(rate: float) -> None:
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


def test_a_server_that_is_fast_enough() -> None:
    result = served(0.001)
    assert result.offered == len(result.latencies_ms) == 662
    assert min(result.latencies_ms) >= 1.0
    bounded = replace(SERVER, max_p99_ms=20.0, timeout_seconds=60.0)
    too_short = outcome_from_served(FAKE, result, bounded)
    assert (too_short.valid, too_short.reason[:31]) == (False, "no bound of the 99th percentile")
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


def test_the_mean_latency_of_a_server_is_that_of_queueing_theory() -> None:
    # 100 photos a second arrive at random, and each takes 8 ms: the server is busy for 80 % of the time. In the queue
    # M/D/1 the mean wait is 0.8 / (2 * 0.2) times the 8 ms, 16 ms; the mean latency is the wait and the 8 ms, 24 ms.
    config = replace(SERVER, batches=(1,), min_seconds=200.0)
    result = served(0.008, config)
    assert np.mean(result.latencies_ms) == pytest.approx(24, rel=0.15)


def test_a_server_beside_other_processes_is_invalid() -> None:
    result = replace(served(0.001), taken_seconds=5.0)
    assert result.seconds == pytest.approx(6.6, rel=0.2)
    outcome = outcome_from_served(FAKE, result, replace(SERVER, max_others=0.25))
    assert (outcome.valid, outcome.reason[:20]) == (False, "other processes used")
    assert outcome_from_served(FAKE, replace(result, taken_seconds=None), replace(SERVER, max_others=0.25)).valid
    # By the kernel's counters, other processes may use slightly more than 100 % of a core.
    assert outcome_from_served(FAKE, replace(result, taken_seconds=1.01 * result.seconds), SERVER).valid


def test_a_server_that_cant_keep_up() -> None:
    result = served(0.05, replace(SERVER, batches=(1,)))
    outcome = outcome_from_served(FAKE, result, SERVER)
    assert outcome.reason == "can't keep up: answers 20 of 100 photos per second"


@pytest.mark.parametrize(
    ("value", "clock", "why"),
    [
        (2.05, 2.05, ""),
        (
            3.0,
            2.9,
            "LoadGen's p90_ms is 3, trtpoets' is 2: the machine was slower during LoadGen's run: trtpoets' clock",
        ),
        (
            1.5,
            1.6,
            "LoadGen's p90_ms is 1.5, trtpoets' is 2: the machine was faster during LoadGen's run: trtpoets' clock",
        ),
        (
            3.0,
            2.1,
            "LoadGen's p90_ms is 3, trtpoets' is 2: LoadGen's overhead: trtpoets' clock measured 2.1 for the same",
        ),
        (3.0, None, "LoadGen's p90_ms is 3, trtpoets' is 2: other arrivals, at another time"),
    ],
)
def test_why_loadgen_differs(value: float, clock: float | None, why: str) -> None:
    outcome = with_loadgen(outcome_from_rows(Scenario.SINGLE_STREAM, [row(1, 2.0)]), LoadgenResult(True, value, clock))
    assert outcome.loadgen is not None
    assert outcome.loadgen.why.startswith(why)
    assert bool(outcome.loadgen.why) == bool(why)


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
        # Both clocks time the same inferences. LoadGen's value includes its overhead, but its percentile may be one
        # rank lower.
        assert outcome.loadgen.clock_value is not None
        assert outcome.loadgen.value > 0.9 * outcome.loadgen.clock_value
        assert (Path(outcome.loadgen.logs) / "mlperf_log_detail.txt").is_file()
    assert [failure.why for failure in got.failures] == ["its process was ended by SIGSEGV"]


@pytest.mark.parametrize("scenario", ["offline", pytest.param("server", marks=pytest.mark.slow)])
def test_a_fast_runner_with_wrong_answers_is_invalid_in_a_scenario(
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
