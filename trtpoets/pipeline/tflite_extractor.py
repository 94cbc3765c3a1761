"""Runs TFLite networks, whole or without their last layer, as feature extractors whose results are stored."""

from __future__ import annotations

import hashlib
import os
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.convert.tflite_base import base_of_tflite
from trtpoets.core.images import usable_cores
from trtpoets.core.optional import loaded_interpreter, native_stderr_to, tflite_interpreter
from trtpoets.core.progress import Progress, silent
from trtpoets.core.tflite_file import network_in
from trtpoets.device.tflite_check import require_sound
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.train.bottlenecks import bottlenecks_from_photos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.core.types import Photo, Preprocess, TfliteModel


class TfliteExtractor:
    """Runs a TFLite network of one photo in the TFLite interpreter, one interpreter per core.

    `width` is the number of values that the network returns for a photo. The network must have been tried before
    (`require_sound`).
    """

    def __init__(self, network: bytes, key: str, width: int, preprocess: Preprocess) -> None:
        self.key = key
        self.width = width
        self.preprocess = preprocess
        self.parallel = usable_cores()
        self._free: SimpleQueue[Any] = SimpleQueue()
        with native_stderr_to(os.devnull):  # the interpreter logs its delegate
            for _ in range(self.parallel):
                self._free.put(loaded_interpreter(network, 1))

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, width)."""
        interpreter = self._free.get()  # an interpreter cannot run in two threads at the same time
        try:
            (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
            rows = []
            for number in range(len(photos)):
                interpreter.set_tensor(source["index"], photos[number : number + 1])
                interpreter.invoke()
                rows.append(interpreter.get_tensor(result["index"]))
        finally:
            self._free.put(interpreter)
        return np.concatenate(rows)


def features_of_tflite(model: TfliteModel, photos: Sequence[Photo], progress: Progress = silent) -> np.ndarray:
    """Return the input of a TFLite network's last layer for each photo: float32 (N, D), stored like bottlenecks.

    Raises ConversionFailed like `base_of_tflite`, MissingDependency without an interpreter, BadArtefact for a damaged
    file, and like `bottlenecks_from_photos`.
    """
    base, width = base_of_tflite(_sound_network(model))
    return _stored(model, base, f"tflite features-{hashlib.sha256(base).hexdigest()}", width, photos, progress)


def scores_of_tflite(model: TfliteModel, photos: Sequence[Photo], progress: Progress = silent) -> np.ndarray:
    """Return the scores of a TFLite network for each photo: float32 (N, C), stored like bottlenecks.

    Raises the errors of `features_of_tflite` except ConversionFailed.
    """
    network = _sound_network(model)
    key = f"tflite scores-{hashlib.sha256(network).hexdigest()}"
    return _stored(model, network, key, len(model.spec.labels), photos, progress)


def _sound_network(model: TfliteModel) -> bytes:
    network = network_in(model.path)
    tflite_interpreter()
    require_sound(model.path, network, 1, own_kernels=False)
    return network


def _stored(
    model: TfliteModel, network: bytes, key: str, width: int, photos: Sequence[Photo], progress: Progress
) -> np.ndarray:
    extractor = TfliteExtractor(network, f"{model.spec.backbone} {key}", width, model.spec.preprocess)
    return bottlenecks_from_photos(photos, extractor, bottleneck_folder(), progress=progress)
