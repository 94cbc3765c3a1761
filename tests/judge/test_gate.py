"""The gate: what passes, what fails, and what so few photos can't tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.all_photos import all_photos
from tests.support.errors import raises
from tests.support.runner_ids import runner as identity
from trtpoets.core.errors import BadInput, GateFailed, GateUndecided
from trtpoets.core.runner_id import TENSORFLOW
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Photo, Split
from trtpoets.judge.evaluation import Evaluation, evaluation_from_scores
from trtpoets.judge.gate import (
    Gate,
    GateConfig,
    GateOutcome,
    gate_from_all_photos,
    gate_from_evaluations,
    missed,
    require_passed,
    sentence,
    unknowns,
)
from trtpoets.judge.sample_size import photos_for_share
from trtpoets.judge.statistics import paired_shares, wilson_interval

LABELS = ("ant", "bee")


def evaluations(
    photos: int,
    *,
    lost: int = 0,
    won: int = 0,
    runner: str = "onnxruntime-int8",
    known: bool = True,
    groups: list[int] | None = None,
) -> list[Evaluation]:
    """TensorFlow right on all but `won` photos; the runner wrong on `lost` of those, right on the `won` ones."""
    shown = [Photo(Path(f"{i}.jpg"), LABELS[i % 2] if known else "cat", Split.TEST, "0" * 64) for i in range(photos)]
    truth = np.arange(photos) % 2
    reference, answers = truth.copy(), truth.copy()
    answers[:lost] = 1 - truth[:lost]
    reference[lost : lost + won] = 1 - truth[lost : lost + won]

    def scores(indices: np.ndarray) -> np.ndarray:
        return np.where(np.arange(2) == indices[:, None], 0.9, 0.1).astype(np.float32)

    first = evaluation_from_scores(TENSORFLOW, scores(reference), shown, LABELS, groups=groups)
    second = evaluation_from_scores(identity(runner), scores(answers), shown, LABELS, scores(reference), groups)
    return [first, second]


def outcome(results: list[Evaluation], **limits: Any) -> GateOutcome:
    return gate_from_evaluations(results, GateConfig(**limits)).outcome


def test_the_interval_decides() -> None:
    """Passed where it is within the limit, failed where it is beyond, and "cannot tell" where the limit is in it."""
    assert outcome(evaluations(1000), max_drop=0.5) is GateOutcome.PASSED
    assert outcome(evaluations(1000, lost=6), max_drop=0.5) is GateOutcome.UNKNOWN  # 0.6 points, 0.2 to 1.3
    assert outcome(evaluations(1000, lost=20), max_drop=0.5) is GateOutcome.FAILED
    assert outcome(evaluations(1000, lost=10), min_agreement=98) is GateOutcome.PASSED
    assert outcome(evaluations(1000, lost=20), min_agreement=98) is GateOutcome.UNKNOWN
    assert outcome(evaluations(1000, lost=31), min_agreement=98) is GateOutcome.FAILED
    # As many answers won as lost: no loss was seen, and the limit is still in the interval.
    assert outcome(evaluations(1000, lost=30, won=30), max_drop=0.5) is GateOutcome.UNKNOWN
    assert outcome(evaluations(1000, lost=30, won=30), max_drop=0.5, min_agreement=98) is GateOutcome.FAILED


@given(st.integers(1, 150), st.integers(0, 150), st.integers(0, 150), st.sampled_from([0.5, 2.0, 10.0]))
@settings(max_examples=25, deadline=None)
def test_the_verdict_follows_from_the_interval(photos: int, lost: int, won: int, limit: float) -> None:
    lost = min(lost, photos)
    won = min(won, photos - lost)
    gate = gate_from_evaluations(evaluations(photos, lost=lost, won=won), GateConfig(limit, 100 - limit))
    for check in gate.runners[0].checks:
        assert check.low is not None and check.high is not None
        if check.what == "agreement":
            within, beyond = check.low >= check.limit, check.high < check.limit
        else:
            within, beyond = check.high <= check.limit, check.low > check.limit
        assert check.outcome is (
            GateOutcome.PASSED if within else GateOutcome.FAILED if beyond else GateOutcome.UNKNOWN
        )


@pytest.mark.parametrize(("loss", "wrong"), [(0.0, GateOutcome.FAILED), (0.01, GateOutcome.PASSED)])
def test_a_lossless_runner_seldom_fails_and_a_lossy_one_seldom_passes(loss: float, wrong: GateOutcome) -> None:
    """765 photos, 2 % of whose answers change: the wrong verdict comes at most 1 time in 40."""
    drawn = np.random.default_rng(5).multinomial(765, [0.01 + loss / 2, 0.01 - loss / 2, 0.98], 400)
    pair = evaluations(765)
    outcomes = []
    for lost, won, _ in drawn.tolist():
        low, high = paired_shares(lost, won, 765)
        change = {"accuracy_change": (won - lost) / 765, "change_low": low, "change_high": high}
        assert pair[1].comparison is not None
        comparison = replace(pair[1].comparison, only_reference=lost, only_runner=won, **change)
        outcomes.append(outcome([pair[0], replace(pair[1], comparison=comparison)], max_drop=0.5))
    assert outcomes.count(wrong) <= 0.04 * len(outcomes)


def test_few_photos_fail_only_what_chance_does_not_explain() -> None:
    assert outcome(evaluations(30), max_drop=0.5, min_agreement=98) is GateOutcome.UNKNOWN
    assert outcome(evaluations(30, lost=1), max_drop=0.5, min_agreement=98) is GateOutcome.UNKNOWN
    assert outcome(evaluations(30, lost=15), max_drop=0.5) is GateOutcome.FAILED
    assert outcome(evaluations(30, lost=15), min_agreement=98) is GateOutcome.FAILED
    # Two lost photos of two may be chance.
    assert outcome(evaluations(2, lost=2), max_drop=0.5) is GateOutcome.UNKNOWN


def test_copies_do_not_count_as_independent_photos() -> None:
    """9 distinct photos with 25 copies each: 225 photos that all agree, and no more is known than from 9."""
    copies = np.repeat(np.arange(9), 25).tolist()
    pair = evaluations(225, groups=copies)
    gate = gate_from_evaluations(pair, GateConfig(min_agreement=98))
    (check,) = gate.runners[0].checks
    assert gate.outcome == GateOutcome.UNKNOWN
    assert (check.photos, check.groups) == (225, 9)
    assert (check.low, check.high) == pytest.approx(wilson_interval(9, 9))
    assert unknowns(gate) == [
        (
            "225 photos in 9 independent groups can't tell whether at least 98 % of the answers stay (about 189 "
            "independent photos could, if no answers change): onnxruntime-int8"
        )
    ]
    assert outcome(evaluations(225), min_agreement=98) is GateOutcome.PASSED
    assert (
        outcome(evaluations(9000, groups=np.repeat(np.arange(9), 1000).tolist()), max_drop=0.5) is GateOutcome.UNKNOWN
    )
    assert outcome(evaluations(9000), max_drop=0.5) is GateOutcome.PASSED


def test_an_undecided_gate_names_the_photos_needed() -> None:
    gate = gate_from_evaluations(evaluations(1000, lost=10, won=10), GateConfig(0.5, 98))
    assert unknowns(gate) == [
        (
            "1,000 photos can't tell whether at least 98 % of the answers stay (what was measured is at the limit): "
            "onnxruntime-int8"
        ),
        (
            "1,000 photos can't tell whether at most 0.5 points of accuracy are lost (about 6,300 independent photos "
            "could, as 2 % of the answers change between right and wrong): onnxruntime-int8"
        ),
    ]
    few = gate_from_evaluations(evaluations(40), GateConfig(0.5, 98))
    assert [item.photos_needed for item in few.runners[0].checks] == [189, 765]
    assert outcome(evaluations(189), min_agreement=98) is GateOutcome.PASSED
    assert outcome(evaluations(188), min_agreement=98) is GateOutcome.UNKNOWN
    # Enough for a runner that loses nothing: this one loses 0.4 points, and that takes more.
    (check,) = gate_from_evaluations(evaluations(3000, lost=12), GateConfig(max_drop=0.5)).runners[0].checks
    assert check.outcome is GateOutcome.UNKNOWN and check.photos_needed is not None and check.photos_needed > 3000


def test_an_undecided_gate_fails_unless_it_is_allowed() -> None:
    pair = evaluations(40, lost=1)
    with raises(GateUndecided, "TP5042", "40 photos can't tell") as caught:
        require_passed(gate_from_evaluations(pair, GateConfig(0.5, 98)), "my flowers", Path("my runs"))
    assert caught.value.exit_code == 4
    assert caught.value.hint.endswith(
        "trtpoets evaluate 'my flowers' --max-drop 0.5 --min-agreement 98 --allow-undecided --engines 'my runs'"
    )
    require_passed(gate_from_evaluations(pair, GateConfig(0.5, 98, allow_undecided=True)))
    allowed = gate_from_evaluations(evaluations(1000, lost=100), GateConfig(0.5, allow_undecided=True))
    with raises(GateFailed, "TP5041", "10.0 points", "0.5"):
        require_passed(allowed)


def test_the_interval_of_the_loss_is_always_reported() -> None:
    gate = gate_from_evaluations(evaluations(800, lost=8, won=8), GateConfig(max_drop=0.5))
    assert sentence(gate.runners[0].checks[0]) == "loses 0.0 points of accuracy (-1.1 to 1.1), 0.5 are allowed"
    # A bound that rounds to the limit has a second digit, so that one sees on which side it is.
    gate = gate_from_evaluations(evaluations(10000, lost=40), GateConfig(max_drop=0.5))
    assert sentence(gate.runners[0].checks[0]) == "loses 0.4 points of accuracy (0.29 to 0.54), 0.5 are allowed"


def test_advice_follows_the_best_estimate_where_a_gate_cannot_tell() -> None:
    def advice(photos: int, lost: int) -> bool:
        gate = gate_from_evaluations(evaluations(photos, lost=lost), GateConfig(max_drop=0.5))
        return missed(gate.runners[0].checks[0])

    assert not advice(1000, 0)
    assert not advice(1000, 5)
    assert advice(1000, 6)
    assert not advice(40, 1)
    assert advice(40, 20)


@given(st.floats(0.0005, 0.7))
def test_photos_for_share_is_the_least_that_prove_it(limit: float) -> None:
    least = photos_for_share(limit)
    assert least is not None
    assert wilson_interval(0, least).high <= limit
    assert wilson_interval(0, least - 1).high > limit


def test_no_number_of_photos_shows_that_nothing_changes() -> None:
    gate = gate_from_evaluations(evaluations(20), GateConfig(0, 100))
    assert gate.outcome == GateOutcome.UNKNOWN
    assert all("(no number of photos can)" in text for text in unknowns(gate))
    assert outcome(evaluations(20, lost=1), min_agreement=100) is GateOutcome.FAILED
    assert outcome(evaluations(20, lost=1), max_drop=0) is GateOutcome.UNKNOWN
    assert outcome(evaluations(20, lost=10), max_drop=0) is GateOutcome.FAILED


def test_photos_without_a_known_label_can_agree_but_not_be_right() -> None:
    pair = evaluations(400, known=False)
    assert outcome(pair, min_agreement=98) is GateOutcome.PASSED
    gate = gate_from_evaluations(pair, GateConfig(max_drop=0.5))
    assert gate.outcome is GateOutcome.UNKNOWN
    assert "no photo with a label" in sentence(gate.runners[0].checks[0])


def test_the_worst_runner_decides_and_wide_ones_are_not_asked() -> None:
    wide = evaluations(1000, lost=400, runner="onnxruntime-fp32")
    judged = [*wide, evaluations(1000, runner="onnxruntime-fp16")[1], evaluations(1000, lost=90)[1]]
    gate = gate_from_evaluations(judged, GateConfig(max_drop=0.5))
    assert [(runner.runner.name, runner.outcome) for runner in gate.runners] == [
        ("onnxruntime-fp16", GateOutcome.PASSED),
        ("onnxruntime-int8", GateOutcome.FAILED),
    ]
    assert gate.outcome is GateOutcome.FAILED
    assert outcome(judged, max_drop=0.5, runners=("onnxruntime-fp16",)) is GateOutcome.PASSED
    assert outcome(judged, max_drop=0.5, runners=("onnxruntime-fp32",)) is GateOutcome.FAILED


def test_a_failure_says_the_numbers_and_what_to_ship() -> None:
    gate = gate_from_evaluations(evaluations(1000, lost=100), GateConfig(0.5, 98))
    low, high = wilson_interval(900, 1000)
    agreement = (f"90.0 % ({100 * low:.1f} to {100 * high:.1f})", "98")
    loss = ("10.0 points", "0.5")
    with raises(GateFailed, "TP5041", "onnxruntime-int8", *agreement, *loss) as caught:
        require_passed(gate, "flowers")
    assert caught.value.exit_code == 3
    assert caught.value.hint == "ship fp16: trtpoets build flowers --precision fp16"


def test_a_gain_is_reported_as_a_gain() -> None:
    gate = gate_from_evaluations(evaluations(1000, won=20), GateConfig(max_drop=0.5))
    assert sentence(gate.runners[0].checks[0]).startswith("wins 2.0 points of accuracy (")
    assert gate.runners[0].only_runner == 20


def test_classes_that_lost_come_first() -> None:
    pair = evaluations(1000, lost=9)
    (runner,) = gate_from_evaluations(pair, GateConfig(max_drop=5)).runners
    assert dict(runner.recall_change) == pytest.approx({"ant": -0.01, "bee": -0.008})
    assert list(runner.recall_change) == ["ant", "bee"]


def test_it_is_json() -> None:
    gate = to_json(gate_from_evaluations(evaluations(100), GateConfig(0.5, 98)))
    assert json.loads(json.dumps(gate))["outcome"] == "cannot tell"
    assert from_json(Gate, json.loads(json.dumps(gate)), "x") == gate_from_evaluations(
        evaluations(100), GateConfig(0.5, 98)
    )


@pytest.mark.parametrize(
    ("limits", "code", "values"),
    [
        ({}, "TP5036", ()),
        ({"runners": ("a",)}, "TP5036", ()),
        ({"max_drop": -1.0}, "TP5037", ("--max-drop", "-1")),
        ({"max_drop": float("nan")}, "TP5037", ("--max-drop", "nan")),
        ({"min_agreement": 0.0}, "TP5038", ("--min-agreement", "0")),
        ({"min_agreement": 101.0}, "TP5038", ("--min-agreement", "101")),
    ],
)
def test_invalid_limits_are_refused(limits: dict[str, Any], code: str, values: tuple[str, ...]) -> None:
    with raises(BadInput, code, *values):
        GateConfig(**limits)


def test_runners_that_are_not_there() -> None:
    pair = evaluations(100, runner="onnxruntime-fp32")
    with raises(BadInput, "TP5039"):
        gate_from_evaluations(pair, GateConfig(max_drop=1))
    with raises(BadInput, "TP5040", "rtx-int8") as caught:
        gate_from_evaluations(pair, GateConfig(max_drop=1, runners=("rtx-int8",)))
    assert caught.value.hint == "give --runner onnxruntime-fp32"


def test_all_photos_decide_for_the_runners_of_the_file() -> None:
    """126 test photos can't tell whether 98 % of the answers stay; 1,500 photos outside calibration can."""
    few, limits = evaluations(126), GateConfig(min_agreement=98, max_drop=1)
    assert gate_from_evaluations(few, limits).outcome is GateOutcome.UNKNOWN
    good, bad = all_photos(2000, calibration=500, changed=4), all_photos(2000, calibration=500, changed=90)
    gate = gate_from_evaluations(few, limits, good)
    assert gate.outcome is GateOutcome.PASSED
    agreement, drop = gate.runners[0].checks
    assert (agreement.file, agreement.photos, drop.file, drop.photos) == ("int8.onnx", 1500, "int8.onnx", 1500)
    assert sentence(agreement) == (
        "agrees on 99.7 % (99.3 to 99.9) on 1,500 photos outside calibration (int8.onnx), 98 are asked for"
    )
    assert sentence(agreement, with_photos=False) == "agrees on 99.7 % (99.3 to 99.9), 98 are asked for"
    assert gate_from_evaluations(few, limits, bad).outcome is GateOutcome.FAILED
    for other in ("onnxruntime-fp16", "tflite-int8"):  # they run other files
        (runner,) = gate_from_evaluations(evaluations(126, runner=other), limits, good).runners
        assert {check.file for check in runner.checks} == {""}
    assert from_json(Gate, json.loads(json.dumps(to_json(gate))), "x") == gate


