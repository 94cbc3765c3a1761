"""Ranges are searched by their effect on the features."""

from __future__ import annotations

from pathlib import Path

from onnx import numpy_helper

from tests.support.small_networks import residual_network, saved
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, calibration_from_photos
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.quantize_int8 import best_ranges
from trtpoets.convert.int8.range_search import search_ranges
from trtpoets.core.types import Photo


def test_range_search_ignores_values_without_effect_on_the_features(dozen_photos: list[Photo], tmp_path: Path) -> None:
    proto = residual_network()
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}

    def change(name: str, channel: tuple[object, ...], value: float) -> None:
        array = numpy_helper.to_array(constants[name]).copy()
        array[channel] = value
        constants[name].CopyFrom(numpy_helper.from_array(array, name))

    change("expand.bias", (0,), 60.0)  # a huge channel,
    change("back.weight", (slice(None), 0), 0.0)  # that nothing reads
    model = saved(proto, tmp_path / "fp32.onnx")
    calibration = calibration_from_photos(model, dozen_photos, CalibrationConfig(method=Method.AUTO))
    candidates = calibration.by_method
    assert [ranges.method.value for ranges in candidates] == ["minmax", "entropy", "percentile", "mse"]
    (searched,) = search_ranges(model, calibration, dozen_photos)
    assert searched.method is Method.FEATURES
    assert candidates[0].tensors["expand_relu:0"][1] > 50
    assert searched.tensors["expand_relu:0"][1] < 0.5 * candidates[0].tensors["expand_relu:0"][1]
    best, trials = best_ranges(Int8Evaluator(model, dozen_photos, dozen_photos), [candidates[0], searched])
    assert best is searched
    assert trials["features"].features_db > trials["minmax"].features_db
