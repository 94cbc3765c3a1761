"""Settings of the head's training, and what training.json stores."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.training import Accuracy, HeadConfig, Optimizer, TrainingDetails


@pytest.mark.parametrize(
    ("change", "code", "values"),
    [
        ({"steps": 0}, "TP2063", ("steps", "0")),
        ({"batch_size": -1}, "TP2063", ("batch_size", "-1")),
        ({"eval_interval": 0}, "TP2063", ("eval_interval", "0")),
        ({"early_stop": 0}, "TP2063", ("early_stop", "0")),
        ({"learning_rate": 0}, "TP2064", ("0",)),
        ({"learning_rate": float("nan")}, "TP2064", ("nan",)),
        ({"l2": -0.1}, "TP2065", ("-0.1",)),
        ({"label_smoothing": 1}, "TP2066", ("1",)),
    ],
)
def test_invalid_configurations(change: dict[str, Any], code: str, values: tuple[str, ...]) -> None:
    with raises(BadInput, code, *values) as caught:
        replace(HeadConfig(), **change)
    assert caught.value.hint


@pytest.mark.parametrize("change", [{"l2": float("inf")}, {"label_smoothing": -0.1}, {"label_smoothing": float("nan")}])
def test_values_that_are_no_numbers_of_their_range(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        replace(HeadConfig(), **change)


def test_training_json_leaves_out_what_does_not_apply() -> None:
    accuracy = Accuracy(20, 18, 0.9, 0.7, 0.98)
    details = TrainingDetails(
        HeadConfig(steps=2, eval_interval=1, optimizer=Optimizer.SGD),
        1,
        0.5,
        (1, 2),
        (0.5, 0.6),
        (0.7, 0.6),
        (0.4, 0.5),
        (0.8, 0.7),
        test_accuracy=0.9,
        test_photos=20,
        families=3,
        together=accuracy,
    )
    document = json.loads(json.dumps(to_json(details)))
    assert document["together"]["low"] == 0.7 and document["config"]["optimizer"] == "sgd"
    assert {"as_it_stands", "without_copies", "command", "test_groups"}.isdisjoint(document)
    assert from_json(TrainingDetails, document, "training.json") == details
