"""The values of activations on photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from tests.support.activations import activations
from tests.support.errors import raises
from tests.support.small_networks import residual_network, saved
from tests.support.topologies import mobilenet_v3
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.activation_stats import _range_maps, activation_ranges
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, calibration_from_photos
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.core.onnx_file import check_onnx
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


def test_ranges_that_follow_from_others_are_those_of_the_tensors(photos: list[Photo], tmp_path: Path) -> None:
    model = saved(mobilenet_v3(clipped=True), tmp_path / "fp32.onnx")
    proto = check_onnx(model.path)
    view = GraphView(proto)
    names = [name for node in view.nodes for name in node.output if view.is_float(name)]
    followed = _range_maps(view, names)
    assert {view.producer[name].op_type for name in followed} >= {"Relu", "Clip", "Flatten"}
    ranges = activation_ranges(proto, names, photos, model.spec.preprocess, 4, lambda done: None)
    assert list(ranges) == names
    for name, array in zip(names, activations(model, photos, names), strict=True):
        assert ranges[name] == pytest.approx((array.min(), array.max()), abs=1e-5), name
    assert not _range_maps(view, list(followed)[:1]), "its input is not measured"
