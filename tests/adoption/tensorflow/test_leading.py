"""The pixel values that a graph determines by its first computations."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adoption.tensorflow.reading import classifier, read
from trtpoets.adoption.contract import RAW, SIGNED, UNIT, Pixels

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

MEAN = np.array([0.485, 0.456, 0.406], np.float32)


@pytest.mark.parametrize(
    ("first", "pixels"),
    [
        ([lambda v1, x: v1.divide(x, 255.0)], RAW),
        ([lambda v1, x: v1.subtract(v1.multiply(x, 1 / 127.5), 1.0)], RAW),
        ([lambda v1, x: v1.subtract(x, np.array([123.7, 116.8, 103.9], np.float32))], RAW),
        ([lambda v1, x: v1.subtract(x[..., ::-1], np.array([103.9, 116.8, 123.7], np.float32))], RAW),
        (
            [lambda v1, x: v1.divide(v1.subtract(v1.divide(x, 255.0), MEAN), 0.23)],
            RAW,
        ),
        ([lambda v1, x: v1.subtract(v1.multiply(x, 2.0), 1.0)], UNIT),
        ([lambda v1, x: v1.divide(v1.subtract(x, MEAN), 0.23)], UNIT),
        ([lambda v1, x: v1.multiply(x, 255.0)], UNIT),
        ([lambda v1, x: v1.multiply(v1.add(x, 1.0), 127.5)], SIGNED),
        ([lambda v1, x: v1.multiply(x, 1.1)], None),
        ([lambda v1, x: v1.subtract(x, 0.5)], None),
        ([], None),
    ],
)
def test_pixels_that_the_graph_determines(first: Any, pixels: Pixels | None, tmp_path: Path) -> None:
    model = read(classifier(*first), tmp_path).model
    assert (model.fixed and model.fixed.pixels) == pixels
    if model.fixed:
        assert f"pixels of {model.fixed.pixels.name}" in model.fixed.evidence.text
