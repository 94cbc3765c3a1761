"""Nodes of a graph are replaced by copies, and constants that nothing reads are dropped."""

from __future__ import annotations

import numpy as np
from onnx import helper, numpy_helper

from tests.support.small_networks import residual_network
from trtpoets.convert.graph.graph_edits import drop_unused_constants, reduction_axes, replace_nodes, set_constant
from trtpoets.convert.graph.graph_view import GraphView


def test_nodes_are_copied_in_the_given_order() -> None:
    model = residual_network()
    before = [node.name for node in model.graph.node]
    extra = helper.make_node("Identity", ["scores"], ["copy"], name="extra")
    replace_nodes(model, [extra, *model.graph.node])
    assert [node.name for node in model.graph.node] == ["extra", *before]
    extra.name = "changed"
    assert model.graph.node[0].name == "extra"


def test_constants_that_no_node_reads_are_dropped() -> None:
    model = residual_network()
    before = [constant.name for constant in model.graph.initializer]
    model.graph.initializer.insert(0, numpy_helper.from_array(np.zeros(1, np.float32), "unused"))
    drop_unused_constants(model)
    assert [constant.name for constant in model.graph.initializer] == before
    replace_nodes(model, [])
    drop_unused_constants(model)
    assert not model.graph.initializer


def test_a_constant_is_changed_or_added() -> None:
    model = residual_network()
    name = model.graph.initializer[0].name
    count = len(model.graph.initializer)
    view = GraphView(model)
    set_constant(model, view, name, np.array([1.0, 2.0]))
    set_constant(model, view, "new", np.array(3))
    assert len(model.graph.initializer) == count + 1
    arrays = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    np.testing.assert_array_equal(arrays[name], [1, 2])
    assert arrays["new"] == 3
    assert arrays[name].dtype == arrays["new"].dtype == np.float32


def test_axes_of_a_reduction_are_an_input_from_opset_18_on() -> None:
    assert reduction_axes(17, [2, 3], "axes") == ([], {"axes": [2, 3]})
    assert reduction_axes(18, [2, 3], "axes") == (["axes"], {})
