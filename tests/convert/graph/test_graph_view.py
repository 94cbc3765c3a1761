"""GraphView looks up types, shapes, producers and readers of tensors."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tests.support.topologies import TOPOLOGIES
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.placement import placement_from_onnx


def test_shapes_that_inference_does_not_find_are_measured() -> None:
    """A Swin transformer computes the number of its windows by a division of sizes."""
    model = TOPOLOGIES["flat_tokens"]()
    expected = placement_from_onnx(model)
    graph = model.graph  # type: ignore[attr-defined]
    reshape = next(node for node in graph.node if node.name == "rows")
    constants = {"two": 2, "axis": 0, "width": [32]}
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()
    )
    nodes = [
        helper.make_node("Size", [reshape.input[0]], ["size"], name="size"),
        helper.make_node("Div", ["size", "two"], ["half"], name="half"),
        helper.make_node("Div", ["half", "width"], ["quotient"], name="quotient"),
        helper.make_node("Mul", ["quotient", "two"], ["count"], name="count"),
        helper.make_node("Concat", ["count", "width"], ["computed"], name="computed", axis=0),
    ]
    reshape.input[1] = "computed"
    place = list(graph.node).index(reshape)
    ordered = [*graph.node[:place], *nodes, *graph.node[place:]]
    copies = type(graph)()
    copies.node.extend(ordered)
    del graph.node[:]
    graph.node.extend(copies.node)
    assert GraphView(model).shape("rows:0") in (None, (None, None), (None, 32))
    assert GraphView(model).rows("rows:0") == 256
    assert placement_from_onnx(model) == expected
