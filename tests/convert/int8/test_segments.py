"""A network that is run layer by layer."""

import numpy as np
import onnx
from onnx import helper

from tests.support.quantised_networks import ENDS, minmax, tensors
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.fidelity import sqnr_db
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.segments import (
    LiveTensors,
    SegmentRunner,
    joined,
    session_of,
    split_model,
    with_constant_weights,
)
from trtpoets.core.onnx_file import unwanted_optimizers, unwanted_optimizers_of
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, OnnxModel, Photo


def test_segments_compute_the_same_as_the_whole_network(model: OnnxModel, batch: np.ndarray) -> None:
    proto = onnx.load(model.path)
    segments = split_model(proto, ENDS, ("flat:0", OUTPUT_NAME))
    assert [segment.end for segment in segments] == [*ENDS, ""]
    live: LiveTensors = {INPUT_NAME: batch}
    runner = SegmentRunner()
    for segment in segments:
        runner.advance(segment, live)
        if segment.end == "expand":
            assert sorted(live) == ["expand:0", "project:0"], "tensors that are not needed any more are removed"
    assert sorted(live) == ["flat:0", OUTPUT_NAME]
    np.testing.assert_allclose(live[OUTPUT_NAME], tensors(proto, [OUTPUT_NAME], batch)[0], atol=1e-5)


def test_the_rest_of_a_network_in_one_session_gives_what_its_segments_give(model: OnnxModel, batch: np.ndarray) -> None:
    segments = split_model(onnx.load(model.path), ENDS, ("flat:0",))
    live: LiveTensors = {INPUT_NAME: batch}
    runner = SegmentRunner()
    starts = []
    for segment in segments:
        starts.append(dict(live))
        runner.advance(segment, live)
    for number, start in enumerate(starts[:-1]):
        rest = joined(segments[number:], "flat:0")
        assert set(rest.inputs) <= set(start)
        values = session_of(rest).run(["flat:0"], {name: start[name] for name in rest.inputs})[0]
        np.testing.assert_allclose(values, live["flat:0"], atol=1e-5)


def test_constant_weights_are_those_of_their_pairs(
    model: OnnxModel, dozen_photos: list[Photo], batch: np.ndarray
) -> None:
    quantised, _ = Int8GraphBuilder(onnx.load(model.path), minmax(model, dozen_photos)).build()
    constant = with_constant_weights(quantised)
    view = GraphView(constant)
    pairs = [node for node in view.nodes if node.op_type == "QuantizeLinear"]
    assert pairs and all(node.input[0] not in view.constants for node in pairs)
    assert len(pairs) < sum(node.op_type == "QuantizeLinear" for node in quantised.graph.node)
    features = (tensors(graph, ["flat:0"], batch)[0] for graph in (quantised, constant))
    assert sqnr_db(*features) > 60, "only ties of the activations may be rounded otherwise"


def test_the_optimizers_are_those_of_the_serialised_graph(model: OnnxModel) -> None:

    proto = onnx.load(model.path)
    dequantize = helper.make_node("DequantizeLinear", ["q", "scale"], ["x"])
    for node in (helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Conv", ["x", "w", "b"], ["y"])):
        graph = helper.make_model(helper.make_graph([dequantize, node], "g", [], []))
        for one_model in (proto, graph):
            nodes = [(one.op_type, tuple(one.input), tuple(one.output)) for one in one_model.graph.node]
            assert unwanted_optimizers_of(nodes) == unwanted_optimizers(one_model.SerializeToString())
