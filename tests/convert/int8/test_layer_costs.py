"""The estimate of how long layers take in INT8 and FP16."""

from dataclasses import replace

import pytest

from tests.support.small_networks import residual_network
from tests.support.topologies import TOPOLOGIES
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.layer_costs import T4, LayerCosts, LayerShape, layer_seconds
from trtpoets.convert.int8.placement import placement_in

SHAPE = LayerShape(work=10_000_000, read=100_000, written=200_000, weights=5_000)


def seconds(shape: LayerShape, width: int) -> float:
    return layer_seconds(shape, T4, width=width, read_width=width, written_width=width)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("size", ["work", "read", "written", "weights"])
def test_more_work_or_more_values_never_take_less_time(size: str, depthwise: bool) -> None:
    for width in (1, 2):
        times = [
            seconds(replace(SHAPE, **{size: getattr(SHAPE, size) * factor}, depthwise=depthwise), width)
            for factor in (1, 3, 30, 3000)
        ]
        assert times == sorted(times) and times[-1] > times[0]


@pytest.mark.parametrize("shape", [SHAPE, replace(SHAPE, work=10**10), replace(SHAPE, depthwise=True)])
def test_int8_is_faster_than_fp16_and_at_most_twice_as_fast(shape: LayerShape) -> None:
    assert seconds(shape, 1) < seconds(shape, 2) < 2 * seconds(shape, 1)


def test_bytes_decide_on_depthwise_layers() -> None:
    depthwise = LayerShape(work=9 * 100_000, read=100_000, written=100_000, weights=9 * 32, depthwise=True)
    assert seconds(depthwise, 2) == seconds(replace(depthwise, work=0), 2)


@pytest.mark.parametrize("layer", ["stem", "depthwise", "project", "expand", "back", "top"])
def test_no_layer_in_fp16_makes_the_network_faster(layer: str) -> None:
    view = GraphView(residual_network())
    costs = LayerCosts(view, replace(T4, kernel=0.0, bandwidth=1e9))
    assert costs.relative(placement_in(view)) < costs.relative(placement_in(view, {layer: "a test"})) < 1.3


@pytest.mark.parametrize(("layer", "conversions"), [("depthwise", 1), ("expand", 2)])
def test_a_layer_in_fp16_between_int8_layers_needs_a_conversion(layer: str, conversions: int) -> None:
    """Of what it writes; and of what it reads, where an INT8 layer reads that too, as the residual Add does."""
    view = GraphView(residual_network())
    gpu = replace(T4, bandwidth=1e30, tensor={1: 1e30, 2: 1e30}, vector={1: 1e30, 2: 1e30})  # only kernels count
    costs = LayerCosts(view, gpu)
    kernels = (costs.seconds(placement_in(view, {layer: "a test"})) - costs.seconds(placement_in(view))) / gpu.kernel
    assert kernels == pytest.approx(conversions)


def test_a_network_with_nothing_in_int8_takes_the_time_of_fp16() -> None:
    view = GraphView(residual_network())
    every = {node.name: "a test" for node in view.weighted()}
    assert LayerCosts(view).relative(placement_in(view, every)) == pytest.approx(1)


@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
def test_every_structure_has_an_estimate(name: str) -> None:
    view = GraphView(TOPOLOGIES[name]())
    assert 0.4 < LayerCosts(view).relative(placement_in(view)) < 2
