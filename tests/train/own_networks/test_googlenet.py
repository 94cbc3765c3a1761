"""GoogLeNet: torchvision's features, and a graph whose joins have one scale in INT8."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.own_networks import check_parity, classifier_in_onnx, convolutions_in_float
from tests.support.torch_networks import googlenet
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.train.finetune_layers import layers_of
from trtpoets.train.networks import Network


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    reference, output = googlenet()
    return check_parity("googlenet", reference, output, tmp_path_factory.mktemp("googlenet"))


def test_features_are_those_of_torchvision(network: Network) -> None:
    assert network.model.name == "googlenet"  # compared in the fixture


def test_layers_that_can_be_unfrozen(network: Network) -> None:
    layers = layers_of(network)
    assert len(layers) == 57  # 3 of the stem, 6 in each of 9 blocks
    assert {len(layer) for layer in layers} == {3}  # a kernel, the scale and shift of its norm


@pytest.mark.slow  # exports the network
def test_each_join_has_one_scale_in_int8(network: Network, tmp_path: Path) -> None:
    model = classifier_in_onnx(network, tmp_path)
    placement = placement_from_onnx(model)
    joins = [node for node in model.graph.node if node.op_type == "Concat"]
    assert len(joins) == 9
    read = {use.tensor for use in placement.inputs}
    for join in joins:
        groups = [group for group in placement.same_scale if set(join.input) & set(group)]
        assert len(groups) == 1
        assert set(join.input) <= set(groups[0]) | (set(join.input) - read)
    assert convolutions_in_float(model, placement) == set()
