"""Biases that compensate the rounding of weights."""

import numpy as np
import onnx

from tests.support.quantised_networks import ENDS, minmax, tensors
from tests.support.small_networks import residual_network
from trtpoets.convert.int8.bias_correction import bias_shifts, reference_from_onnx, with_shifted_biases
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.segments import SegmentRunner
from trtpoets.core.types import OnnxModel, Photo


def test_bias_correction_compensates_the_rounding_of_weights(
    model: OnnxModel, dozen_photos: list[Photo], batch: np.ndarray
) -> None:
    proto = onnx.load(model.path)
    builder = Int8GraphBuilder(proto, minmax(model, dozen_photos))
    quantised, placement = builder.build()
    clipped = builder.build_clipped(placement)
    reference = reference_from_onnx(proto, batch)
    shifts = bias_shifts(quantised, clipped, reference, batch, SegmentRunner())
    assert set(shifts) == set(ENDS) - {"head"}, "the head's weights are not rounded"
    corrected = with_shifted_biases(quantised, shifts)
    assert max(np.abs(shift).max() for shift in shifts.values()) > 1e-3
    # Measured again with the corrected biases, on the same INT8 inputs, no mean is shifted any more.
    left = bias_shifts(corrected, clipped, reference, batch, SegmentRunner())
    assert max(np.abs(shift).max() for shift in left.values()) < 1e-4


def test_one_run_gives_the_shifts_of_a_run_layer_by_layer(
    model: OnnxModel, dozen_photos: list[Photo], batch: np.ndarray
) -> None:
    by_batch = []
    for size in (None, len(batch)):  # a network with a fixed batch runs layer by layer
        proto = onnx.load(model.path)
        if size:
            proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
        builder = Int8GraphBuilder(proto, minmax(model, dozen_photos))
        quantised, placement = builder.build()
        reference = reference_from_onnx(proto, batch)
        by_batch.append(bias_shifts(quantised, builder.build_clipped(placement), reference, batch, SegmentRunner()))
    assert list(by_batch[0]) == list(by_batch[1])
    for name, shift in by_batch[0].items():
        np.testing.assert_allclose(shift, by_batch[1][name], atol=1e-5)


def test_a_convolution_without_bias_gets_one(dozen_photos: list[Photo], batch: np.ndarray) -> None:
    proto = residual_network()
    for node in proto.graph.node:
        if node.name in ("stem", "project"):
            del node.input[2:]
    shift = np.arange(16, dtype=np.float32)
    shifted = with_shifted_biases(proto, {"stem": shift})
    before, after = (tensors(graph, ["stem:0"], batch)[0] for graph in (proto, shifted))
    np.testing.assert_allclose(after - before, np.broadcast_to(shift[:, None, None], before.shape), atol=1e-4)
    onnx.checker.check_model(shifted, full_check=True)
