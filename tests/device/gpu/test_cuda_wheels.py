"""The CUDA version of the wheels that a driver runs."""

from __future__ import annotations

import pytest

from trtpoets.device.gpu.cuda_wheels import cuda_of_driver, wheels_for


@pytest.mark.parametrize(
    ("cuda", "driver", "major"),
    [
        ("12.8", "570.133.20", 12),
        ("13.0", "580.65.06", 13),
        ("13.0", "570.133.20", 13),  # forward compatibility: what CUDA says counts
        (None, "570.133.20", 12),
        (None, "575.57.08", 12),
        (None, "580.65.06", 13),
        (None, "610.10", 13),
        (None, "525.60.13", 12),
        (None, "470.256.02", 11),
        (None, "L4T R36.4.3", None),
        (None, None, None),
    ],
)
def test_the_cuda_that_a_driver_serves(cuda: str | None, driver: str | None, major: int | None) -> None:
    assert cuda_of_driver(cuda, driver) == major
    assert wheels_for(major) == (12 if major in (11, 12) else 13)
