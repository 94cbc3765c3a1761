"""Which results are up to date with the files of a run."""

from __future__ import annotations

from dataclasses import replace

from tests.support.benchmarks import QUICK
from trtpoets.pipeline.result_status import benchmark_key


def test_the_key_of_a_benchmark_has_the_option_only_where_it_is_set() -> None:
    with_pairs = replace(QUICK, qdq_on_cpu=True)
    assert benchmark_key(["a"], [], QUICK) != benchmark_key(["a"], [], with_pairs)
