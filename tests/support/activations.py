"""Activations of a network on photos."""

import numpy as np
import onnx

from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import INPUT_NAME, OnnxModel, Photo


def activations(model: OnnxModel, photos: list[Photo], names: list[str]) -> list[np.ndarray]:
    proto = onnx.load(model.path)
    for name in names:
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    (batch,) = photo_batches([photo.path for photo in photos], model.spec.preprocess, 100)
    arrays: list[np.ndarray] = open_session(proto.SerializeToString()).run(names, {INPUT_NAME: batch})
    return arrays
