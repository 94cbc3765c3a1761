"""Comparisons of two classifiers on the same photos."""

from __future__ import annotations

import numpy as np

from trtpoets.judge.paired import paired_result


def test_a_comparison_counts_groups() -> None:
    before, after = np.zeros(40, bool), np.ones(40, bool)
    before[:10] = True
    apart = paired_result(before, after, np.arange(40))
    grouped = paired_result(before, after, np.repeat(np.arange(4), 10))
    assert (apart.before, apart.after, apart.photos) == (0.25, 1.0, 40)
    assert (apart.groups, grouped.groups) == (40, 4)
    assert apart.improves
    assert not grouped.improves
    assert grouped.low < apart.low
