"""Feature extractors: run the frozen base of a network, with ONNX Runtime on the CPU or TensorFlow on the GPU."""

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
"""Increase it when the same base may give other features than before."""

FEATURES = "features"


class Device(str, Enum):
    """The device that runs the base."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


class OnnxExtractor:
    """Runs the base as an ONNX file with ONNX Runtime on the CPU."""

    def __init__(self, model: Path | bytes, key: str, width: int, preprocess: Preprocess) -> None:
        self.key = key
        self.width = width
        self.preprocess = preprocess
        # One thread per call and one call per core: calls run in parallel without waiting for each other.
        self.parallel = usable_cores()
        self._session = open_session(model, threads=1)

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, width)."""
        return np.asarray(self._session.run([FEATURES], {INPUT_NAME: photos})[0], dtype=np.float32)


class TensorFlowExtractor:
    """Runs the base as a compiled TensorFlow function, on the GPU if there is one."""

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
    """Return the cache key of features: backbone, weights and preprocessing. It is the same for CPU and GPU."""
    return features_key(network.backbone.name, network.weights_id, network.backbone.preprocess)


def features_key(backbone: str, weights_id: str, preprocess: Preprocess) -> str:
    """Return the same key as `extractor_key`, from the fields of a ModelSpec: the backbone's name and a hash."""
    return f"{backbone}-{hash_of([_VERSION, weights_id, preprocess.hash])}"


def extractor_from_network(network: Network, device: Device) -> OnnxExtractor | TensorFlowExtractor:
    """Return the extractor for a device; `Device.AUTO` uses the GPU if TensorFlow finds one.

    Raises BadInput for `Device.GPU` if TensorFlow finds no GPU.
    """
    key = extractor_key(network)
    has_gpu = bool(tensorflow().config.list_physical_devices("GPU"))
    if device is Device.GPU and not has_gpu:
        raise BadInput(
            "TensorFlow finds no GPU on this machine", hint="use --device cpu, or run: trtpoets doctor", code="TP8016"
        )
    if has_gpu and device is not Device.CPU:
        return TensorFlowExtractor(network, key)
    return OnnxExtractor(_onnx_in_cache(network, key), key, network.backbone.feature_width, network.backbone.preprocess)


def _onnx_in_cache(network: Network, key: str) -> Path:
    """Return the path of the base's ONNX file, which is exported once per weights and preprocessing."""
    path = cache_root() / "extractors" / f"{key[: len(network.backbone.name) + 17]}.onnx"
    require_no_link(path.parent)
    if open_card(card_of(path), key) is None:
        onnx_from_network(network.model, path, output_name=FEATURES)
        seal_card(card_of(path), key=key, files=[path], details={"backbone": network.backbone.name})
    return path
