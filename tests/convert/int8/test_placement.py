"""Placement of Q/DQ pairs: which inputs and weights get one, and why other layers stay in floating point."""

import pytest
from onnx import helper

from tests.support.errors import raises
from tests.support.small_networks import Network, residual_network
from trtpoets.convert.int8.placement import Placement, placement_from_onnx
from trtpoets.core.errors import BadArtefact, ConversionFailed


def uses(placement: Placement) -> set[tuple[str, int]]:
    return {(use.node, use.index) for use in placement.inputs}


def test_pairs_on_convolutions_the_residual_input_and_the_last_pool() -> None:
    placement = placement_from_onnx(residual_network())
    convolutions = {"stem", "depthwise", "project", "expand", "back", "top"}
    assert uses(placement) == {(name, 0) for name in convolutions} | {("join", 0), ("pool", 0)}
    assert {(weight.node, weight.axis) for weight in placement.weights} == {(name, 0) for name in convolutions}
    assert placement.same_scale == ()


def test_the_residual_shares_its_tensor_with_the_convolution_that_reads_it() -> None:
    placement = placement_from_onnx(residual_network())
    assert placement.tensors.count("project:0") == 1
    assert "back:0" not in placement.tensors, "no pair between a convolution and the Add that is fused into it"


def test_the_last_layer_stays_in_floating_point_with_a_reason() -> None:
    assert "matrix-vector product" in placement_from_onnx(residual_network()).in_float["head"]


@pytest.mark.parametrize("swapped", [False, True])
def test_the_add_is_fused_into_the_longer_of_two_branches(swapped: bool) -> None:
    net = Network()
    stem = net.unary("Relu", net.conv(net.features, 16, "stem"), "stem_relu")
    short = net.conv(stem, 16, "short", kernel=1)
    long = net.conv(net.unary("Relu", net.conv(stem, 16, "long_1"), "long_relu"), 16, "long_2")
    join = net.add(long, short, "join") if swapped else net.add(short, long, "join")
    placement = placement_from_onnx(net.model(net.unary("Relu", net.conv(join, 16, "top"), "top_relu")))
    assert {use.tensor for use in placement.inputs if use.node == "join"} == {"short:0"}


def test_an_add_whose_inputs_have_other_readers_gets_no_pair() -> None:
    net = Network()
    one = net.conv(net.features, 16, "one")
    two = net.conv(one, 16, "two")
    three = net.add(net.conv(two, 16, "three"), two, "add_three")
    top = net.add(net.unary("Relu", one, "relu"), net.unary("MaxPool", three, "max", kernel_shape=[1, 1]), "join")
    placement = placement_from_onnx(net.model(top))
    assert ("add_three", 1) in uses(placement)
    assert not {use for use in uses(placement) if use[0] == "join"}


def test_a_convolution_kept_in_fp32_gets_no_residual_pair() -> None:
    placement = placement_from_onnx(residual_network(), {"back": "asked for"})
    assert placement.in_float["back"] == "asked for"
    assert not {use for use in uses(placement) if use[0] in {"join", "back"}}


def inception(reader: str) -> Placement:
    net = Network()
    stem = net.unary("Relu", net.conv(net.features, 16, "stem"), "stem_relu")
    first = net.unary("Relu", net.conv(stem, 16, "a"), "a_relu")
    second = net.unary("Relu", net.conv(net.pool("AveragePool", stem, "average"), 16, "b"), "b_relu")
    third = net.pool("MaxPool", stem, "max")
    joined = net.concat([first, second, third], "join")
    if reader == "Sigmoid":
        joined = net.unary("Sigmoid", joined, "gate")
    return placement_from_onnx(net.model(net.unary("Relu", net.conv(joined, 16, "top"), "top_relu")))


def test_concat_and_pools_between_int8_layers_share_one_scale() -> None:
    placement = inception("Conv")
    assert {("join", 0), ("join", 1), ("join", 2), ("average", 0), ("max", 0)} <= uses(placement)
    assert placement.same_scale == (("a_relu:0", "b_relu:0", "max:0", "join:0"),)


def test_a_concat_with_a_floating_point_reader_gets_no_pair() -> None:
    placement = inception("Sigmoid")
    assert placement.same_scale == ()
    assert not {use for use in uses(placement) if use[0] == "join"}


def test_nested_concats_share_one_scale() -> None:
    net = Network()
    a, b, c = (net.unary("Relu", net.conv(net.features, 16, name), f"{name}_relu") for name in "abc")
    joined = net.concat([net.concat([a, b], "inner"), c], "outer")
    placement = placement_from_onnx(net.model(net.conv(joined, 16, "top")))
    assert [set(group) for group in placement.same_scale] == [
        {"a_relu:0", "b_relu:0", "c_relu:0", "inner:0", "outer:0"}
    ]


def test_squeeze_and_excite_stays_in_floating_point() -> None:
    net = Network()
    stem = net.unary("Relu", net.conv(net.features, 32, "stem"), "stem_relu")
    gate = net.unary(
        "Relu", net.conv(net.unary("GlobalAveragePool", stem, "squeeze"), 16, "reduce", kernel=1), "r_relu"
    )
    gate = net.unary("Sigmoid", net.conv(gate, 32, "excite", kernel=1), "gate")
    placement = placement_from_onnx(net.model(net.conv(net.add(stem, gate, "scale_by", "Mul"), 16, "top")))
    assert set(placement.in_float) == {"reduce", "excite", "head"}
    assert "one value per channel" in placement.in_float["reduce"]
    assert uses(placement) == {("stem", 0), ("top", 0), ("pool", 0)}


def test_shapes_unsuited_to_tensor_cores_stay_in_floating_point() -> None:
    net = Network()
    odd = net.conv(net.conv(net.features, 12, "first"), 12, "second")
    grouped = net.conv(net.conv(odd, 16, "third"), 16, "grouped", kernel=1, group=16)
    placement = placement_from_onnx(net.model(net.conv(grouped, 16, "top", kernel=1)))
    assert set(placement.in_float) == {"first", "second", "grouped", "head"}


def test_unsuitable_graphs() -> None:
    net = Network()
    with raises(ConversionFailed, "TP3029"):
        placement_from_onnx(net.model(net.features))
    model = residual_network()
    model.graph.node.append(helper.make_node("QuantizeLinear", ["stem:0", "scale.1"], ["q"], name="q"))
    with raises(BadArtefact, "TP3030", "1"):
        placement_from_onnx(model)
    model = residual_network()
    model.graph.node[0].name = "stem"
    with raises(BadArtefact, "TP3031"):
        placement_from_onnx(model)
