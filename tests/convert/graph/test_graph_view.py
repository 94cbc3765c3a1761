"""GraphView looks up types, shapes, producers and readers of tensors."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.support.tiny import tiny_graph
from tests.support.topologies import TOPOLOGIES
from trtpoets.convert.graph.graph_view import GraphView, clip_bounds, is_dequantised, owns_constants
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.core.types import Precision


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


def clip_view(*bounds: str) -> tuple[GraphView, onnx.NodeProto]:
    """A Clip with these inputs after the first; "low" is -1, "high" 6, and "computed" is not a constant."""
    nodes = [
        helper.make_node("Identity", ["x"], ["computed"], name="identity"),
        helper.make_node("Clip", ["x", *bounds], ["y"], name="clip"),
    ]
    constants = [onnx.numpy_helper.from_array(np.float32(value), name) for name, value in (("low", -1), ("high", 6))]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "clip", values[:1], values[1:], constants)
    view = GraphView(helper.make_model(graph))
    return view, view.nodes[1]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((), (None, None)),
        (("low",), (-1, None)),
        (("", "high"), (None, 6)),
        (("low", "high"), (-1, 6)),
        (("computed",), None),
        (("low", "computed"), None),
    ],
)
def test_bounds_of_a_clip(bounds: tuple[str, ...], expected: tuple[float | None, float | None] | None) -> None:
    assert clip_bounds(*clip_view(*bounds)) == expected


def test_constants_that_one_node_reads() -> None:
    view, clip = clip_view("low", "high")
    assert owns_constants(view, clip)
    assert not owns_constants(*clip_view("low", "computed"))
    assert not owns_constants(*clip_view("low", "low"))


def test_a_tensor_that_a_pair_computes() -> None:
    view = GraphView(tiny_graph(Precision.INT8))
    assert is_dequantised(view, "xd")
    assert not is_dequantised(view, "xq")
    assert not is_dequantised(view, "w")
