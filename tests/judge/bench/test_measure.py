"""The measurement of a runner, from its rounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.benchmarks import QUICK, WARM, BusyWatch, Ramping, measurement_of
from tests.support.runner_ids import FAKE
from tests.support.tiny import tiny_photos
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.judge.bench.measure import RunDetails, measurement_from_rounds
from trtpoets.judge.bench.meter import Meter, Round
from trtpoets.judge.bench.slowdown_watch import GpuLoad


@pytest.mark.parametrize(("taken", "others", "valid"), [(0.5, 0.5, False), (0.1, 0.1, True), (-0.01, 0.0, True)])
def test_others_on_our_cores_make_it_invalid(taken: float, others: float, valid: bool) -> None:
    rounds = [Round([1_000_000] * 64, watched_seconds=1.0, taken_seconds=item) for item in (taken, taken)]
    got = measurement_of(rounds, max_others=0.25)
    assert (got.valid, got.others) == (valid, others)
    if not valid:
        assert got.reason == "other processes used 50% of the cores meanwhile: measure again on a quieter machine"


@pytest.mark.parametrize("rounds", [[Round([1_000_000] * 64, watched_seconds=0.4, taken_seconds=0.4)], [Round([1])]])
def test_what_others_used_is_not_always_known(rounds: list[Round]) -> None:
    assert measurement_of(rounds).others is None


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
    measurement = measurement_from_rounds(WARM, rounds, RunDetails(FAKE, 1, 1.5, (), "", 100.0, gpu=True), (), QUICK)
    assert measurement.reason == (
        "the GPU was not steady after 3.0 s of work before 1 of 10 rounds: end other programs on it"
    )
