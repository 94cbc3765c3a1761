"""Options and content of train-benchmark.json."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.errors import raises
from tests.support.report_documents import train_benchmark
from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import from_json, to_json
from trtpoets.judge.train_benchmark import TrainBenchConfig, TrainBenchmark


@pytest.mark.parametrize(
    ("options", "code", "values"),
    [
        ({"learning_rates": ()}, "TP5101", ("[]",)),
        ({"learning_rates": (0.1, 0.1)}, "TP5101", ("[0.1, 0.1]",)),
        ({"learning_rates": (0.1, 0.0)}, "TP5102", ("0",)),
        ({"learning_rates": (float("inf"),)}, "TP5102", ("inf",)),
        ({"photos": 0}, "TP5103", ("0", "3")),
        ({"rounds": 0}, "TP5103", ("256", "0")),
        ({"steps": 0}, "TP5103", ("256", "3", "0")),
        ({"unfreeze": "auto"}, "TP5104", ("'auto'",)),
        ({"unfreeze": "0"}, "TP5104", ("'0'",)),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], code: str, values: tuple[str, ...]) -> None:
    with raises(BadInput, code, *values) as caught:
        TrainBenchConfig(**options)
    assert caught.value.hint


def test_a_benchmark_is_read_as_it_was_written() -> None:
    benchmark = from_json(TrainBenchmark, train_benchmark(), "train-benchmark.json")
    assert [head.failed is None for head in benchmark.heads] == [True, True, False]
    assert from_json(TrainBenchmark, json.loads(json.dumps(to_json(benchmark))), "again") == benchmark
