"""Options and content of train-benchmark.json."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.report_documents import train_benchmark
from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import from_json, to_json
from trtpoets.judge.train_benchmark import TrainBenchConfig, TrainBenchmark


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rates": ()}, "at least one learning rate is needed"),
        ({"learning_rates": (0.1, 0.1)}, "each only once"),
        ({"learning_rates": (0.1, 0.0)}, "must be finite and above 0, not 0"),
        ({"learning_rates": (float("inf"),)}, "must be finite and above 0, not inf"),
        ({"photos": 0}, "photos and rounds must be at least 1, not 0 and 3"),
        ({"rounds": 0}, "photos and rounds must be at least 1"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        TrainBenchConfig(**options)
    assert caught.value.hint


def test_a_benchmark_is_read_as_it_was_written() -> None:
    benchmark = from_json(TrainBenchmark, train_benchmark(), "train-benchmark.json")
    assert [head.failed is None for head in benchmark.heads] == [True, True, False]
    assert from_json(TrainBenchmark, json.loads(json.dumps(to_json(benchmark))), "again") == benchmark
