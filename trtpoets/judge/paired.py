"""Compares two classifiers on the same photos."""

from __future__ import annotations

import numpy as np

from trtpoets.core.fine_tuning import PairedResult
from trtpoets.judge.clustered import count_of_groups, difference_interval, equality_test


def paired_result(before: np.ndarray, after: np.ndarray, groups: np.ndarray) -> PairedResult:
    """Return the comparison of right answers, bool (N,), on the same photos with `groups`, int (N,)."""
    low, high = difference_interval(before, after, groups)
    p_value = equality_test(before, after, groups)
    counted = count_of_groups(groups, len(groups))
    return PairedResult(len(before), counted, float(before.mean()), float(after.mean()), low, high, p_value)
