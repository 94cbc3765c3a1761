"""A network that is run layer by layer."""

import numpy as np
import onnx

from tests.support.quantised_networks import ENDS, tensors
from trtpoets.convert.int8.segments import LiveTensors, SegmentRunner, split_model
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
