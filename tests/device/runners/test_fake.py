"""The fake runner."""

from __future__ import annotations

import numpy as np

from tests.support.errors import raises
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.types import ModelSpec
from trtpoets.device.runners.fake import FakeRunner


def test_fake_scores_of_ones_own() -> None:
    spec = tiny_spec()
    with FakeRunner(spec, lambda photos: np.tile([0.5, 0.25, 0.25], (len(photos), 1)), delay_seconds=0.01) as runner:
        assert runner.infer(tiny_photos(2)).tolist() == [[0.5, 0.25, 0.25]] * 2
    with FakeRunner(spec, lambda photos: np.ones((1, 2))) as wrong, raises(RunFailed, "TP4077", "(1, 2)"):
        wrong.infer(tiny_photos(2))
    with raises(BadInput, "TP4080", "-1"):
        FakeRunner(spec, delay_seconds=-1)


def test_fake_scores_have_any_number_of_classes() -> None:
    spec = ModelSpec("many", "none", tiny_spec().preprocess, tuple(f"class {i}" for i in range(2000)), "w")
    with FakeRunner(spec) as runner:
        assert runner.infer(tiny_photos(2)).shape == (2, 2000)
