"""The nodes before the network make of photos what the file takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, plain, saved, scores
from tests.adoption.onnx.wrapping import GRAY, largest_difference, spec_for
from trtpoets.adoption.contract import CAFFE, IMAGENET, RAW, SIGNED, UNIT, Pixels
from trtpoets.adoption.onnx import fp32_from_onnx, read_onnx_classifier
from trtpoets.core.onnx_file import opset_of


@pytest.mark.parametrize("pixels", [RAW, UNIT, SIGNED, IMAGENET, CAFFE], ids=lambda pixels: pixels.name)
def test_pixels(tmp_path: Path, pixels: Pixels) -> None:
    path = plain(tmp_path / "a.onnx", scale=1 / 128 if pixels in (RAW, CAFFE) else 1)
    assert largest_difference(path, tmp_path / "fp32.onnx", pixels) < 1e-5


def test_nodes_are_few(tmp_path: Path) -> None:
    foreign = read_onnx_classifier(plain(tmp_path / "a.onnx"))
    fp32_from_onnx(foreign, spec_for(foreign, CAFFE), tmp_path / "fp32.onnx")
    model = onnx.load(tmp_path / "fp32.onnx")
    assert opset_of(model) == 17
    # Scales of 1 need no node, and BGR is in the weights of the convolution.
    assert [node.op_type for node in model.graph.node] == [
        *("Cast", "Transpose", "Add", "Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm", "Softmax")
    ]


@pytest.mark.parametrize(("dtype", "zero_point"), [(np.uint8, 0), (np.int8, -128)])
def test_integer_input_and_output(tmp_path: Path, dtype: Any, zero_point: int) -> None:
    net = Foreign(13)
    pixels = net.op("DequantizeLinear", "input", net.number(1 / 255), net.constant(dtype(zero_point)))
    probabilities = net.op("Softmax", net.logits(pixels))
    output = net.constant(dtype(zero_point))
    net.op("QuantizeLinear", probabilities, net.number(1 / 256), output, outputs=["output"])
    path = saved(net.model([image(dtype=dtype)], [scores(dtype=dtype)]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.output.scale, foreign.output.zero_point) == (1 / 256, zero_point)
    assert foreign.fixed is not None
    assert foreign.fixed.pixels.same_as(UNIT)
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1 / 128


@pytest.mark.parametrize("shape", [(3, SIDE, SIDE), (SIDE, SIDE, 3)])
@pytest.mark.parametrize("pixels", [RAW, GRAY], ids=["colour", "grey"])
def test_uint8_pixels(tmp_path: Path, shape: tuple[int, ...], pixels: Pixels) -> None:
    channels = pixels.channels.number
    shape = tuple(channels if size == 3 else size for size in shape)
    net = Foreign(13)
    real = net.op("Cast", "input", to=onnx.TensorProto.FLOAT)
    real = net.op("Div", real, net.number(255))
    real = real if shape[0] == channels else net.op("Transpose", real, perm=[0, 3, 1, 2])
    net.op("Identity", net.logits(real, channels), outputs=["output"])
    path = saved(net.model([image((1, *shape), dtype=np.uint8)], [scores((1, CLASSES))]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert foreign.fixed is not None
    whole = Pixels((1.0,) * 3, (0.0,) * 3, pixels.channels, "0..255")
    assert foreign.fixed.pixels.same_as(whole)
    assert largest_difference(path, tmp_path / "fp32.onnx", whole) < 1e-5


def test_bgr_of_a_network_that_does_not_begin_with_a_convolution(tmp_path: Path) -> None:
    net = Foreign()
    x = net.op("Transpose", net.op("Sub", "input", net.number([104, 117, 123])), perm=[0, 3, 1, 2])
    net.op("Identity", net.logits(x, scale=1 / 128), outputs=["output"])
    path = saved(net.model([image(("N", SIDE, SIDE, 3))], [scores()]), tmp_path / "a.onnx")
    assert largest_difference(path, tmp_path / "fp32.onnx", CAFFE) < 1e-5
