"""The forms of INT8: which tensors get a range, and which share a scale."""

from __future__ import annotations

import pytest

from tests.support.small_networks import residual_network
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.forms import CPU, TENSORRT, TFLITE, Arithmetic
from trtpoets.convert.int8.placement import LEVELS


@pytest.mark.parametrize("form", [TENSORRT, CPU, TFLITE], ids=["tensorrt", "cpu", "tflite"])
def test_tensors_with_one_scale_have_one_range(form: Arithmetic) -> None:
    placement = form.place(GraphView(form.prepared_from_onnx(residual_network())), {}, ())
    ranges = {name: (-1.0 - index, 2.0 + index) for index, name in enumerate(placement.tensors)}
    spans = form.spans(placement, ranges)
    assert set(spans) == set(placement.tensors)
    for group in placement.same_scale:
        assert len({spans[name] for name in group if name in spans}) == 1
        if form.by_source and group[0] in spans:
            assert spans[group[0]] == ranges[group[0]]
    searched = form.searched(placement)
    assert set(searched) <= set(placement.tensors)
    assert form.by_source or searched == placement.tensors


def test_only_the_cpu_form_is_named_in_its_file() -> None:
    assert CPU.metadata
    assert TENSORRT.metadata == TFLITE.metadata == {}


def test_tflite_has_weights_of_8_bits() -> None:
    placement = TFLITE.place(GraphView(residual_network()), {}, ())
    assert placement.weights
    assert {weight.levels for weight in placement.weights} == {LEVELS}
