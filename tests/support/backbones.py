"""Networks of backbones: their published weights, photos for them, and their results."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support.photos import make_photo
from trtpoets.train.backbones import BACKBONES, Backbone, DownloadedSource, KerasApplication
from trtpoets.train.networks import Network


def keras_source(backbone: Backbone) -> KerasApplication:
    """The network of keras.applications that `backbone` is; fails if its weights are in the package."""
    assert isinstance(backbone.source, KerasApplication), backbone.name
    return backbone.source


def downloads() -> dict[str, DownloadedSource]:
    """What is downloaded for each backbone that needs it."""
    return {name: row.source for name, row in BACKBONES.items() if isinstance(row.source, DownloadedSource)}


def photos_of(network: Network, count: int = 2) -> np.ndarray:
    wanted = network.backbone.preprocess
    return np.stack([np.array(make_photo(i, i, (wanted.width, wanted.height))) for i in range(count)])


def head_of(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of the 1,000-class layer."""
    assert network.imagenet_head is not None
    return network.imagenet_head


def answers(model: Any, photos: np.ndarray) -> np.ndarray:
    return np.asarray(model(photos, training=False))
