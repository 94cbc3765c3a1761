"""Files with Q/DQ pairs of their own are used as they are, or the first problem is named."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.convert.int8.test_topologies import fixed_ranges
from tests.support.small_networks import residual_network
from tests.support.topologies import TOPOLOGIES
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.convert.int8.quantised_files import is_quantised, unsuitable_quantisation


def quantised_graph() -> onnx.ModelProto:
    model = TOPOLOGIES["flat_tokens"]()
    return Int8GraphBuilder(model, fixed_ranges(placement_from_onnx(model))).build()[0]


def test_symmetric_pairs_are_used_as_they_are() -> None:
    model = quantised_graph()
    assert is_quantised(model)
    assert unsuitable_quantisation(model) == ()
    assert not is_quantised(residual_network())
    assert unsuitable_quantisation(residual_network()) == ()


def changed(name: str, value: np.ndarray) -> onnx.ModelProto:
    """Return the quantised graph with another value of a constant."""
    model = quantised_graph()
    for constant in model.graph.initializer:
        if constant.name == name:
            constant.CopyFrom(onnx.numpy_helper.from_array(value, name))
    return model


@pytest.mark.parametrize(
    ("constant", "value", "reason"),
    [
        ("rows.zero_point", np.array(3, np.int8), "a zero point is not 0: rows/QuantizeLinear, rows/DequantizeLinear"),
        ("rows.zero_point", np.array(0, np.uint8), "the quantised type is uint8, and TensorRT needs int8: rows/"),
        ("rows.scale", np.array(0, np.float32), "a scale is not positive: rows/"),
        ("rows.scale", np.full(32, 0.1, np.float32), "activations have a scale per channel: rows/"),
    ],
)
def test_pairs_that_tensorrt_does_not_accept(constant: str, value: np.ndarray, reason: str) -> None:
    reasons = unsuitable_quantisation(changed(constant, value))
    assert any(text.startswith(reason) for text in reasons), reasons


def test_weights_with_scales_along_another_axis() -> None:
    model = quantised_graph()
    for node in model.graph.node:
        if node.name.startswith("wide.weight/"):
            node.attribute[0].i = 1
    assert unsuitable_quantisation(model) == (
        "weights have scales along another axis than that of their output channels: wide.weight/DequantizeLinear",
    )


def test_operators_on_integers() -> None:
    model = residual_network()
    for kind, name in (("ConvInteger", "c1"), ("ConvInteger", "c2"), ("DynamicQuantizeLinear", "d")):
        model.graph.node.append(helper.make_node(kind, ["x", "y"], [name], name=name))
    assert is_quantised(model)
    assert unsuitable_quantisation(model) == (
        "TensorRT has no operator ConvInteger, which is used by 2 nodes",
        "TensorRT has no operator DynamicQuantizeLinear, which is used by 1 node",
    )