def test_a_runner_that_fails_on_its_own_photos_fails() -> None:
    """The file is good, but this runner answers otherwise: an engine, for example, that was built wrongly."""
    good, limits = all_photos(2000, changed=4), GateConfig(min_agreement=98)
    for runner in ("onnxruntime-int8", "rtx-int8"):
        (result,) = gate_from_evaluations(evaluations(126, lost=40, runner=runner), limits, good).runners
        assert result.outcome is GateOutcome.FAILED
        assert result.checks[0].file == ""
    # 8 of 250 answers: the interval contains the limit, the measured value is beyond it.
    doubtful = [evaluations(250, lost=8, runner=runner) for runner in ("onnxruntime-int8", "rtx-int8")]
    assert [outcome(pair, min_agreement=98) for pair in doubtful] == [GateOutcome.UNKNOWN] * 2
    results = [gate_from_evaluations(pair, limits, good).outcome for pair in doubtful]
    assert results == [GateOutcome.PASSED, GateOutcome.UNKNOWN]


def test_a_gate_of_all_photos_alone() -> None:
    limits = GateConfig(min_agreement=98)
    gate = gate_from_all_photos(all_photos(300, changed=2), limits)
    assert gate is not None
    (result,) = gate.runners
    assert (result.runner.name, result.outcome, result.only_reference) == (
        "onnxruntime-int8",
        GateOutcome.UNKNOWN,
        2,
    )
    needed = result.checks[0].photos_needed
    alone = gate_from_evaluations(evaluations(300, lost=2), limits).runners[0].checks[0].photos_needed
    assert needed is not None and alone is not None and alone < needed <= 1.2 * alone
    (text,) = unknowns(gate)
    assert text == (
        f"300 photos outside calibration can't tell whether at least 98 % of the answers stay (about {needed} "
        "independent photos could, as 0.67 % of the answers change): onnxruntime-int8"
    )
    assert gate_from_all_photos(all_photos(300, calibration=300), limits) is None
