"""ONNX files that are not classifiers, or that TensorRT cannot read, are refused by naming what they are."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, saved, scores
from tests.support.errors import raises
from trtpoets.adoption.onnx import read_onnx_classifier
from trtpoets.core.errors import TrtPoetsError

Build = Callable[[Foreign], tuple[Sequence[Any], Sequence[Any]]]


def detector(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    x = net.op("Conv", "input", net.number(np.ones((6, 3, 1, 1))))
    net.op("Reshape", x, net.constant(np.array([1, 6, -1])), outputs=["output"])
    return [image((1, 3, SIDE, SIDE))], [scores((1, 6, 256))]


def named_boxes(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Identity", net.logits("input"), outputs=["scores"])
    net.op("Identity", net.logits("input", classes=4), outputs=["boxes"])
    return [image()], [scores(("N", 4), "boxes"), scores(name="scores")]


def suppression(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    boxes = net.op("Reshape", "input", net.constant(np.array([1, -1, 4])))
    value = net.op("Reshape", net.op("ReduceMax", boxes, axes=[2]), net.constant(np.array([1, 1, -1])))
    net.op("NonMaxSuppression", boxes, value, outputs=["output"])
    return [image((1, 3, SIDE, SIDE))], [scores((None, 3), dtype=np.int64)]


def boxes_of_a_branch(net: Foreign, *kinds: str) -> tuple[Sequence[Any], Sequence[Any]]:
    """As torchvision's detectors: an If for photos without objects, and operators on boxes inside its branches."""
    names = ("boxes", "scores", "labels")
    net.op("Identity", net.logits("input"), outputs=["logits"])
    some = net.op("Greater", net.op("ReduceMax", "logits", keepdims=0), net.number(0))
    boxes = net.op("Reshape", net.number(np.ones(8)), net.constant(np.array([1, 2, 4])))
    value = net.op("Reshape", net.number(np.ones(2)), net.constant(np.array([1, 1, 2])))
    kept = [onnx.helper.make_node("NonMaxSuppression", [boxes, value], ["kept"])] if kinds else []
    kept += [onnx.helper.make_node("Cast", ["kept" if kinds else boxes], ["result"], to=1)]
    inner = [onnx.helper.make_graph(kept, "then", [], [scores(None, "result")])]
    empty = [onnx.helper.make_node("Cast", [boxes], ["none"], to=1)]
    inner.append(onnx.helper.make_graph(empty, "else", [], [scores(None, "none")]))
    net.op("If", some, outputs=["boxes"], then_branch=inner[0], else_branch=inner[1])
    for name in names[1:]:
        net.op("Identity", "boxes", outputs=[name])
    return [image((1, 3, SIDE, SIDE))], [scores(None, name) for name in names]


