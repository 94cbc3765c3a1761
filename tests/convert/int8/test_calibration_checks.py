"""Warnings about calibration photos."""

import numpy as np
import pytest

from tests.support.errors import raises
from trtpoets.convert.int8.calibration_checks import CalibrationChecks
from trtpoets.core.errors import BadInput


def noise(levels: float, count: int, seed: int = 0) -> np.ndarray:
    """Return grey photos uint8 (count, 32, 32, 3) whose pixels have a standard deviation of about `levels`."""
    pixels = np.random.default_rng(seed).normal(128, levels, (count, 32, 32, 3))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def check(*batches: np.ndarray, predictions: int = 2) -> None:
    checks = CalibrationChecks(("a", "b", "c"))
    for batch in batches:
        checks.observe(batch, np.eye(3, dtype=np.float32)[np.arange(len(batch)) % predictions])
    checks.finish(3)


def test_one_colour_is_distinguished_from_low_contrast(caplog: pytest.LogCaptureFixture) -> None:
    with raises(BadInput, "TP3020", "5", "#808080"):
        check(noise(0.5, 3), noise(0.5, 2))
    check(noise(1.5, 8))
    assert "8 of 8 calibration photos are a single plain colour" in caplog.text
    caplog.clear()
    check(noise(0.5, 4), noise(3.0, 4))
    check(noise(3.0, 8))
    assert caplog.text == "", "half of the photos are not plain"


def test_the_same_prediction_for_all_photos_warns_if_there_are_many(caplog: pytest.LogCaptureFixture) -> None:
    check(noise(20, 15), predictions=1)
    assert caplog.text == ""
    check(noise(20, 15), noise(20, 1), predictions=1)
    assert "the network predicts 'a' for all 16 calibration photos, which are of 3 classes" in caplog.text
