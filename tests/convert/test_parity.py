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


def test_a_single_score_may_differ_by_rounding() -> None:
    reference = np.tile(np.array([[0.6, 0.4]], np.float32), (1000, 1))
    other = reference.copy()
    other[7] += [5e-4, -5e-4]
    assert parity_from_scores(reference, other, ()).max_abs == pytest.approx(5e-4, rel=1e-2)
    for change in (1e-5, -1e-5):  # a wrong graph changes all scores
        with raises(ConversionFailed, "TP3055", "row 7", "1000 of 1000"):
            parity_from_scores(reference, other + np.float32(change), ())
    other[7] += [1e-3, -1e-3]
    with raises(ConversionFailed, "TP3055", "row 7"):
        parity_from_scores(reference, other, ())
    even = reference.copy()
    even[7] = [0.5001, 0.4999]
    with raises(ConversionFailed, "TP3055", "row 7", "999 of 1000"):
        parity_from_scores(even, np.where(even == even[7], even[:, ::-1], even), ())


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
