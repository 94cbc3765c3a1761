"""The configuration of a benchmark."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.judge.bench.benchmark import BenchConfig


def test_rounds_on_a_gpu_are_fewer_and_longer() -> None:
    config = BenchConfig()
    assert list(config.rounds_of(False)) == list(range(20))
    assert config.seconds_of_a_round(False) == 0.1
    numbers = config.rounds_of(True)
    assert len(numbers) == 10
    assert [number % 2 for number in numbers] == [0, 1] * 5, "forwards and backwards by turns"
    assert config.seconds_of_a_round(True) == 0.4
    assert replace(config, min_seconds=10.0).seconds_of_a_round(True) == 1.0
    for rounds in range(1, 41):
        of = list(replace(config, rounds=rounds).rounds_of(True))
        assert (len(of), sorted({*of}), of[-1] < rounds) == (min(rounds, 10), of, True)


@pytest.mark.parametrize(
    ("change", "code", "values"),
    [
        ({"batches": ()}, "TP5001", ("[]",)),
        ({"batches": (0,)}, "TP5001", ("[0]",)),
        ({"batches": (1, 1)}, "TP5001", ("[1, 1]",)),
        ({"min_count": 0}, "TP5002", ("0 inferences",)),
        ({"threads": -1}, "TP5002", ("-1 threads",)),
        ({"rounds": 0}, "TP5002", (" 0 rounds",)),
        ({"min_seconds": -1.0}, "TP5005", ("-1.0",)),
        ({"max_seconds": 200.0}, "TP5005", ("200.0 s", "120.0 s")),
        ({"min_seconds": math.nan}, "TP5003", ("nan",)),
        ({"target_qps": math.inf}, "TP5003", ("inf",)),
    ],
)
def test_invalid_configurations(change: dict[str, Any], code: str, values: tuple[str, ...]) -> None:
    with raises(BadInput, code, *values) as caught:
        BenchConfig(**change)
    assert caught.value.hint
