"""The rounds of one runner, timed by a clock of the test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.fakes.failing_runners import right_scores
from tests.support.benchmarks import QUICK, WARM, BusyWatch, Ramping, measure, measurement_of
from tests.support.runner_ids import FAKE
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.types import Photo
from trtpoets.device.runners.base import Timing
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.judge.bench.benchmark import BenchConfig
from trtpoets.judge.bench.measure import RunDetails, measurement_from_rounds
from trtpoets.judge.bench.meter import Meter, Round, _stable
from trtpoets.judge.bench.slowdown_watch import GpuLoad


class Clock:
    """A clock that advances by the next of `spans`, in nanoseconds, at each second call (after an inference)."""

    def __init__(self, *spans: int) -> None:
        self.spans, self.looks, self.now = spans, 0, 0

    def __call__(self) -> int:
        if self.looks % 2:
            self.now += self.spans[min(self.looks // 2, len(self.spans) - 1)]
        self.looks += 1
        return self.now


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
    ],
)
def test_timings_that_must_not_be_used(config: BenchConfig, clock: Clock, reason: str) -> None:
    got, _ = measure(config, clock=clock)
    assert not got.valid
    assert reason in got.reason


def test_a_percentile_that_the_count_does_not_support_is_left_out() -> None:
    got, _ = measure(replace(QUICK, min_count=20), clock=Clock(1_000_000))
    assert (got.valid, got.count, got.p50_ms, got.p90_ms, got.p99_ms) == (True, 20, 1.0, None, None)
    # One inference fewer than the 90th percentile, and then the 99th, needs.
    got = measurement_of([Round([1_000_000] * 63)])
    assert (got.valid, got.reason, got.p50_ms, got.p90_ms) == (True, "", 1.0, None)
    got = measurement_of([Round([1_000_000] * 661)], min_count=662)
    assert (got.valid, got.reason, got.p90_ms, got.p95_ms, got.p99_ms) == (True, "", 1.0, 1.0, None)
    got = measurement_of([Round([1_000_000] * 10)])
    assert (got.valid, got.reason) == (False, "only 10 of 64 inferences in 20 s: too slow, or too busy")


def test_a_benchmark_that_stopped_early_timed_its_share_of_the_seconds() -> None:
    config = replace(QUICK, min_seconds=0.1)
    rounds = [Round([1_000_000] * 10) for _ in range(8)]
    for stopped, reason in ((True, ""), (False, "timed for 0.08 of 0.1 s: too slow, or too busy")):
        details = RunDetails(FAKE, 1, 1.5, (), "", 100.0, stopped=stopped)
        assert measurement_from_rounds(WARM, rounds, details, (), config).reason == reason


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


def test_noise_does_not_prolong_the_warm_up_and_a_trend_does() -> None:
    noise = [int(1e6 * (1 + 0.3 * float(value))) for value in np.random.default_rng(0).uniform(-1, 1, 200)]
    assert _stable(noise)
    assert not _stable([int(1e6 * 0.97**number) for number in range(40)])
    drifting = [int(value**0.1 * 1e6**0.9 * 1.02**number) for number, value in enumerate(noise[:24])]
    assert not _stable(drifting)
    assert not _stable([100, 100, 100, 100, 100]), "two windows of three are needed"


def test_a_brief_meter_omits_untimed_inferences() -> None:
    class Counted(FakeRunner):
        inferences = 0

        def infer(self, photos: np.ndarray) -> np.ndarray:
            self.inferences += 1
            return super().infer(photos)

    for brief, nanoseconds, settles in ((False, 200_000_000, True), (True, 200_000_000, False), (True, 100, True)):
        runner = Counted(tiny_spec())
        with runner:
            meter = Meter(runner, tiny_photos(2), 1, clock=Clock(nanoseconds), brief=brief)
            meter.warm_up(0.0, 0.1)
            before = runner.inferences
            timed = len(meter.round(0.0, 3, 10.0).spans)
            assert (runner.inferences - before > timed) == settles


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


def test_every_batch_of_scores_is_checked() -> None:
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
