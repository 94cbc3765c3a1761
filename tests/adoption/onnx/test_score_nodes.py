"""The nodes after the network make scores of its outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, saved, scores
from tests.adoption.onnx.wrapping import largest_difference, spec_for
from trtpoets.adoption.onnx import fp32_from_onnx, read_onnx_classifier
from trtpoets.core.onnx_file import open_session
from trtpoets.core.original import Answers

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


def test_one_logit(tmp_path: Path) -> None:
    """The logit of the second of two classes."""
    net = Foreign()
    net.op("Identity", net.logits("input", classes=1), outputs=["output"])
    path = saved(net.model([image()], [scores(("N", 1))]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    assert (foreign.output.size, foreign.output.answers) == (1, Answers.LOGITS)
    assert largest_difference(path, tmp_path / "fp32.onnx") < 1e-5


def test_sigmoids_that_are_all_zero_give_uniform_scores(tmp_path: Path) -> None:
    net = Foreign()
    low = net.op("Mul", net.op("ReduceMax", "input", axes=[1, 2, 3], keepdims=0), net.number(-1000))
    low = net.op("Unsqueeze", low, net.constant(np.array([1])))
    x = net.op("Add", net.logits("input"), low)
    net.op("Sigmoid", x, outputs=["output"])
    path = saved(net.model([image()], [scores()]), tmp_path / "a.onnx")
    foreign = read_onnx_classifier(path)
    fp32_from_onnx(foreign, spec_for(foreign), tmp_path / "fp32.onnx")
    photos = np.stack([np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE, 3), 255, np.uint8)])
    (given,) = open_session(tmp_path / "fp32.onnx", 1).run(None, {"photos": photos})
    assert given[0].std() > 0.01
    np.testing.assert_allclose(given[1], 1 / CLASSES)
