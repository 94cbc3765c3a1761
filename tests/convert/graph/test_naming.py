"""Equal networks give equal bytes, whatever names and order their nodes have."""

from __future__ import annotations

import onnx

from tests.support.small_networks import residual_network
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.graph.naming import canonical, finished, in_order


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with other names of tensors, and a node that nothing needs."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    kept = {value.name for value in (*copy.graph.input, *copy.graph.output, *copy.graph.initializer)}
    for node in copy.graph.node:
        node.input[:] = [name if name in kept or not name else f"other_{name}" for name in node.input]
        node.output[:] = [name if name in kept or not name else f"other_{name}" for name in node.output]
    copy.graph.node.insert(0, onnx.helper.make_node("Relu", [copy.graph.input[0].name], ["unused"], name="unused"))
    return copy


def test_names_and_order_do_not_matter() -> None:
    model = residual_network()
    first = canonical(model, "photos", "scores", {"b": "2", "a": "1"})
    second = canonical(renamed(model), "photos", "scores", {"a": "1", "b": "2"})
    assert first.SerializeToString() == second.SerializeToString()
    assert [entry.key for entry in first.metadata_props] == ["a", "b"]
    onnx.checker.check_model(first)


def test_a_canonical_graph_stays_as_it_is() -> None:
    once = canonical(residual_network(), "photos", "scores", {})
    assert canonical(once, "photos", "scores", {}).SerializeToString() == once.SerializeToString()


def test_constants_are_named_after_their_layer() -> None:
    model = canonical(residual_network(), "photos", "scores", {})
    for node in model.graph.node:
        assert node.output[0] in (f"{node.name}:0", "scores")
        if node.op_type == "Conv":
            assert node.input[1] == f"{node.name}.weight"


def test_inputs_come_before_the_nodes_that_read_them() -> None:
    seen: set[str] = set()
    view = GraphView(residual_network())
    for node in in_order(view):
        assert all(name in seen for name in node.input if name in view.producer)
        seen.update(node.output)


def test_the_ir_version_is_the_lowest_for_the_opset() -> None:
    assert finished(residual_network().graph, 17, {}).ir_version == 8
    assert finished(residual_network().graph, 13, {}).ir_version == 7
