"""The accuracy target of INT8, and when photos show that it is met."""

import numpy as np
import pytest

from trtpoets.convert.int8.accuracy_target import PairedAnswers, answers_from_scores, can_tell, excess, is_met


@pytest.mark.parametrize(("photos", "tells"), [(0, False), (188, False), (189, True), (1000, True)])
def test_the_number_of_photos_that_can_tell(photos: int, tells: bool) -> None:
    assert can_tell(photos) is tells


@pytest.mark.parametrize(
    ("photos", "different", "kept"),
    [
        (189, 0, True),
        (189, 1, False),  # the lower bound of 188 of 189 is 97.1 %
        (500, 3, True),  # 99.4 %, lower bound 98.25 %
        (500, 4, False),  # 99.2 %, lower bound 97.96 %
        (100, 4, True),  # too few to show the target: 96 %, upper bound 98.4 %
        (100, 5, False),  # 95 %, upper bound 97.8 %
        (1, 0, True),
    ],
)
def test_the_bounds_of_the_agreement(photos: int, different: int, kept: bool) -> None:
    assert is_met(PairedAnswers(photos, different)) is kept


@pytest.mark.parametrize(
    ("labelled", "lost", "kept"), [(200, 1, True), (200, 2, False), (199, 5, True), (400, -9, True)]
)
def test_the_loss_of_accuracy(labelled: int, lost: int, kept: bool) -> None:
    assert is_met(PairedAnswers(1000, 0, labelled, lost)) is kept


def test_answers_are_counted_from_scores() -> None:
    before = np.eye(3, dtype=np.float32)[[0, 1, 2, 2, 0]]
    after = np.eye(3, dtype=np.float32)[[0, 2, 2, 1, 1]]
    truth = ["a", "b", "c", "b", "unknown"]
    assert answers_from_scores(before, after, ("a", "b", "c"), truth) == PairedAnswers(5, 3, labelled=4, lost=0)
    assert answers_from_scores(before, after, ("a", "b", "c"), ["a", "b", "c", "c", "a"]).lost == 3


@pytest.mark.parametrize(
    ("answers", "factor"),
    [
        (PairedAnswers(500, 3), 1.0),  # the most that are allowed
        (PairedAnswers(500, 6), 2.0),
        (PairedAnswers(500, 3, labelled=400, lost=5), 2.5),  # 2 may be lost
        (PairedAnswers(500, 12, labelled=400, lost=4), 4.0),  # the worse of the two
        (PairedAnswers(189, 3), 3.0),  # none may differ, so the factor is relative to one answer
        (PairedAnswers(100, 8, labelled=100, lost=8), 2.0),  # 4 may differ; the loss of so few is not significant
    ],
)
def test_the_excess_is_relative_to_what_is_allowed(answers: PairedAnswers, factor: float) -> None:
    assert excess(answers) == pytest.approx(factor)
    assert (excess(answers) == 1.0) == is_met(answers)
