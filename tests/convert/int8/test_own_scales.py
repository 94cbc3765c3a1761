"""A file with Q/DQ pairs of its own, with and without them."""

from __future__ import annotations

import numpy as np

from tests.convert.int8.test_int8_graph import ranges
from tests.support.small_networks import residual_network
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.own_scales import has_activation_pairs, without_pairs
from trtpoets.core.onnx_file import open_session


def test_a_network_without_its_pairs_clips_to_their_ranges() -> None:
    builder = Int8GraphBuilder(residual_network(), ranges())
    quantised, placement = builder.build()
    before = quantised.SerializeToString()
    plain = without_pairs(quantised)
    assert has_activation_pairs(quantised)
    assert not has_activation_pairs(plain)
    assert not has_activation_pairs(residual_network())
    assert quantised.SerializeToString() == before
    kinds = [node.op_type for node in plain.graph.node]
    assert "DequantizeLinear" not in kinds
    assert kinds.count("Clip") == len(placement.tensors)
    source = plain.graph.input[0]
    sizes = [size.dim_value or 2 for size in source.type.tensor_type.shape.dim]
    photos = np.random.default_rng(0).integers(0, 256, sizes).astype(np.uint8)
    scores = [
        open_session(model.SerializeToString()).run(None, {source.name: photos})[0] for model in (quantised, plain)
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=0.1)
