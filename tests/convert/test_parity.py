"""Parity of scores: differences are measured, and the worst photo is named."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from trtpoets.convert.parity import parity_from_scores
from trtpoets.core.errors import BadInput, ConversionFailed
from trtpoets.core.types import Photo, Split

PHOTOS = [Photo(Path(f"{name}.jpg"), "rose", Split.TEST, name) for name in "abc"]
SCORES = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], np.float32)


def test_equal_scores_have_no_difference() -> None:
    parity = parity_from_scores(SCORES, SCORES, PHOTOS)
    assert (parity.photos, parity.max_abs, parity.mean_abs) == (3, 0.0, 0.0)


def test_the_worst_photo_and_the_mean() -> None:
    other = SCORES.copy()
    other[1, 0] += 6e-5
    parity = parity_from_scores(SCORES, other, PHOTOS)
    assert parity.worst == Path("b.jpg")
    assert parity.max_abs == pytest.approx(6e-5, rel=1e-2)
    assert parity.mean_abs == pytest.approx(1e-5, rel=1e-2)


def test_a_difference_above_the_limit_names_photo_and_scores() -> None:
    other = SCORES.copy()
    other[2, 1] = 0.7
    with raises(ConversionFailed, "TP3055", "c.jpg", "score 1", "0.7", "0.8", "0.1", "1e-04"):
        parity_from_scores(SCORES, other, PHOTOS)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_score_that_is_not_finite_exceeds_any_limit(broken: float) -> None:
    other = SCORES.copy()
    other[0, 0] = broken
    with raises(ConversionFailed, "TP3055", "a.jpg"):
        parity_from_scores(SCORES, other, PHOTOS, limit=10.0)


def test_rows_without_photos_have_no_worst_photo() -> None:
    assert parity_from_scores(SCORES, SCORES, ()).worst is None
    with raises(ConversionFailed, "TP3055", "row 2"):
        parity_from_scores(SCORES, SCORES + np.array([[0], [0], [1]], np.float32), ())


def test_scores_that_cannot_be_compared() -> None:
    with raises(BadInput, "TP3053", "(2, 2)", "(3, 2)"):
        parity_from_scores(SCORES, SCORES[:2], PHOTOS)
    with raises(BadInput, "TP3054", "3", "2"):
        parity_from_scores(SCORES, SCORES, PHOTOS[:2])
    with pytest.raises(BadInput):
        parity_from_scores(SCORES[:0], SCORES[:0], ())
