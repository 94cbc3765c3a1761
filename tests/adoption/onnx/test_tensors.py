"""Types, shapes and neighbours of tensors are found in graphs of other programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.adoption.onnx.networks import CLASSES, SIDE, Foreign, image, scores
from trtpoets.adoption.onnx.tensors import (
    before,
    constant_values,
    content_with_outputs,
    described,
    dtype_of,
    needed_nodes,
    quantisation,
    shape_of,
)
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.core.onnx_file import open_session


@pytest.mark.parametrize(
    ("value", "shape", "dtype", "text"),
    [
        (image(), (0, 3, SIDE, SIDE), "float32", "input float32 (?, 3, 16, 16)"),
        (scores((2, 5), dtype=np.int8), (2, 5), "int8", "output int8 (2, 5)"),
        (scores(None), None, "float32", "output float32 of unknown shape"),
        (helper.make_tensor_value_info("words", onnx.TensorProto.STRING, [3]), (3,), None, "words"),
        (onnx.ValueInfoProto(name="nothing"), None, "", "nothing (unknown)"),
        (
            helper.make_tensor_sequence_value_info("maps", onnx.TensorProto.FLOAT, None),
            None,
            "",
            "maps (sequence)",
        ),
    ],
)
def test_a_value_is_described(value: Any, shape: tuple[int, ...] | None, dtype: str | None, text: str) -> None:
    assert shape_of(value) == shape
    assert dtype is None or dtype_of(value) == dtype
    assert described(value).startswith(text)


def network() -> tuple[onnx.ModelProto, str]:
    """Logits, their Softmax after a Cast and an Identity, and a branch that nothing needs."""
    net = Foreign()
    logits = net.logits("input")
    net.op("ReduceMax", logits)
    cast = net.op("Cast", net.op("Identity", net.op("Softmax", logits, axis=1)), to=onnx.TensorProto.FLOAT)
    net.op("Flatten", cast, outputs=["output"])
    return net.model([image()], [scores()]), logits


def test_nodes_that_a_tensor_needs_are_in_the_order_of_the_graph() -> None:
    model, _ = network()
    assert [node.op_type for node in needed_nodes(GraphView(model), "output")] == [
        *("Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm", "Softmax", "Identity", "Cast", "Flatten")
    ]
    assert needed_nodes(GraphView(model), "input") == []


def test_tensors_before_operators_that_do_not_change_values() -> None:
    model, _ = network()
    view = GraphView(model)
    operators = [view.producer[name].op_type for name in before(view, "output")]
    assert operators == ["Flatten", "Cast", "Identity", "Softmax"]
    assert list(before(view, "output", ())) == ["output"]


def test_constants_and_scales() -> None:
    net = Foreign()
    scale, zero = net.number(0.5), net.constant(np.int8(3))
    stored = net.op("QuantizeLinear", "input", scale, zero)
    net.op("DequantizeLinear", stored, net.op("ReduceMax", "input", keepdims=0), outputs=["output"])
    view = GraphView(net.model([image()], [scores()]))
    values = constant_values(view, scale)
    assert values is not None
    assert values == 0.5
    assert constant_values(view, "input") is None
    parameters = quantisation(view, view.producer[stored])
    assert parameters is not None
    assert [float(one) for one in parameters] == [0.5, 3]
    assert quantisation(view, view.producer["output"]) is None


def test_any_tensor_becomes_an_output() -> None:
    model, logits = network()
    session = open_session(content_with_outputs(model, [logits, "output"]))
    first, second = session.run(None, {"input": np.ones((2, 3, SIDE, SIDE), np.float32)})
    assert first.shape == second.shape == (2, CLASSES)
    assert [value.name for value in model.graph.output] == ["output"]
