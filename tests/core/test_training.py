"""Settings of the head's training, and what training.json stores."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.training import Accuracy, HeadConfig, Optimizer, TrainingDetails


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, not -1"),
        ({"eval_interval": 0}, "eval_interval must be at least 1, not 0"),
        ({"early_stop": 0}, "early_stop must be at least 1, not 0"),
        ({"learning_rate": 0}, "the learning rate must be above 0, not 0"),
        ({"learning_rate": float("nan")}, "the learning rate must be above 0, not nan"),
        ({"l2": -0.1}, "the L2 penalty must be at least 0, not -0.1"),
        ({"label_smoothing": 1}, "label smoothing must be at least 0 and below 1, not 1"),
    ],
)
def test_invalid_configurations(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$") as caught:
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
