"""RegNet: torchvision's features, and convolutions with groups in ONNX and INT8."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.own_networks import check_parity, classifier_in_onnx, convolutions_in_float
from tests.support.torch_networks import regnet
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.train.finetune_layers import layers_of


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("regnet_y_400mf", 85),  # the stem, 4 projections, 5 convolutions in each of 16 blocks
        *(
            pytest.param(name, layers, marks=pytest.mark.slow)
            for name, layers in (("regnet_x_400mf", 71), ("regnet_x_800mf", 53), ("regnet_y_800mf", 75))
        ),
    ],
)
def test_features_are_those_of_torchvision(name: str, layers: int, tmp_path: Path) -> None:
    network = check_parity(name, *regnet(name), tmp_path)
    assert len(layers_of(network)) == layers


@pytest.mark.slow  # exports the network
def test_convolutions_with_groups_become_int8(tmp_path: Path) -> None:
    """Squeeze-and-excitation, one value per channel, stays in floating point."""
    network = check_parity("regnet_y_400mf", *regnet("regnet_y_400mf"), tmp_path)
    model = classifier_in_onnx(network, tmp_path)
    groups = [node for node in model.graph.node if node.op_type == "Conv" and "f.b" in node.name]
    assert len(groups) == 16
    assert all(attribute.i > 1 for node in groups for attribute in node.attribute if attribute.name == "group")
    in_float = convolutions_in_float(model, placement_from_onnx(model))
    assert len(in_float) == 32
    assert all(".se.fc" in name for name in in_float)
