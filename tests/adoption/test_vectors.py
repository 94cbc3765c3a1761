"""Which outputs are no scores of classes, by their names and by their values."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.errors import raises
from trtpoets.adoption.vectors import require_scores, why_no_scores
from trtpoets.core.errors import BadArtefact


@pytest.mark.parametrize(
    "name", ["embedding", "features", "output_crop", "bbox_pred", "net/Landmarks:0", "regressors", "kps", "face_boxes"]
)
def test_names_of_vectors(name: str) -> None:
    assert why_no_scores(name) == "as its name says"


@pytest.mark.parametrize(
    "name",
    ["scores", "crop_disease", "logits", "embedder/probs", "features/fc", "boxer_or_poodle", "output", "sandbox"],
)
def test_names_of_scores(name: str) -> None:
    assert why_no_scores(name) == ""


def test_vectors_of_length_1() -> None:
    values = np.random.default_rng(0).normal(size=(3, 8))
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    assert why_no_scores("output", unit.astype(np.float16)) == "its vectors have the length 1"
    assert why_no_scores("output", values) == ""
    assert why_no_scores("output", np.eye(3)) == "", "scores of a certain network"
    assert why_no_scores("output", np.full((3, 8), np.nan)) == ""
    with raises(BadArtefact, "TP9463", "output x with 8 values", "length 1"):
        require_scores("net", "x", unit)
    require_scores("net", "x", values)
