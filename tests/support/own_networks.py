"""Networks of `trtpoets.train.own_networks` with random weights, compared with PyTorch's definitions, and in ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from tests.support.backbones import answers, head_of, photos_of
from tests.support.torch_files import zip_file
from tests.support.torch_networks import TorchNetwork
from trtpoets.convert.int8.placement import Placement
from trtpoets.convert.onnx_export import onnx_from_network
from trtpoets.core.optional import tensorflow
from trtpoets.core.types import OUTPUT_NAME
from trtpoets.train.backbones import backbone_named
from trtpoets.train.networks import Network, network_from_backbone


def with_weights_of(name: str, reference: TorchNetwork, folder: Path) -> Network:
    """The backbone with the weights of a reference, loaded from a file of PyTorch."""
    path = folder / f"{name}.pth"
    path.write_bytes(zip_file(reference.tensors))
    return network_from_backbone(backbone_named(name), path)


def check_parity(name: str, reference: TorchNetwork, output: str, folder: Path) -> Network:
    """The features and the 1,000-class layer are those of the reference, to 1e-4 of the largest feature."""
    network = with_weights_of(name, reference, folder)
    photos = photos_of(network)
    wanted = network.backbone.preprocess
    scale, offset = np.array(wanted.scale, np.float32), np.array(wanted.offset, np.float32)
    expected = reference.run(output, photos * scale + offset)
    features = answers(network.model, photos)
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * np.abs(expected).max()  # they depend on the photo
    assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()
    kernel, bias = head_of(network)
    assert kernel.shape == (network.backbone.feature_width, 1000)
    assert bias.shape == (1000,)
    return network


def classifier_in_onnx(network: Network, folder: Path, labels: int = 3) -> onnx.ModelProto:
    """A classifier with this backbone and a random last layer, exported as trtpoets exports its own."""
    keras = tensorflow().keras
    scores = keras.layers.Dense(labels, activation="softmax", name="head")(network.model.output)
    path = folder / "classifier.onnx"
    onnx_from_network(keras.Model(network.model.input, scores), path, output_name=OUTPUT_NAME)
    return onnx.load(path)


def convolutions_in_float(model: onnx.ModelProto, placement: Placement) -> set[str]:
    """The convolutions that stay in floating point; all others have INT8 weights."""
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv"}
    quantised = {weight.node for weight in placement.weights} & convolutions
    assert len(convolutions) > 40
    assert quantised | set(placement.in_float) >= convolutions
    return convolutions - quantised
