"""MobileNetV4: timm's features and names, and its INT8 form."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

from safetensors.numpy import save_file

from tests.support.backbones import answers, photos_of
from tests.support.own_networks import check_parity, classifier_in_onnx, convolutions_in_float
from tests.support.torch_networks import mobilenet_v4
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.train.finetune_layers import layers_of
from trtpoets.train.networks import network_from_backbone


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("mobilenet_v4_conv_small", 46),
        pytest.param("mobilenet_v4_conv_medium", 77, marks=pytest.mark.slow),
    ],
)
def test_features_are_those_of_timm(name: str, layers: int, tmp_path: Path) -> None:
    network = check_parity(name, *mobilenet_v4(name), tmp_path)
    assert len(layers_of(network)) == layers


@pytest.mark.slow  # builds the network twice and exports it
def test_timms_safetensors_load_and_become_int8(tmp_path: Path) -> None:
    reference, output = mobilenet_v4("mobilenet_v4_conv_small")
    network = check_parity("mobilenet_v4_conv_small", reference, output, tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(reference.tensors, path)
    again = network_from_backbone(network.backbone, path)
    photos = photos_of(network)
    assert (answers(again.model, photos) == answers(network.model, photos)).all()
    assert again.imagenet_head is not None
    model = classifier_in_onnx(network, tmp_path)
    # The convolution after the pooling computes a vector for each photo.
    assert convolutions_in_float(model, placement_from_onnx(model)) == {"conv_head/Conv"}
