"""Where nothing fits: the nearest runner, what it lacks, and the command that helps."""

from __future__ import annotations

from tests.support.errors import raises
from tests.support.recommendations import FP16, INT8, TENSORFLOW, chosen_of, measured
from tests.support.report_documents import measurement
from trtpoets.core.errors import GateFailed, MissingArtefact
from trtpoets.reporting.model import Sentence
from trtpoets.reporting.near_misses import require_recommended, ship_sentence
from trtpoets.reporting.recommendation import Limits, recommendation_from_report


def test_nothing_fits_and_the_nearest_says_what_it_lacks() -> None:
    recommendation = recommendation_from_report(measured(TENSORFLOW, FP16, INT8), Limits(max_p99=3))
    assert recommendation.chosen is None
    assert recommendation.sentence == ""
    with raises(GateFailed, "TP6011", "onnxruntime-fp16 at batch 1", "4.60 ms", "3") as caught:
        require_recommended(recommendation, "my flowers")
    assert caught.value.exit_code == 3
    assert caught.value.hint == "trtpoets recommend 'my flowers' --max-drop 0.5 --max-p99 4.8"
    loosened = recommendation_from_report(measured(TENSORFLOW, FP16, INT8), Limits(max_drop=0.5, max_p99=4.8))
    assert chosen_of(loosened).runner.name == "onnxruntime-fp16"


def test_a_p99_that_is_not_known_is_measured_not_guessed() -> None:
    few = measurement("onnxruntime-fp16", 1, 4.0, 2.5)
    recommendation = recommendation_from_report(measured(TENSORFLOW, few), Limits(max_p99=5))
    with raises(MissingArtefact, "TP6010", "onnxruntime-fp16 at batch 1", "200", "662") as caught:
        require_recommended(recommendation, "x")
    assert caught.value.hint == "trtpoets bench x --batch 1 --seconds 6"
    # What its p90 rules out needs no p99.
    recommendation = recommendation_from_report(measured(few), Limits(max_p99=4.1))
    with raises(GateFailed, "TP6011", "p90 is 4.40 ms") as failed:
        require_recommended(recommendation, "x")
    assert failed.value.hint == "measure its p99: trtpoets bench x --batch 1 --seconds 6"


def test_the_verdict_says_why_nothing_can_be_recommended() -> None:
    report = measured(
        {**FP16, "valid": False, "reason": "too busy"}, {**TENSORFLOW, "valid": False, "reason": "too busy"}
    )
    assert report.verdict[0] == Sentence(
        "ship",
        "Nothing that was measured can be recommended yet. onnxruntime-fp16 at batch 1: its measurement is not "
        "valid: too busy (1 more is undecided).",
    )
    late = measured({**TENSORFLOW, "valid": False, "reason": "too busy"}, FP16)
    ship = ship_sentence(recommendation_from_report(late, Limits(max_p99=1)))
    assert "tensorflow at batch 1: its measurement is not valid: too busy." in ship, "FP16 misses the limit for certain"


def test_nothing_measured() -> None:
    with raises(MissingArtefact, "TP6009", "at batch 3") as caught:
        require_recommended(recommendation_from_report(measured(FP16), Limits(batches=(3,))), "x")
    assert caught.value.hint == "trtpoets evaluate x && trtpoets bench x --batch 3"
