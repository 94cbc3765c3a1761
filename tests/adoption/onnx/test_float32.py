"""Networks in float16 and float64 are converted to float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, plain, saved, scores
from tests.adoption.onnx.wrapping import largest_difference
from trtpoets.adoption.onnx import read_onnx_classifier
from trtpoets.adoption.onnx.float32 import computes_in_half


def test_float64(tmp_path: Path) -> None:
    """Scores prove that a network in float32 is equivalent; ONNX Runtime has no convolution that could prove it."""
    net = Foreign(13, np.float64)
    weights = net.number(net.random.normal(0, 0.1, (3 * SIDE * SIDE, CLASSES)))
    net.op("Softmax", net.op("Gemm", net.op("Flatten", "input"), weights), outputs=["output"])
    path = saved(net.model([image(dtype=np.float64)], [scores(dtype=np.float64)]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert foreign.input.dtype == foreign.output.dtype == "float64"
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5
    assert onnx.TensorProto.DOUBLE not in {t.data_type for t in onnx.load(tmp_path / "fp32.onnx").graph.initializer}


def test_float16(tmp_path: Path) -> None:
    dtype = np.float16
    net = Foreign(13, dtype)
    net.op("Softmax", net.logits("input"), outputs=["output"])
    path = saved(net.model([image(dtype=dtype)], [scores(dtype=dtype)]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert foreign.input.dtype == foreign.output.dtype == "float16"
    assert largest_difference(path, tmp_path / "fp32.onnx") < 2e-3
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "fp32.onnx").graph.initializer}
    assert kinds <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def test_float16_inside(tmp_path: Path) -> None:
    """Input and output are float32; only the nodes between them may round, which depends on the processor."""
    net = Foreign(13, np.float16)
    half = net.op("Cast", "input", to=onnx.TensorProto.FLOAT16)
    softmax = net.op("Softmax", net.logits(half))
    net.op("Cast", softmax, to=onnx.TensorProto.FLOAT, outputs=["output"])
    path = saved(net.model([image()], [scores()]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert foreign.input.dtype == foreign.output.dtype == "float32"
    assert computes_in_half(onnx.load(path)) and not computes_in_half(onnx.load(plain(tmp_path / "plain.onnx")))
    assert largest_difference(path, tmp_path / "fp32.onnx") < 5e-3