def suppression_in_a_branch(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    return boxes_of_a_branch(net, "NonMaxSuppression")


def segmentation(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Conv", "input", net.number(np.ones((2, 3, 1, 1))), outputs=["output"])
    return [image()], [scores(("N", 2, SIDE, SIDE))]


def embedding_and_logits(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Identity", net.logits("input", classes=8), outputs=["vector"])
    net.op("Gemm", "vector", net.number(np.eye(8, 3)), outputs=["logits"])
    return [image()], [scores(("N", 8), "vector"), scores(name="logits")]


def two_heads(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    for name in ("colour", "shape"):
        net.op("Softmax", net.logits("input"), outputs=[name])
    return [image()], [scores(name="colour"), scores(name="shape")]


def normalised(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    logits = net.logits("input", classes=8)
    norm = net.op("Clip", net.op("ReduceL2", logits, axes=[1], keepdims=1), net.number(1e-12))
    net.op("Div", logits, net.op("Expand", norm, net.op("Shape", logits)), outputs=["output"])
    return [image()], [scores(("N", 8))]


def unit_length(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    logits = net.logits("input", classes=8)
    squares = net.op("ReduceSumSquare", logits, axes=[1], keepdims=1)
    net.op("Mul", logits, net.op("Reciprocal", net.op("Sqrt", squares)), outputs=["output"])
    return [image()], [scores(("N", 8))]


def landmarks(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Identity", net.logits("input", classes=10), outputs=["landmarks"])
    return [image()], [scores(("N", 10), "landmarks")]


def text(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Add", "input_ids", "attention_mask", outputs=["output"])
    names = ("input_ids", "attention_mask")
    return [image((1, 8), name, np.int64) for name in names], [scores((1, 8), dtype=np.int64)]


def two_images(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Sub", net.logits("left"), net.logits("right"), outputs=["output"])
    return [image(name="left"), image(name="right")], [scores()]


def vectors(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Softmax", "input", outputs=["output"])
    return [image(("N", 4))], [scores(("N", 4))]


def four_channels(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Identity", net.logits("input", 4), outputs=["output"])
    return [image(("N", 4, SIDE, SIDE))], [scores()]


def large_batch(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Identity", net.logits("input"), outputs=["output"])
    return [image((1 << 30, 3, SIDE, SIDE))], [scores()]


def loop(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    def branch(name: str) -> Any:
        node = onnx.helper.make_node("Identity", ["logits"], [name])
        return onnx.helper.make_graph([node], name, [], [scores(None, name)])

    net.op("Identity", net.logits("input"), outputs=["logits"])
    positive = net.op("Greater", net.op("ReduceMax", "logits", keepdims=0), net.number(0))
    net.op("If", positive, outputs=["output"], then_branch=branch("a"), else_branch=branch("b"))
    return [image()], [scores()]


def custom(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Swirl", net.logits("input"), outputs=["output"], domain="org.example")
    return [image()], [scores()]


def fused(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Gelu", net.logits("input"), outputs=["output"], domain="com.microsoft")
    return [image()], [scores()]


def dynamically_quantised(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    logits = net.logits("input")
    net.op("DynamicQuantizeLinear", logits, outputs=["q", "s", "z"])
    net.op("DequantizeLinear", "q", "s", "z", outputs=["output"])
    return [image()], [scores()]


def zero_points(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    scale, zero = net.number(0.1), net.constant(np.uint8(128))
    x = net.op("DequantizeLinear", net.op("QuantizeLinear", net.logits("input"), scale, zero), scale, zero)
    net.op("Softmax", x, outputs=["output"])
    return [image()], [scores()]


def shifted(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    scale, zero = net.number(0.1), net.constant(np.int8(3))
    x = net.op("DequantizeLinear", net.op("QuantizeLinear", net.logits("input"), scale, zero), scale, zero)
    net.op("Softmax", x, outputs=["output"])
    return [image()], [scores()]


def narrow(element_type: int) -> Build:
    """Weights of four bits or of float8."""

    def build(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
        net.opset = 21
        net.constants.append(onnx.helper.make_tensor("stored", element_type, [3, 3], [1.0, 0, 1, 1, 0, 1, 0, 0, 1]))
        net.op("MatMul", net.logits("input"), net.op("DequantizeLinear", "stored", net.number(0.1)), outputs=["output"])
        return [image()], [scores()]

    build.__name__ = str(onnx.TensorProto.DataType.Name(element_type))
    return build


def integer_convolution(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("DynamicQuantizeLinear", "input", outputs=["q", "s", "z"])
    weights = net.constant(net.random.integers(-127, 128, (CLASSES, 3, 3, 3)).astype(np.int8))
    x = net.op("Mul", net.op("Cast", net.op("ConvInteger", "q", weights, "z"), to=1), net.number(0.001))
    net.op("Flatten", net.op("GlobalAveragePool", x), outputs=["output"])
    return [image()], [scores()]


def linear_convolution(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    scale, zero = net.number(0.01), net.constant(np.int8(0))
    x = net.op("QuantizeLinear", "input", scale, zero)
    weights = net.constant(net.random.integers(-127, 128, (CLASSES, 3, 3, 3)).astype(np.int8))
    x = net.op("QLinearConv", x, scale, zero, weights, scale, zero, scale, zero)
    net.op("Flatten", net.op("GlobalAveragePool", net.op("DequantizeLinear", x, scale, zero)), outputs=["output"])
    return [image()], [scores()]


def linear_gemm(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    scale, zero = net.number(0.1), net.constant(np.int8(0))
    x = net.op("QuantizeLinear", net.logits("input"), scale, zero)
    weights = net.constant(np.eye(CLASSES, dtype=np.int8))
    x = net.op("QGemm", x, scale, zero, weights, scale, zero, "", scale, zero, domain="com.microsoft")
    net.op("DequantizeLinear", x, scale, zero, outputs=["output"])
    return [image()], [scores()]


def wrong_axis(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Softmax", net.logits("input"), outputs=["output"], axis=0)
    return [image((1, 3, SIDE, SIDE))], [scores((1, CLASSES))]


def one_number(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("LogSoftmax", net.logits("input", classes=1), outputs=["output"], axis=1)
    return [image()], [scores(("N", 1))]


def not_a_number(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.op("Div", net.logits("input"), net.number(0), outputs=["output"])
    return [image()], [scores()]


def double(net: Foreign) -> tuple[Sequence[Any], Sequence[Any]]:
    net.dtype = np.dtype(np.float64)
    net.op("Softmax", net.logits("input"), outputs=["output"])
    return [image(dtype=np.float64)], [scores(dtype=np.float64)]


QUANTISED = ("TP9221", "TP9226")
"""The codes of quantised networks that TensorRT cannot read."""
REFUSED: list[tuple[Build, str, tuple[str, ...]]] = [
    (detector, "TP9231", ("output (1, 6, 256)",)),
    (named_boxes, "TP9229", ("boxes (1, 4), scores (1, 3)",)),
    (suppression, "TP9227", ("NonMaxSuppression",)),
    (suppression_in_a_branch, "TP9227", ("NonMaxSuppression", "boxes, scores, labels")),
    (boxes_of_a_branch, "TP9600", ("boxes, scores, labels",)),
    (segmentation, "TP9230", ("output (1, 2, 16, 16)",)),
    (embedding_and_logits, "TP9232", ("vector (1, 8), logits (1, 3)",)),
    (two_heads, "TP9232", ("colour (1, 3), shape (1, 3)",)),
    (normalised, "TP9228", ("output output", "L2 normalisation")),
    (unit_length, "TP9228", ("output output", "length 1")),
    (landmarks, "TP9228", ("output landmarks", "name")),
    (text, "TP9214", ("input_ids int64 (1, 8)",)),
    (two_images, "TP9215", ("left float32 (?, 3, 16, 16), right float32 (?, 3, 16, 16)",)),
    (vectors, "TP9210", ("input float32 (?, 4)",)),
    (four_channels, "TP9218", ("input float32 (?, 4, 16, 16)", "4 channels")),
    (large_batch, "TP9219", ("input float32 (1073741824, 3, 16, 16)", "1 GiB")),
    (loop, "TP9224", ("If /output/If",)),
    (custom, "TP9223", ("org.example.Swirl",)),
    (fused, "TP9222", ("com.microsoft.Gelu",)),
    (dynamically_quantised, "TP9221", ("with DynamicQuantizeLinear",)),
    (zero_points, "TP9226", ("type is uint8", "/QuantizeLinear_5/QuantizeLinear")),
    (shifted, "TP9226", ("zero point", "/QuantizeLinear_5/QuantizeLinear, /DequantizeLinear_6/DequantizeLinear")),
    (narrow(onnx.TensorProto.INT4), "TP9226", ("type is int4", "/DequantizeLinear_5/DequantizeLinear")),
    (narrow(onnx.TensorProto.FLOAT8E4M3FN), "TP9226", ("type is float8e4m3fn", "/DequantizeLinear_5/DequantizeLinear")),
    (integer_convolution, "TP9221", ("ConvInteger, DynamicQuantizeLinear",)),
    (linear_convolution, "TP9221", ("QLinearConv",)),
    (linear_gemm, "TP9221", ("QGemm",)),
    (wrong_axis, "TP9242", ("Softmax", "sum to 3")),
    (one_number, "TP9241", ("Sigmoid",)),
    (not_a_number, "TP9240", ("NaN",)),
    (double, "TP9595", ("float64", "'/Conv_0/Conv'")),
]


@pytest.mark.parametrize(("build", "code", "values"), REFUSED, ids=[build.__name__ for build, *_ in REFUSED])
def test_what_is_no_classifier_is_named(tmp_path: Path, build: Build, code: str, values: tuple[str, ...]) -> None:
    net = Foreign()
    inputs, outputs = build(net)
    path = saved(net.model(inputs, outputs), tmp_path / "net.onnx")
    with raises(TrtPoetsError, code, path, *values) as caught:
        read_onnx_classifier(path)
    assert caught.value.hint
    assert code not in QUANTISED or "adopt the float file that it was made of" in caught.value.hint


def test_the_hint_for_several_outputs_extracts_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Foreign()
    path = saved(net.model(*two_heads(net)), tmp_path / "net.onnx")
    with raises(TrtPoetsError, "TP9232", "colour (1, 3), shape (1, 3)") as caught:
        read_onnx_classifier(path)
    program, option, code = shlex.split(caught.value.hint.partition(": ")[2])
    assert (program, option) == ("python", "-c")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert read_onnx_classifier(tmp_path / "one.onnx").output.name == "colour"
