"""fp32.onnx of ONNX classifiers of other programs gives the scores of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.adopt.onnx.networks import CLASSES, SIDE, Foreign, image, plain, saved, scores
from trtpoets.adopt.contract import CAFFE, IMAGENET, RAW, SIGNED, UNIT, Contract, Geometry, Pixels
from trtpoets.adopt.foreign import ForeignModel
from trtpoets.adopt.onnx import fp32_from_onnx, read_onnx_classifier
from trtpoets.core.onnx_file import open_session, opset_of, read_onnx
from trtpoets.core.original import (
    Answers,
    Channels,
    Layout,
    Original,
    classes_of,
    scores_from_output,
    values_from_photos,
)
from trtpoets.core.types import ModelSpec
from trtpoets.device.original_onnx import OnnxNetwork

GRAY = Pixels((1 / 255,) * 3, (0.0,) * 3, Channels.GRAY, "0..1")


def spec_for(foreign: ForeignModel, pixels: Pixels = UNIT, side: int = SIDE) -> ModelSpec:
    preprocess = Contract(pixels, Geometry()).preprocess(foreign.height or side, foreign.width or side)
    original = Original(
        foreign.format,
        foreign.path.name,
        foreign.sha256,
        foreign.clues.writer,
        foreign.input,
        foreign.output,
        pixels.channels,
    )
    labels = tuple(f"class {index}" for index in range(classes_of(foreign.output)))
    return ModelSpec("adopted", "onnx", preprocess, labels, foreign.sha256, original)


def largest_difference(path: Path, out: Path, pixels: Pixels = UNIT, count: int = 5) -> float:
    """Wrap a file; return the largest difference of its scores from those of the file for random photos."""
    foreign = read_onnx_classifier(path)
    spec = spec_for(foreign, pixels)
    wrapped = fp32_from_onnx(foreign, spec, out)
    assert read_onnx(out).spec == spec
    size = (spec.preprocess.height, spec.preprocess.width)
    photos = np.random.default_rng(1).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    assert spec.original is not None
    with OnnxNetwork(path, foreign.input, foreign.output, threads=1) as network:
        raw = network.infer(values_from_photos(photos, spec.preprocess, pixels.channels))
    assert raw.shape == (count, foreign.output.size)
    assert raw.dtype == foreign.output.dtype
    expected = scores_from_output(raw, foreign.output)
    session = open_session(wrapped.path, 1)
    (given,) = session.run(["scores"], {"photos": photos})
    assert given.shape == (count, len(spec.labels))
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-5)
    assert expected.std(axis=0).max() > 1e-4, "the photos make no difference"
    return float(np.abs(given - expected).max())


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
        *("Cast", "Add", "Transpose", "Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm", "Softmax")
    ]


ENDS: dict[str, Answers] = {
    "": Answers.LOGITS,
    "Softmax": Answers.PROBABILITIES,
    "LogSoftmax": Answers.LOG_PROBABILITIES,
    "Sigmoid": Answers.SIGMOID,
}


@pytest.mark.parametrize("opset", [7, 11, 13, 17, 21, 23])
@pytest.mark.parametrize("end", ENDS)
def test_ends_and_opsets(tmp_path: Path, end: str, opset: int) -> None:
    net = Foreign(opset)
    logits = net.logits("input")
    net.op(
        "Identity",
        net.op(end, logits, axis=1) if "oft" in end else net.op(end or "Identity", logits),
        outputs=["output"],
    )
    path = saved(net.model([image()], [scores()], ir_version=3 if opset < 9 else 10), tmp_path / "a.onnx")
    assert read_onnx_classifier(path).output.answers is ENDS[end]
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5


def test_one_probability(tmp_path: Path) -> None:
    net = Foreign()
    net.op("Sigmoid", net.logits("input", classes=1), outputs=["output"])
    path = saved(net.model([image()], [scores(("N", 1))]), tmp_path / "a.onnx")
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-6


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
