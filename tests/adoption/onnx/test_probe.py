"""The size of the input is found by running the network."""

from __future__ import annotations

from pathlib import Path

from tests.adoption.onnx.networks import CLASSES, Foreign, image, saved, scores
from tests.adoption.onnx.wrapping import largest_difference
from trtpoets.adoption.onnx import read_onnx_classifier


def test_any_size(tmp_path: Path) -> None:
    net = Foreign()
    net.op("Identity", net.logits("input"), outputs=["output"])
    path = saved(net.model([image(("N", 3, "H", "W"))], [scores()]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.height, foreign.width) == (0, 0)
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5


def test_size_that_only_the_weights_fix(tmp_path: Path) -> None:
    net = Foreign()
    flat = net.op("Flatten", net.op("AveragePool", "input", kernel_shape=[4, 4], strides=[4, 4]))
    net.op("Gemm", flat, net.number(net.random.normal(0, 0.1, (3 * 8 * 8, CLASSES))), outputs=["output"])
    path = saved(net.model([image(("N", 3, "H", "W"))], [scores()]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.height, foreign.width) == (32, 32)
