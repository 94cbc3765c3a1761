"""A network that is run layer by layer."""

import numpy as np
import onnx
from onnx import helper

from tests.support.quantised_networks import ENDS, tensors
from trtpoets.convert.int8.segments import LiveTensors, SegmentRunner, joined, session_of, split_model
from trtpoets.core.onnx_file import unwanted_optimizers, unwanted_optimizers_of
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, OnnxModel


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


def test_the_optimizers_are_those_of_the_serialised_graph(model: OnnxModel) -> None:

    proto = onnx.load(model.path)
    dequantize = helper.make_node("DequantizeLinear", ["q", "scale"], ["x"])
    for node in (helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Conv", ["x", "w", "b"], ["y"])):
        graph = helper.make_model(helper.make_graph([dequantize, node], "g", [], []))
        for one_model in (proto, graph):
            nodes = [(one.op_type, tuple(one.input), tuple(one.output)) for one in one_model.graph.node]
            assert unwanted_optimizers_of(nodes) == unwanted_optimizers(one_model.SerializeToString())
