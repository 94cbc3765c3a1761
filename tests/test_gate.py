"""The gate: what passes, what fails, and what so few photos can't tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runner_ids import runner as identity
from trtpoets.core.errors import BadInput, GateFailed
from trtpoets.core.runner_id import TENSORFLOW
from trtpoets.core.spec import Photo, Split
from trtpoets.judge.evaluate import evaluation_from_scores
from trtpoets.judge.gate import (
    GateConfig,
    Outcome,
    gate_from_evaluations,
    photos_for_share,
    require_passed,
    sentence,
    unknowns,
)
from trtpoets.judge.statistics import wilson_interval

LABELS = ("ant", "bee")


def evaluations(
    photos: int, *, lost: int = 0, won: int = 0, runner: str = "onnxruntime-int8", known: bool = True
) -> list[dict[str, Any]]:
    """TensorFlow right on all but `won` photos; the runner wrong on `lost` of those, right on the `won` ones."""
    shown = [Photo(Path(f"{i}.jpg"), LABELS[i % 2] if known else "cat", Split.TEST, "0" * 64) for i in range(photos)]
    truth = np.arange(photos) % 2
    reference, answers = truth.copy(), truth.copy()
    answers[:lost] = 1 - truth[:lost]
    reference[lost : lost + won] = 1 - truth[lost : lost + won]

    def scores(said: np.ndarray) -> np.ndarray:
        return np.where(np.arange(2) == said[:, None], 0.9, 0.1).astype(np.float32)

    first = evaluation_from_scores(TENSORFLOW, scores(reference), shown, LABELS)
    second = evaluation_from_scores(identity(runner), scores(answers), shown, LABELS, scores(reference))
    return [first.to_dict(), second.to_dict()]


def outcome(found: list[dict[str, Any]], **limits: Any) -> Outcome:
    return gate_from_evaluations(found, GateConfig(**limits)).outcome


def test_enough_photos_are_held_to_what_was_measured() -> None:
    assert outcome(evaluations(1000, lost=5), max_drop=0.5) is Outcome.PASSED
    assert outcome(evaluations(1000, lost=6), max_drop=0.5) is Outcome.FAILED
    assert outcome(evaluations(1000, lost=20), min_agreement=98) is Outcome.PASSED
    assert outcome(evaluations(1000, lost=21), min_agreement=98) is Outcome.FAILED
    assert outcome(evaluations(1000, lost=30, won=30), max_drop=0.5) is Outcome.PASSED
    assert outcome(evaluations(1000, lost=30, won=30), max_drop=0.5, min_agreement=98) is Outcome.FAILED


def test_few_photos_fail_only_what_chance_does_not_explain() -> None:
    assert outcome(evaluations(30), max_drop=0.5, min_agreement=98) is Outcome.UNKNOWN
    assert outcome(evaluations(30, lost=1), max_drop=0.5, min_agreement=98) is Outcome.UNKNOWN
    assert outcome(evaluations(30, lost=15), max_drop=0.5) is Outcome.FAILED
    assert outcome(evaluations(30, lost=15), min_agreement=98) is Outcome.FAILED
    # Two lost photos of two may be chance: the exact test knows better than an interval.
    assert outcome(evaluations(2, lost=2), max_drop=0.5) is Outcome.UNKNOWN


def test_a_doubt_says_how_many_photos_would_do() -> None:
    gate = gate_from_evaluations(evaluations(100, lost=1), GateConfig(0.5, 98)).to_dict()
    assert unknowns(gate) == [
        "100 photos can't tell whether 98 % of the answers stay (189 could): onnxruntime-int8",
        "100 photos can't tell whether accuracy falls by at most 0.5 points (765 could): onnxruntime-int8",
    ]
    require_passed(gate)
    assert outcome(evaluations(189), min_agreement=98) is Outcome.PASSED
    assert outcome(evaluations(188), min_agreement=98) is Outcome.UNKNOWN


@given(st.floats(0.0005, 0.7))
def test_photos_for_share_is_the_least_that_prove_it(limit: float) -> None:
    least = photos_for_share(limit)
    assert wilson_interval(0, least).high <= limit
    assert wilson_interval(0, least - 1).high > limit


def test_a_limit_of_nothing_lost_is_held_to_what_was_seen() -> None:
    assert outcome(evaluations(20), max_drop=0, min_agreement=100) is Outcome.PASSED
    assert outcome(evaluations(20, lost=1), min_agreement=100) is Outcome.FAILED
    assert outcome(evaluations(20, lost=1), max_drop=0) is Outcome.FAILED


def test_photos_without_a_known_label_can_agree_but_not_be_right() -> None:
    found = evaluations(400, known=False)
    assert outcome(found, min_agreement=98) is Outcome.PASSED
    gate = gate_from_evaluations(found, GateConfig(max_drop=0.5))
    assert gate.outcome is Outcome.UNKNOWN
    assert "no photo with a label" in sentence(gate.to_dict()["runners"][0]["checks"][0])


def test_the_worst_runner_decides_and_wide_ones_are_not_asked() -> None:
    wide = evaluations(1000, lost=400, runner="onnxruntime-fp32")
    found = [*wide, evaluations(1000, runner="onnxruntime-fp16")[1], evaluations(1000, lost=90)[1]]
    gate = gate_from_evaluations(found, GateConfig(max_drop=0.5))
    assert [(each.runner.name, each.outcome) for each in gate.runners] == [
        ("onnxruntime-fp16", Outcome.PASSED),
        ("onnxruntime-int8", Outcome.FAILED),
    ]
    assert gate.outcome is Outcome.FAILED
    assert outcome(found, max_drop=0.5, runners=("onnxruntime-fp16",)) is Outcome.PASSED
    assert outcome(found, max_drop=0.5, runners=("onnxruntime-fp32",)) is Outcome.FAILED


def test_a_failure_says_the_numbers_and_what_to_ship() -> None:
    gate = gate_from_evaluations(evaluations(1000, lost=100), GateConfig(0.5, 98)).to_dict()
    with pytest.raises(GateFailed) as caught:
        require_passed(gate, "flowers")
    assert caught.value.exit_code == 3
    low, high = wilson_interval(900, 1000)
    assert f"onnxruntime-int8 answers like TensorFlow on 90.0 % ({100 * low:.1f} to {100 * high:.1f})" in str(
        caught.value
    )
    assert "onnxruntime-int8 loses 10.0 points of accuracy (" in str(caught.value)
    assert "0.5 are allowed" in str(caught.value)
    assert caught.value.hint == "ship fp16: trtpoets build flowers --precision fp16"


def test_a_gain_is_told_as_a_gain() -> None:
    gate = gate_from_evaluations(evaluations(1000, won=20), GateConfig(max_drop=0.5)).to_dict()
    assert sentence(gate["runners"][0]["checks"][0]).startswith("wins 2.0 points of accuracy (")
    assert gate["runners"][0]["only_runner"] == 20


def test_classes_that_lost_come_first() -> None:
    found = evaluations(1000, lost=9)
    (runner,) = gate_from_evaluations(found, GateConfig(max_drop=5)).runners
    assert dict(runner.recall_change) == pytest.approx({"ant": -0.01, "bee": -0.008})
    assert list(runner.recall_change) == ["ant", "bee"]


def test_it_is_json() -> None:
    gate = gate_from_evaluations(evaluations(100), GateConfig(0.5, 98)).to_dict()
    assert json.loads(json.dumps(gate))["outcome"] == "cannot tell"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "a gate without a limit"),
        ({"runners": ("a",)}, "a gate without a limit"),
        ({"max_drop": -1.0}, "--max-drop -1 is no loss"),
        ({"max_drop": float("nan")}, "--max-drop nan is no loss"),
        ({"min_agreement": 0.0}, "--min-agreement 0 is no percentage"),
        ({"min_agreement": 101.0}, "--min-agreement 101 is no percentage"),
    ],
)
def test_limits_that_are_none(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        GateConfig(**limits)


def test_runners_that_are_not_there() -> None:
    found = evaluations(100, runner="onnxruntime-fp32")
    with pytest.raises(BadInput, match="no FP16 or INT8 runner to judge"):
        gate_from_evaluations(found, GateConfig(max_drop=1))
    with pytest.raises(BadInput, match="rtx-int8 was not evaluated here") as caught:
        gate_from_evaluations(found, GateConfig(max_drop=1, runners=("rtx-int8",)))
    assert caught.value.hint == "--runner onnxruntime-fp32"
