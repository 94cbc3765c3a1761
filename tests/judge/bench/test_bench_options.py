"""The configuration of a benchmark from options of the command line."""

from __future__ import annotations

from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.judge.bench.bench_config import BenchConfig, Scenario
from trtpoets.judge.bench.bench_options import bench_config
from trtpoets.judge.statistics import least_count


def test_without_batches_the_defaults_are_measured() -> None:
    config = bench_config(None, 2.0, 4)
    assert (config.batches, config.min_seconds, config.threads) == (BenchConfig.batches, 2.0, 4)
    assert (config.scenario, config.min_count) == ("", BenchConfig.min_count)
    assert bench_config([4, 16], 2.0, 0).batches == (4, 16)


def test_a_limit_of_p99_needs_more_inferences_and_time() -> None:
    config = bench_config([1], 2.0, 0, max_p99=5.0)
    assert (config.min_count, config.max_p99_ms) == (least_count(99), 5.0)
    assert config.aim_count > config.min_count
    assert config.max_seconds >= 120


def test_time_limits_grow_with_the_measuring_time() -> None:
    config = bench_config([1], 500.0, 0)
    assert config.max_seconds == 1000.0 and config.timeout_seconds == 2000.0


def test_a_rate_applies_to_servers_only() -> None:
    with raises(BadInput, "TP5006", "10"):
        bench_config([1], 2.0, 0, target_qps=10.0)
    config = bench_config([1], 2.0, 0, scenario=Scenario.SERVER, target_qps=100.0)
    assert (config.scenario, config.target_qps) == ("server", 100.0)
