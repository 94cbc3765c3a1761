"""The training loop of the last layer."""

from __future__ import annotations

import numpy as np

from tests.support.clouds import clouds
from trtpoets.train.head_loop import standardisation


def test_standardisation_is_that_of_numpy() -> None:
    features = clouds(9000, 8)[0]
    mean, scale = standardisation(features)
    np.testing.assert_allclose(mean, features.mean(axis=0, dtype=np.float64), rtol=1e-5)
    deviation = np.delete(features.std(axis=0, dtype=np.float64), 7)
    assert scale[7] == 0
    np.testing.assert_allclose(np.delete(scale, 7), 1 / deviation, rtol=1e-4)
