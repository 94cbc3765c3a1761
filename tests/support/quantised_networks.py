"""Small networks with ranges, for tests of INT8."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, Ranges, calibration_from_photos
from trtpoets.convert.int8.grid import SYMMETRIC
from trtpoets.convert.int8.placement import Placement
from trtpoets.convert.int8.qdq import with_qdq
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import INPUT_NAME, OnnxModel, Photo

ENDS = ["stem", "depthwise", "project", "expand", "back", "top", "head"]


def minmax(model: OnnxModel, photos: list[Photo]) -> Ranges:
    return calibration_from_photos(model, photos, CalibrationConfig(method=Method.MINMAX)).by_method[0]


def tensors(proto: object, names: list[str], batch: np.ndarray) -> list[np.ndarray]:
    session = open_session(with_outputs(proto, names).SerializeToString())
    arrays: list[np.ndarray] = session.run(names, {INPUT_NAME: batch})
    return arrays


def with_pairs(model: Any, placement: Placement, magnitudes: Mapping[str, float]) -> Any:
    """Return a network in TensorRT's form, with the given largest magnitude of each tensor."""
    return with_qdq(model, placement, {name: SYMMETRIC.quantiser(-top, top) for name, top in magnitudes.items()})
