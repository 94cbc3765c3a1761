"""LoadGen's queries: run in batches, completed whatever the runner does, and LoadGen itself where it is installed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.fakes.timed_runners import Overlapping, Time
from tests.support.benchmarks import QUICK
from tests.support.errors import raises
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import RunFailed
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.judge.bench.bench_config import Scenario
from trtpoets.judge.bench.loadgen import _QueryRunner, run_loadgen


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


@pytest.mark.parametrize("scenario", list(Scenario), ids=lambda scenario: scenario.value)
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


@pytest.mark.parametrize("scenario", [Scenario.SINGLE_STREAM, Scenario.SERVER], ids=lambda scenario: scenario.value)
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
    with Breaks(tiny_spec()) as runner, raises(RunFailed, "TP5015", "fake", "'scores'"):
        run_loadgen(runner, tiny_photos(4), scenario, 1, 0.05, config, tmp_path)


def test_without_loadgen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from trtpoets.core.errors import MissingDependency

    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MissingDependency) as caught, FakeRunner(tiny_spec()) as runner:
        run_loadgen(runner, tiny_photos(2), Scenario.OFFLINE, 1, 1.0, QUICK, tmp_path)
    assert caught.value.hint == "pip install 'trtpoets[loadgen]'"
