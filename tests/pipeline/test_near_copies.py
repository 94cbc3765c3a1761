"""The accuracy of a head, with near-copies as one group, and its sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.pipeline.test_head_training import dataset
from trtpoets.core.training import Accuracy
from trtpoets.core.types import Split
from trtpoets.pipeline.head_training import indices_of_labels, rows_in
from trtpoets.pipeline.near_copies import accuracy_on, accuracy_text
from trtpoets.train.head import Head


def test_the_interval_is_wider_with_families() -> None:
    photos = dataset(64)
    labels = indices_of_labels(photos)
    features = np.eye(2, dtype=np.float32)[labels]
    rows = rows_in(photos, Split.TEST)
    features[rows[:4]] = features[rows[:4], ::-1]  # four photos get the wrong label
    head = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    alone = accuracy_on(photos, features, head, rows)
    assert (alone.test_photos, alone.test_groups, alone.test_accuracy) == (16, 16, 0.75)
    family = tuple(photos.photos[row].sha256 for row in rows[:4].tolist())
    together = accuracy_on(replace(photos, families=(family,)), features, head, rows)
    assert (together.test_groups, together.test_accuracy) == (13, 0.75)
    assert alone.low is not None and together.low is not None
    assert together.low < alone.low


def test_no_photos_have_no_accuracy() -> None:
    head = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    nothing = accuracy_on(dataset(4), np.zeros((4, 2), np.float32), head, np.zeros(0, np.int64))
    assert nothing == Accuracy(0, 0, None, None, None)


@pytest.mark.parametrize(
    ("accuracy", "text"),
    [
        (Accuracy(0, 0, None, None, None), "Every test photo has a near-copy."),
        (Accuracy(200, 200, 0.915, 0.872, 0.945), "It is 91.5 % (87.2 to 94.5) on 200 test photos"),
    ],
)
def test_the_sentence(accuracy: Accuracy, text: str) -> None:
    assert accuracy_text(accuracy, "It is") == text
