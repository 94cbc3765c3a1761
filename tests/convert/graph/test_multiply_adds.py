"""Multiply-adds of standard operators and of those that ONNX Runtime fuses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.small_networks import residual_network
from trtpoets.convert.graph.multiply_adds import all_nodes, operator_name, view_of_any, weighted_nodes


def network(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A graph from x (1, 3, 8, 8) to y with the weights w (4, 3, 3, 3) and d (8, 5)."""
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])]
    values += [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    weights = [("w", (4, 3, 3, 3)), ("d", (8, 5))]
    constants = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights]
    graph = helper.make_graph(list(nodes), "net", values[:1], values[1:], constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    )


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]), 4 * 8 * 8 * 27),
        (helper.make_node("FusedConv", ["x", "w"], ["y"], domain="com.microsoft", strides=[2, 2]), 4 * 3 * 3 * 27),
        (helper.make_node("MatMul", ["x", "d"], ["y"]), 3 * 8 * 8 * 5),
        (helper.make_node("FusedMatMul", ["x", "d"], ["y"], domain="com.microsoft"), 3 * 8 * 8 * 5),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_a_layer_is_counted_as_its_standard_operator(node: onnx.NodeProto, expected: int) -> None:
    model = network(node)
    (weighted,), uncounted = weighted_nodes(view_of_any(model), model)
    assert weighted.multiply_adds == expected
    assert uncounted == {}


def test_operators_that_may_multiply_are_listed() -> None:
    nodes = [helper.make_node("Swirl", ["x"], [f"s{index}"], domain="org.example") for index in range(2)]
    model = network(*nodes, helper.make_node("Relu", ["x"], ["y"]))
    weighted, uncounted = weighted_nodes(view_of_any(model), model)
    assert weighted == []
    assert uncounted == {"org.example.Swirl": 2}


def test_a_damaged_graph_has_a_view() -> None:
    model = network(helper.make_node("Conv", ["x"], ["y"], kernel_shape=[3, 3]))
    weighted, _ = weighted_nodes(view_of_any(model), model)
    assert [node.multiply_adds for node in weighted] == []


def test_nodes_of_branches() -> None:
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["r"], name="inner")], "then", [], [])
    model = network(helper.make_node("If", ["c"], ["y"], name="outer", then_branch=inner, else_branch=inner))
    assert [node.name for node in all_nodes(model.graph)] == ["outer", "inner", "inner"]
    assert operator_name(model.graph.node[0]) == "If"


def test_the_view_leaves_the_graph_unchanged() -> None:
    model = residual_network()
    before = model.SerializeToString()
    view_of_any(model)
    assert model.SerializeToString() == before
