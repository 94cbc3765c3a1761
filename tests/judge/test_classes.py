"""Recall of each class and the confusion matrix."""

from __future__ import annotations

import numpy as np

from trtpoets.judge.classes import confusion_of, recall_intervals, recall_of_classes

LABELS = ("ant", "bee", "cow")
TRUTH = np.array([0, 0, 1, 1, 1, 1])
ANSWERS = np.array([0, 1, 1, 1, 1, 2])


def test_recall_is_the_share_of_right_answers_and_unknown_without_photos() -> None:
    assert recall_of_classes(TRUTH == ANSWERS, TRUTH, LABELS) == {"ant": 0.5, "bee": 0.75, "cow": None}


def test_intervals_contain_the_recall() -> None:
    intervals = recall_intervals(TRUTH == ANSWERS, TRUTH, np.arange(6), LABELS)
    assert list(intervals) == list(LABELS) and intervals["cow"] is None
    for label, recall in (("ant", 0.5), ("bee", 0.75)):
        bounds = intervals[label]
        assert bounds is not None
        assert 0 <= bounds[0] < recall < bounds[1] <= 1


def test_intervals_do_not_depend_on_the_order_of_photos() -> None:
    order = np.array([5, 0, 3, 1, 4, 2])
    right, groups = TRUTH == ANSWERS, np.arange(6)
    assert recall_intervals(right[order], TRUTH[order], groups[order], LABELS) == recall_intervals(
        right, TRUTH, groups, LABELS
    )


def test_confusion_lists_cells_with_photos() -> None:
    assert confusion_of(TRUTH, ANSWERS, 3) == ((0, 0, 1), (0, 1, 1), (1, 1, 3), (1, 2, 1))
