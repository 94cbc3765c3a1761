"""When a benchmark has measured enough rounds, on synthetic rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.benchmarks import QUICK, scripted
from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Photo
from trtpoets.judge.bench import benchmark
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.judge.bench.benchmark import Benchmark
from trtpoets.judge.bench.early_stop import (
    TimeLimit,
    is_check_due,
    least_in_a_round,
    ratios_are_within,
    stopped_text,
    timed_out_text,
)


def medians(rounds: int, spread: float, seed: int, level: float = 1e6) -> dict[int, float]:
    """The medians of rounds with a relative standard deviation of `spread`."""
    return dict(enumerate(level * np.exp(np.random.default_rng(seed).normal(0, spread, rounds))))


def test_quiet_rounds_are_enough_and_noisy_ones_are_not() -> None:
    base = medians(8, 0.002, 0)
    quiet = [medians(8, 0.002, 1, 3e5), medians(8, 0.002, 2, 5e5)]
    assert ratios_are_within(0.05, base, quiet)
    assert not ratios_are_within(0.05, base, [*quiet, medians(8, 0.2, 3, 2e5)]), "one ratio is not known"
    assert not ratios_are_within(0.0005, base, quiet), "a narrower share takes more rounds"


def test_more_rounds_of_the_same_noise_are_enough() -> None:
    base, other = medians(200, 0.02, 5), medians(200, 0.02, 6)
    first = [{number: of[number] for number in range(8)} for of in (base, other)]
    assert not ratios_are_within(0.03, first[0], [first[1]])
    assert ratios_are_within(0.03, base, [other])


def test_what_is_not_known() -> None:
    base = medians(8, 0.002, 0)
    assert not ratios_are_within(0.05, base, []), "no ratio"
    assert not ratios_are_within(0.05, {}, [base]), "the baseline failed"
    assert not ratios_are_within(0.05, base, [medians(4, 0.002, 1)]), "too few rounds"
    assert not ratios_are_within(0.05, base, [{**base, 3: 0.0}]), "the clock stood still"
    drifting = {number: value * 1.04**number for number, value in base.items()}
    assert not ratios_are_within(0.05, medians(8, 1e-4, 1), [drifting]), "the ratio drifts"


def test_rounds_are_paired_by_their_number() -> None:
    # All runners become slower together. A runner on a GPU takes part in every second round.
    trend = [1e6 * 1.1**number for number in range(16)]
    base = dict(enumerate(trend))
    skipping = {number: trend[number] / 4 for number in range(0, 16, 2)}
    assert ratios_are_within(0.01, base, [skipping])


def test_looks_are_rare_and_never_after_the_last_round() -> None:
    assert [done for done in range(1, 21) if is_check_due(done, 20)] == [10, 12, 14, 16, 18]


def test_the_sentence() -> None:
    assert stopped_text({}, 0.05) == ""
    assert stopped_text({"1": 8}, 0.05) == "stopped after 8 rounds at batch 1: ratios within ±5 %"
    assert stopped_text({"1": 8, "8": 8}, 0.05) == "stopped after 8 rounds: ratios within ±5 %"
    text = "stopped after 8 rounds at batch 1, 12 rounds at batch 8: ratios within ±2.5 %"
    assert stopped_text({"1": 8, "8": 12}, 0.025) == text


def test_the_sentence_about_the_time() -> None:
    config = BenchConfig(ratio_within=0.05, wall_seconds=20)
    assert timed_out_text({}, config, "demo") == ""
    assert timed_out_text({"1": 6, "8": 12}, config, "demo") == (
        "The time limit of the benchmark, 20 s, was reached after 6 rounds at batch 1, 12 rounds at batch 8, before "
        "all ratios were within ±5 %. To measure longer, run: trtpoets bench demo --seconds 10"
    )
    text = "The time limit of the benchmark, 0.5 s, was reached after 6 rounds. To measure longer, run: "
    assert timed_out_text({"1": 6, "8": 6}, BenchConfig(wall_seconds=0.5), "demo").startswith(text)


def test_batch_sizes_share_the_time_that_is_left() -> None:
    now = [100.0]
    limit = TimeLimit(20.0, 2, lambda: now[0])
    enough = [(6, 11), None]  # the second runner failed
    now[0] = 108.0  # loading took 8 s
    assert limit.share_used() == pytest.approx(0.4)
    limit.begin_batch()
    assert not limit.is_reached(10, enough), "6 of the other 12 s belong to this batch size"
    now[0] = 114.0
    assert limit.is_reached(10, enough)
    assert not limit.is_reached(11, enough), "the orders of the runners must be balanced"
    assert not limit.is_reached(10, [(4, 20)]), "no interval yet"
    assert not limit.is_reached(10, [(5, 11), (6, 10)]), "no median yet"
    limit.begin_batch()
    now[0] = 119.9
    assert not limit.is_reached(10, enough)
    now[0] = 120.0
    assert limit.is_reached(10, enough)
    unlimited = TimeLimit(0.0, 1, lambda: now[0])
    unlimited.begin_batch()
    now[0] = 1e6
    assert (limit.share_used(), unlimited.share_used()) == (1.0, 0.0)
    assert not unlimited.is_reached(10, enough)


def test_long_inferences_need_no_more_rounds_than_short_ones() -> None:
    config = BenchConfig(wall_seconds=1.0, min_count=1)
    limit = TimeLimit(config.wall_seconds, 1, iter((0.0, 0.0, 60.0, 60.0)).__next__)
    limit.begin_batch()
    assert not limit.is_reached(4, [(4, 4 * least_in_a_round(config))])
    assert limit.is_reached(6, [(6, 6 * least_in_a_round(config))])
    assert least_in_a_round(BenchConfig()) == 0, "without a limit all rounds are measured"


def test_the_time_must_be_possible() -> None:
    for seconds, code in ((-1.0, "TP5005"), (float("inf"), "TP5003")):
        with raises(BadInput, code):
            BenchConfig(wall_seconds=seconds)


@pytest.mark.slow  # test_batch_sizes_share_the_time_that_is_left has the rule
def test_a_benchmark_whose_time_is_up_measures_what_an_interval_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    got = scripted(monkeypatch, tmp_path, photos, replace(QUICK, wall_seconds=1e-6), fp16="good", int8="will not load")
    assert (got.stopped, got.timed_out) == (None, {"1": 6, "4": 6})
    assert [(row.batch, len(row.round_p50_ms), row.valid, row.reason) for row in got.measurements] == [
        (1, 6, True, ""),
        (4, 6, True, ""),
    ] * 2
    assert all(row.p50_ms is not None for row in got.measurements)
    assert [failure.runner.name for failure in got.failures] == ["onnxruntime-int8"]
    assert from_json(Benchmark, json.loads(json.dumps(to_json(got))), "benchmark.json") == got


def test_the_share_must_be_possible() -> None:
    for share in (-0.1, 1.0):
        with raises(BadInput, "TP5180"):
            BenchConfig(ratio_within=share)


def test_a_benchmark_stops_at_a_look_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    looked: list[int] = []

    def within(share: float, base: Mapping[int, float], others: Sequence[Mapping[int, float]]) -> bool:
        looked.append(len(base))
        assert (share, len(others)) == (0.05, 1)
        return len(looked) == 2

    monkeypatch.setattr(benchmark, "ratios_are_within", within)
    config = replace(QUICK, rounds=14, ratio_within=0.05)
    got = scripted(monkeypatch, tmp_path, photos, config, fp16="good")
    assert looked == [10, 12, 10, 12]
    assert got.stopped == {"1": 12}
    assert [(row.batch, len(row.round_p50_ms), row.valid, row.reason) for row in got.measurements] == [
        (1, 12, True, ""),
        (4, 14, True, ""),
    ] * 2
    assert got.measurements[0].p90_ms is None, "54 of the 64 inferences that a 90th percentile needs"
    assert got.measurements[1].p90_ms is not None
    assert from_json(Benchmark, json.loads(json.dumps(to_json(got))), "benchmark.json") == got


@pytest.mark.slow  # the usual benchmark
def test_without_a_share_all_rounds_are_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Photo]
) -> None:
    monkeypatch.setattr(benchmark, "ratios_are_within", lambda *_: True)
    got = scripted(monkeypatch, tmp_path, photos, replace(QUICK, batches=(1,)), fp16="good")
    assert got.stopped is None
    assert "stopped" not in to_json(got)
    assert [len(row.round_p50_ms) for row in got.measurements] == [10, 10]
