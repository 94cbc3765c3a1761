"""The networks of inverted residuals: their shapes, and Lite1 and Lite2 compared with the publisher's in PyTorch."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from tests.support.backbones import answers, photos_of
from trtpoets.train.backbones import backbone_named
from trtpoets.train.networks import network_from_backbone
from trtpoets.train.own_networks.inverted_residuals import (
    EFFICIENTNET_LITE0,
    EFFICIENTNET_LITE1,
    EFFICIENTNET_LITE2,
    MOBILENET_V2,
    Description,
)
from trtpoets.train.packaged_weights import PackagedWeights, packaged_content


@pytest.mark.parametrize(
    ("description", "blocks"),
    [(EFFICIENTNET_LITE0, 16), (EFFICIENTNET_LITE1, 21), (EFFICIENTNET_LITE2, 21), (MOBILENET_V2, 17)],
)
def test_blocks(description: Description, blocks: int) -> None:
    assert sum(stage.repeats for stage in description.stages) == blocks
    assert all(stage.width % 8 == 0 for stage in description.stages)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite1", "efficientnet_lite2"])
def test_features_are_those_of_the_publisher(name: str) -> None:
    """With the published weights, to 1e-4 of the largest feature. Needs PyTorch and two packages of the publisher."""
    torch = pytest.importorskip("torch")
    publisher = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    source = backbone_named(name).source
    assert isinstance(source, PackagedWeights)
    if find_spec(source.module) is None:
        pytest.skip(f"needs {source.distribution}")
    network = network_from_backbone(backbone_named(name))
    reference = publisher.from_name(name.replace("_", "-"))
    reference.load_state_dict(torch.load(packaged_content(source)[0], weights_only=True))
    photos = photos_of(network)
    scaled = (photos.astype(np.float32) - 127) / 128
    with torch.no_grad():
        expected = reference.eval().extract_features(torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy()))
    expected = expected.mean((2, 3)).numpy()
    assert np.abs(answers(network.model, photos) - expected).max() < 1e-4 * np.abs(expected).max()
