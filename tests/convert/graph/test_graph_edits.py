"""Nodes of a graph are replaced by copies, and constants that nothing reads are dropped."""

from __future__ import annotations

import numpy as np
from onnx import helper, numpy_helper

from tests.support.small_networks import residual_network
from trtpoets.convert.graph.graph_edits import drop_unused_constants, replace_nodes


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
