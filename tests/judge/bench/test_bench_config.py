"""The configuration of a benchmark."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

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
    ("change", "message"),
    [
        ({"batches": ()}, "batch sizes must be different and at least 1, not []"),
        ({"batches": (0,)}, "batch sizes must be different and at least 1, not [0]"),
        ({"batches": (1, 1)}, "batch sizes must be different and at least 1, not [1, 1]"),
        ({"min_count": 0}, "0 inferences, "),
        ({"threads": -1}, "-1 threads at least 0"),
        ({"rounds": 0}, " 0 rounds must"),
        ({"min_seconds": -1.0}, "not -1.0 to"),
        ({"max_seconds": 200.0}, "to 200.0 s with a timeout of 120.0 s"),
        ({"min_seconds": math.nan}, "times and rates must be finite, not nan"),
        ({"target_qps": math.inf}, "times and rates must be finite, not inf"),
    ],
)
def test_invalid_configurations(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        BenchConfig(**change)
    assert message in caught.value.message
    assert caught.value.hint
