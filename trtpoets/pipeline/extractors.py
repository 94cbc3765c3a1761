"""Feature extractors: run the frozen base of a network, with ONNX Runtime on the CPU or TensorFlow on the GPU."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.convert.graph.last_layer import base_of, last_layer
from trtpoets.convert.int8.integer_reference import integer_reference
from trtpoets.convert.onnx_export import onnx_from_network
from trtpoets.core.errors import BadInput
from trtpoets.core.files import sha256_of_file
from trtpoets.core.images import usable_cores
from trtpoets.core.onnx_file import check_onnx, open_session
from trtpoets.core.optional import tensorflow, tensorflow_gpus
from trtpoets.core.own_files import require_no_link
from trtpoets.core.paths import cache_root
from trtpoets.core.progress import Progress, silent
from trtpoets.core.reading import read_bytes
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, OnnxModel, Precision, Preprocess, TfliteModel, hash_of
from trtpoets.core.workspace import card_of, open_card, seal_card
from trtpoets.device.gpu.libcuda import detect
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.pipeline.tflite_extractor import features_of_tflite, scores_of_tflite
from trtpoets.train.backbones import BACKBONES
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.downloaded_weights import weights_id
from trtpoets.train.networks import network_from_backbone
from trtpoets.train.weights import EmbeddedWeights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtpoets.core.types import ModelSpec, Photo
    from trtpoets.train.backbones import Backbone
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
    """Runs the base as an ONNX file with ONNX Runtime on the CPU. `output` is the name of the graph's output."""

    def __init__(
        self, model: Path | bytes, key: str, width: int, preprocess: Preprocess, output: str = FEATURES
    ) -> None:
        self.key = key
        self._model, self._output = model, output
        self.width = width
        self.preprocess = preprocess
        # One thread per call and one call per core: calls run in parallel without waiting for each other.
        self.parallel = usable_cores()
        self._session = open_session(model, threads=1)

    def __reduce__(self) -> tuple[type[OnnxExtractor], tuple[bytes, str, int, Preprocess, str]]:
        """Pickle the content of the file instead of its path and the session, for processes on other machines."""
        content = self._model if isinstance(self._model, bytes) else read_bytes(self._model)
        return OnnxExtractor, (content, self.key, self.width, self.preprocess, self._output)

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, width)."""
        return np.asarray(self._session.run([self._output], {INPUT_NAME: photos})[0], dtype=np.float32)


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


def features_of_model(
    model: OnnxModel | TfliteModel, photos: Sequence[Photo], progress: Progress = silent
) -> np.ndarray:
    """Return the input of a graph's last layer for each photo: float32 (N, D).

    They are read from the bottleneck store, and only missing ones are computed; for FP32 they are the bottlenecks of
    the training. INT8 in TensorRT's form is computed in integers (`integer_reference`). Raises ConversionFailed like
    `last_layer`, and like `bottlenecks_from_photos`; for TFLite like `features_of_tflite`.
    """
    if isinstance(model, TfliteModel):
        return features_of_tflite(model, photos, progress)
    spec, proto = model.spec, check_onnx(model.path)
    base = base_of(proto, FEATURES)
    is_fp32 = model.precision is Precision.FP32
    if model.has_pairs:
        base = integer_reference(type(proto).FromString(base)).SerializeToString(deterministic=True)
    key = (
        features_key(spec.backbone, spec.weights_id, spec.preprocess)
        if is_fp32
        else f"{spec.backbone} int8-{hashlib.sha256(base).hexdigest()}"
    )
    extractor = OnnxExtractor(base, key, len(last_layer(proto).weights), spec.preprocess)
    return bottlenecks_from_photos(photos, extractor, bottleneck_folder(), progress=progress)


def scores_of_model(model: OnnxModel | TfliteModel, photos: Sequence[Photo], progress: Progress = silent) -> np.ndarray:
    """Return the scores of a graph for each photo: float32 (N, C), stored like bottlenecks, for graphs without a base.

    Raises like `bottlenecks_from_photos`; for TFLite like `scores_of_tflite`.
    """
    if isinstance(model, TfliteModel):
        return scores_of_tflite(model, photos, progress)
    spec, proto = model.spec, check_onnx(model.path)
    graph: Path | bytes = model.path
    identity = sha256_of_file(model.path)
    if model.has_pairs:
        content: bytes = integer_reference(proto).SerializeToString(deterministic=True)
        graph, identity = content, hashlib.sha256(content).hexdigest()
    key = f"{spec.backbone} scores-{identity}"
    extractor = OnnxExtractor(graph, key, len(spec.labels), spec.preprocess, OUTPUT_NAME)
    return bottlenecks_from_photos(photos, extractor, bottleneck_folder(), progress=progress)


def extractor_from_network(network: Network, device: Device) -> OnnxExtractor | TensorFlowExtractor:
    """Return the extractor for a device; `Device.AUTO` uses the GPU if TensorFlow finds one.

    Raises BadInput for `Device.GPU` if TensorFlow finds no GPU.
    """
    key = extractor_key(network)
    has_gpu = tensorflow_gpus() > 0
    if device is Device.GPU and not has_gpu:
        raise BadInput(
            "TensorFlow finds no GPU on this machine", hint="use --device cpu, or run: trtpoets doctor", code="TP8016"
        )
    if has_gpu and device is not Device.CPU:
        return TensorFlowExtractor(network, key)
    return OnnxExtractor(onnx_in_cache(network), key, network.backbone.feature_width, network.backbone.preprocess)


@dataclass(frozen=True)
class FrozenBase:
    """The frozen base of a network: its extractor, its ONNX file, and the sha256 of its weights."""

    extractor: OnnxExtractor | TensorFlowExtractor
    onnx: Path
    weights_id: str


def extractor_from_backbone(
    backbone: Backbone, weights: Path | None, device: Device
) -> tuple[OnnxExtractor | TensorFlowExtractor, str]:
    """Return the extractor for a device and the sha256 of the weights, which are the network's own or a user's file.

    If the base was exported before, and no GPU may run it, the network is not loaded in TensorFlow. Raises like
    `network_from_backbone` and `extractor_from_network`.
    """
    base = _exported_base(backbone, weights, device)
    if base is not None:
        return base.extractor, base.weights_id
    network = network_from_backbone(backbone, weights)
    return extractor_from_network(network, device), network.weights_id


def frozen_base(backbone: Backbone, weights: Path | None, device: Device) -> FrozenBase:
    """Return what `extractor_from_backbone` returns with the ONNX file of the base, which is exported if necessary."""
    base = _exported_base(backbone, weights, device)
    if base is not None:
        return base
    network = network_from_backbone(backbone, weights)
    return FrozenBase(extractor_from_network(network, device), onnx_in_cache(network), network.weights_id)


def _exported_base(backbone: Backbone, weights: Path | None, device: Device) -> FrozenBase | None:
    """Return the base from the cache; None if it is not there, or if a GPU may run it."""
    if device is Device.GPU or (device is Device.AUTO and detect().gpus):
        return None
    identity = weights_id(backbone, weights)
    key = features_key(backbone.name, identity, backbone.preprocess)
    path, is_exported = _exported(backbone.name, key)
    if not is_exported:
        return None
    return FrozenBase(OnnxExtractor(path, key, backbone.feature_width, backbone.preprocess), path, identity)


def base_in_cache(spec: ModelSpec) -> Path | None:
    """Return the ONNX file of a classifier's base, without its head, that training has written to the cache.

    None if there is none that this user made, or if the graph of the classifier may have other names than its base.
    """
    backbone = BACKBONES.get(spec.backbone)
    if backbone is None or not isinstance(backbone.source, EmbeddedWeights):
        return None
    key = features_key(spec.backbone, spec.weights_id, spec.preprocess)
    path = _path_in_cache(spec.backbone, key)
    return None if open_card(card_of(path), key, own=True) is None else path


def _path_in_cache(backbone: str, key: str) -> Path:
    return cache_root() / "extractors" / f"{key[: len(backbone) + 17]}.onnx"


def _exported(backbone: str, key: str) -> tuple[Path, bool]:
    """Return the path of a base's ONNX file in the cache, and whether it is there. Refuses a cache that is a link."""
    path = _path_in_cache(backbone, key)
    require_no_link(path.parent)
    return path, open_card(card_of(path), key) is not None


def onnx_in_cache(network: Network) -> Path:
    """Return the path of the base's ONNX file, which is exported once per weights and preprocessing."""
    key = extractor_key(network)
    path, is_exported = _exported(network.backbone.name, key)
    if not is_exported:
        onnx_from_network(network.model, path, output_name=FEATURES)
        seal_card(card_of(path), key=key, files=[path], details={"backbone": network.backbone.name})
    return path
