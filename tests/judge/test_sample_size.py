"""How many photos decide a gate."""

from __future__ import annotations

import numpy as np
import pytest

from trtpoets.judge.sample_size import photos_for_agreement, photos_for_drop, photos_for_share
from trtpoets.judge.statistics import paired_shares


def test_photos_needed() -> None:
    assert photos_for_drop(0.005, 0.02) == 6280
    assert photos_for_drop(0.005, 0) == photos_for_share(0.005) == 765
    assert photos_for_drop(0.005, 0.01, 0.005) is photos_for_drop(0, 0.01) is photos_for_share(0) is None
    assert photos_for_agreement(0.98, 1) == photos_for_share(0.02) == 189
    assert photos_for_agreement(0.98, 0.98) is photos_for_agreement(1, 1) is None


@pytest.mark.parametrize(("limit", "changed"), [(0.005, 0.02), (0.005, 0.05), (0.02, 0.05)])
def test_so_many_photos_decide_four_times_in_five(limit: float, changed: float) -> None:
    photos = photos_for_drop(limit, changed)
    assert photos is not None
    drawn = np.random.default_rng(1).multinomial(photos, [changed / 2, changed / 2, 1 - changed], 400)
    passed = sum(paired_shares(b, c, photos).low >= -limit for b, c, _ in drawn.tolist())
    assert passed / 400 == pytest.approx(0.8, abs=0.07)
