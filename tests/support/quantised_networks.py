"""Small networks with ranges, for tests of INT8."""

import numpy as np

from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, Ranges, ranges_from_photos
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import INPUT_NAME, OnnxModel, Photo

ENDS = ["stem", "depthwise", "project", "expand", "back", "top", "head"]


def minmax(model: OnnxModel, photos: list[Photo]) -> Ranges:
    return ranges_from_photos(model, photos, CalibrationConfig(method=Method.MINMAX))[0]


def tensors(proto: object, names: list[str], batch: np.ndarray) -> list[np.ndarray]:
    session = open_session(with_outputs(proto, names).SerializeToString())
    arrays: list[np.ndarray] = session.run(names, {INPUT_NAME: batch})
    return arrays
