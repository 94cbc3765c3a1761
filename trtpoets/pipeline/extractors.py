"""The frozen base as a function from photos to features: ONNX Runtime on a CPU, TensorFlow on a GPU."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.convert.onnx_export import onnx_from_network
from trtpoets.core.errors import BadInput
from trtpoets.core.images import usable_cores
from trtpoets.core.onnx_file import open_session
from trtpoets.core.optional import tensorflow
from trtpoets.core.own_files import require_no_link
from trtpoets.core.paths import cache_root
from trtpoets.core.types import INPUT_NAME, Preprocess, hash_of
from trtpoets.core.workspace import card_of, open_card, seal_card

if TYPE_CHECKING:
    from pathlib import Path

    from trtpoets.train.networks import Network

_VERSION = 1
"""Raise it when the exported base may give other features than before."""

FEATURES = "features"


class Device(str, Enum):
    """Where the base runs."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


class OnnxExtractor:
    """The base's ONNX through ONNX Runtime on the CPU."""

    def __init__(self, model: Path | bytes, key: str, width: int, preprocess: Preprocess) -> None:
        self.key = key
        self.width = width
        self.preprocess = preprocess
        # One core a call, and a call a core: two calls on two cores don't wait for each other's operators.
        self.parallel = usable_cores()
        self._session = open_session(model, threads=1)

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, width)."""
        return np.asarray(self._session.run([FEATURES], {INPUT_NAME: photos})[0], dtype=np.float32)


class TensorFlowExtractor:
    """The base as a compiled TensorFlow function, on the GPU where there is one."""

    def __init__(self, network: Network, key: str) -> None:
        tf = tensorflow()
        self.key = key
        self.width = network.backbone.feature_width
        self.preprocess = network.backbone.preprocess
        self.parallel = 1
        self._function: Any = tf.function(lambda photos: network.model(photos, training=False))

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, width)."""
        return np.asarray(self._function(photos), dtype=np.float32)


def extractor_key(network: Network) -> str:
    """What features depend on besides the photo: the weights and the preprocessing. The same on CPU and GPU."""
    return features_key(network.backbone.name, network.weights_id, network.backbone.preprocess)


def features_key(backbone: str, weights_id: str, preprocess: Preprocess) -> str:
    """`extractor_key` of a network that is known by what its classifier says of it: its name, then a hash."""
    return f"{backbone}-{hash_of([_VERSION, weights_id, preprocess.hash])}"


def extractor_from_network(network: Network, device: Device) -> OnnxExtractor | TensorFlowExtractor:
    """The extractor for a device; `Device.AUTO` takes the GPU when TensorFlow sees one.

    Raises BadInput when a GPU is asked for and TensorFlow sees none.
    """
    key = extractor_key(network)
    has_gpu = bool(tensorflow().config.list_physical_devices("GPU"))
    if device is Device.GPU and not has_gpu:
        raise BadInput("TensorFlow sees no GPU here", hint="use --device cpu, or see: trtpoets doctor", code="TP8016")
    if has_gpu and device is not Device.CPU:
        return TensorFlowExtractor(network, key)
    return OnnxExtractor(_onnx_in_cache(network, key), key, network.backbone.feature_width, network.backbone.preprocess)


def _onnx_in_cache(network: Network, key: str) -> Path:
    """The base's ONNX file, exported once per weights and preprocessing."""
    path = cache_root() / "extractors" / f"{key[: len(network.backbone.name) + 17]}.onnx"
    require_no_link(path.parent)
    if open_card(card_of(path), key) is None:
        onnx_from_network(network.model, path, output_name=FEATURES)
        seal_card(card_of(path), key=key, files=[path], details={"backbone": network.backbone.name})
    return path
