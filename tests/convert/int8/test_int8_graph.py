"""INT8 versions of a graph from ranges of its tensors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.small_networks import residual_network
from trtpoets.convert.int8.calibration import Method, Ranges
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.core.errors import BadArtefact, ConversionFailed


def ranges() -> Ranges:
    spans = dict.fromkeys(placement_from_onnx(residual_network()).tensors, (-4.0, 4.0))
    return Ranges(Method.MINMAX, spans, (), {}, "")


def test_the_graph_has_the_pairs_of_its_placement() -> None:
    builder = Int8GraphBuilder(residual_network(), ranges())
    model, placement = builder.build()
    assert placement == builder.placement({})
    pairs = sum(node.op_type == "QuantizeLinear" for node in model.graph.node)
    assert pairs == len(placement.tensors) + len(placement.weights)
    assert 0 < builder.share(placement) < 1


def test_the_clipped_graph_has_no_pairs() -> None:
    builder = Int8GraphBuilder(residual_network(), ranges())
    clipped = builder.build_clipped(builder.placement({}))
    kinds = {node.op_type for node in clipped.graph.node}
    assert "Clip" in kinds
    assert "QuantizeLinear" not in kinds


def test_ranges_must_be_there_and_finite() -> None:
    (first, *others) = ranges().tensors
    for tensors, code in (
        (dict.fromkeys(others, (-4.0, 4.0)), "TP3027"),
        ({**ranges().tensors, first: (0.0, float("inf"))}, "TP3028"),
        ({**ranges().tensors, first: (1.0, -1.0)}, "TP3028"),
    ):
        with pytest.raises(BadArtefact) as caught:
            Int8GraphBuilder(residual_network(), replace(ranges(), tensors=tensors))
        assert caught.value.code == code


def test_without_any_layer_there_is_no_graph() -> None:
    builder = Int8GraphBuilder(residual_network(), ranges())
    layers = {weight.node: "asked" for weight in builder.placement({}).weights}
    with pytest.raises(ConversionFailed) as caught:
        builder.build(layers)
    assert caught.value.code == "TP3026"


def test_readers_of_a_tensor_that_is_always_zero_are_named() -> None:
    tensors = {**ranges().tensors, "expand_relu:0": (0.0, 0.0)}
    builder = Int8GraphBuilder(residual_network(), replace(ranges(), tensors=tensors))
    assert builder.always_fp32 == {"back": "expand_relu:0 is 0 for every calibration photo"}
