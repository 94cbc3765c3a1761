"""The image input is found in both layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, saved, scores
from tests.adoption.onnx.wrapping import GRAY, largest_difference
from trtpoets.adoption.contract import UNIT
from trtpoets.adoption.onnx import read_onnx_classifier
from trtpoets.core.original import Layout


@pytest.mark.parametrize("batch", [1, 4, "N"])
@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("channels", [1, 3])
def test_layouts(tmp_path: Path, layout: Layout, channels: int, batch: Any) -> None:
    net = Foreign(13)
    nchw = "input" if layout is Layout.NCHW else net.op("Transpose", "input", perm=[0, 3, 1, 2])
    net.op("Softmax", net.logits(nchw, channels), outputs=["output"])
    sizes = (SIDE, 24, channels) if layout is Layout.NHWC else (channels, SIDE, 24)
    path = saved(net.model([image((batch, *sizes))], [scores((batch, CLASSES))]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.height, foreign.width, foreign.channels) == (SIDE, 24, channels)
    assert (foreign.input.layout, foreign.input.batch) == (layout, batch if batch != "N" else 0)
    assert largest_difference(path, tmp_path / "fp32.onnx", UNIT if channels == 3 else GRAY) < 1e-5
