"""Names, orders of axes and Clips of the ONNX graph that is written for a TFLite network."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tflite_files import tflite_classifier
from tests.support.tflite_networks import kinds, random_values, real_answers
from trtpoets.adoption.tflite import network_from_tflite
from trtpoets.adoption.tflite.contents import Operator, Quantisation, Tensor, TfliteContents
from trtpoets.adoption.tflite.onnx_writer import EVERYTHING, FIRST, Interval, OnnxWriter
from trtpoets.adoption.tflite.to_onnx import session_of
from trtpoets.core.errors import ConversionFailed

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.usefixtures("sound_files")


def test_activations_become_one_clip_with_the_range_of_the_integers(tmp_path: Path) -> None:
    path = tflite_classifier(dtype="int8", zero_point=-128).write(tmp_path / "net.tflite")
    _, smooth = network_from_tflite(path)
    # One for Relu6 of the convolution and one for the logits; the mean and the softmax stay in their ranges.
    assert kinds(smooth) == Counter(
        Transpose=1, Conv=1, Clip=2, GlobalAveragePool=1, Reshape=1, Gemm=1, Softmax=1, Identity=1
    )


def test_channels_first_inputs_need_no_transpose(tmp_path: Path) -> None:
    file = tflite_classifier(last="")
    photo, (network,) = file.tensor("images", (1, 3, 8, 8)), file.inputs
    file.operator("TRANSPOSE", [photo, file.constant(np.array([0, 2, 3, 1], np.int32))], [network], at_start=True)
    file.inputs = [photo]
    path = file.write(tmp_path / "net.tflite")
    _, smooth = network_from_tflite(path)
    assert "Transpose" not in kinds(smooth)
    values = random_values()
    np.testing.assert_allclose(session_of(smooth)(values.transpose(0, 3, 1, 2)), real_answers(path, values), atol=1e-5)


def writer_of(*tensors: Tensor, rounded: bool = False) -> OnnxWriter:
    contents = TfliteContents(Path("net.tflite"), b"", "", tensors, (), (), (), 1, (), {}, {})
    return OnnxWriter(contents, {}, 17, rounded=rounded)


def image(scale: float | None = None, zero_point: int = 0, dtype: str = "int8") -> Tensor:
    quantisation = None if scale is None else Quantisation(np.array([scale]), np.array([zero_point]), 0)
    return Tensor("image", dtype if scale else "float32", (1, 4, 6, 3), (False,) * 4, quantisation)


def node_kinds(writer: OnnxWriter) -> list[str]:
    return [node.op_type for node in writer.nodes]


def test_the_order_of_axes_is_changed_once_and_when_it_is_needed() -> None:
    writer = writer_of(image())
    writer.put(0, "values")
    assert not writer.has_first(0)
    assert writer.plain(0) == "values"
    assert writer.first(0) == writer.first(0) != "values"
    assert writer.has_first(0)
    assert node_kinds(writer) == ["Transpose"]
    assert list(writer.nodes[0].attribute[0].ints) == list(FIRST)


def test_an_image_of_one_channel_is_reshaped() -> None:
    writer = writer_of(Tensor("gray", "float32", (1, 4, 6, 1), (False,) * 4))
    writer.put(0, "values")
    assert writer.flat(0) == "values"
    writer.first(0)
    assert node_kinds(writer) == ["Reshape"]
    np.testing.assert_array_equal(writer.initializers["c0"], [-1, 1, 4, 6])


@pytest.mark.parametrize(
    ("limits", "kinds_"),
    [(EVERYTHING, []), ((0, math.inf), ["Relu"]), ((0, 6), ["Clip"]), ((-math.inf, 2), ["Clip"])],
)
def test_the_limits_of_an_activation(limits: Interval, kinds_: list[str]) -> None:
    writer = writer_of(image())
    writer.put(0, "values", limits=limits)
    assert node_kinds(writer) == kinds_
    assert writer.inside(0) == limits


def test_values_are_clipped_to_the_range_of_the_integers_unless_they_are_inside() -> None:
    writer = writer_of(image(0.5, 28), image(0.5, 28), image(0.5, 28))
    writer.put(0, "values")
    assert [float(writer.initializers[name]) for name in writer.nodes[0].input[1:]] == [-78, 49.5]
    assert writer.inside(0) == (-78, 49.5)
    writer.put(1, "values", inside=(-78.5, 50))  # beyond by one step
    writer.put(2, "values", moved=True)
    assert node_kinds(writer) == ["Clip"]


def test_a_rounded_network_computes_with_the_steps_of_8_bits() -> None:
    writer = writer_of(image(0.5, 28), image(0.5, 28, "int16"), image(), rounded=True)
    assert writer.in_integers(0)
    assert not writer.in_integers(0, 1)
    assert not writer.in_integers(0, 2)
    writer.put(0, "values")
    assert node_kinds(writer) == ["QuantizeLinear", "DequantizeLinear"]
    assert writer.steps(0) == writer.nodes[1].output[0]
    writer.plain(0)
    assert node_kinds(writer)[2:] == ["Mul"]


def test_equal_steps() -> None:
    writer = writer_of(image(0.5, 28), image(0.5, 28), image(0.5, 27), image(0.5, 28, "uint8"), image(), image())
    assert writer.same_steps(0, 1)
    assert not any(writer.same_steps(0, other) for other in (2, 3, 4))
    assert writer.same_steps(4, 5)


def test_inputs_that_must_be_constant() -> None:
    writer = writer_of(image())
    operator = Operator("PAD", (0, -1), (0,))
    assert writer.constant(operator, 1) is writer.constant(operator, 2) is None
    with raises(ConversionFailed, "TP9351", "PAD", "1"):
        writer.needed_constant(operator, 1)
    with raises(ConversionFailed, "TP9350", "PAD", "image"):
        writer.constant(operator, 0)
    writer.constants[0] = np.zeros(3, np.float32)
    assert writer.constant(operator, 0) is writer.constants[0]
