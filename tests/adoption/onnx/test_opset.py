"""Graphs are converted from newer opsets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.adoption.onnx.networks import Foreign, image, saved, scores
from tests.adoption.onnx.wrapping import largest_difference


@pytest.mark.parametrize("operator", ["Gelu", "GroupNormalization", "Mish", "Split", "Pad", "HardSwish"])
def test_operators_of_newer_opsets(tmp_path: Path, operator: str) -> None:
    net = Foreign(21)
    ones = net.number([0.5, 0.8, 1.1])
    x = {
        "GroupNormalization": lambda: net.op(operator, "input", ones, ones, num_groups=1),
        "Split": lambda: net.op(
            "Concat", net.op(operator, "input", outputs=["a", "b"], num_outputs=2, axis=2), "b", axis=2
        ),
        "Pad": lambda: net.op(
            operator, "input", net.constant(np.array([1, 2, 1, 0])), "", net.constant(np.array([2, 3]))
        ),
    }.get(operator, lambda: net.op(operator, "input"))()
    net.op("Identity", net.logits(x), outputs=["output"])
    path = saved(net.model([image()], [scores()], ir_version=10), tmp_path / "a.onnx")
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5
