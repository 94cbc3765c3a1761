"""The values of activations on photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from tests.support.activations import activations
from tests.support.errors import raises
from tests.support.small_networks import residual_network, saved
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, calibration_from_photos
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.core.types import OnnxModel, Photo


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_minmax_is_the_range_of_the_tensors(model: OnnxModel, photos: list[Photo], batch_size: int) -> None:
    progress: list[tuple[str, int, int]] = []
    config = CalibrationConfig(method=Method.MINMAX, batch_size=batch_size)
    ranges = calibration_from_photos(model, photos, config, lambda *update: progress.append(update)).by_method[0]
    names = list(ranges.tensors)
    assert "project:0" in names
    assert "stem:0" not in names, "only tensors with a Q/DQ pair are measured"
    for name, array in zip(names, activations(model, photos, names), strict=True):
        assert ranges.tensors[name] == pytest.approx((array.min(), array.max()), abs=1e-5)
    assert ranges.per_class == {"daisy": 4, "rose": 3}
    assert ranges.onnx_sha256 == sha256_of_file(model.path)
    assert progress[0] == ("calibration", 0, 7)
    assert progress[-1] == ("calibration", 7, 7)


def damaged(path: Path, name: str, value: float) -> OnnxModel:
    proto = residual_network()
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            array.flat[0] = value
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    return saved(proto, path / "fp32.onnx")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_named(photos: list[Photo], tmp_path: Path, value: float) -> None:
    with raises(ConversionFailed, "TP3010", "expand.weight"):
        calibration_from_photos(damaged(tmp_path, "expand.weight", value), photos, CalibrationConfig())


def test_a_tensor_that_overflows_is_named(photos: list[Photo], tmp_path: Path) -> None:
    with raises(ConversionFailed, "TP3011"):
        calibration_from_photos(damaged(tmp_path, "project.bias", 3e38), photos, CalibrationConfig())
