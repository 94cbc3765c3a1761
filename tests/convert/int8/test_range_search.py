"""Ranges are searched by their effect on the features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

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


def test_a_tensor_may_have_the_photos_of_a_part_of_a_fixed_batch(dozen_photos: list[Photo], tmp_path: Path) -> None:
    proto = residual_network()
    graph = proto.graph
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    nodes = list(graph.node)
    place = next(number for number, node in enumerate(nodes) if "expand_relu:0" in node.input)
    for node in nodes[place:]:
        node.input[:] = ["joined:0" if name == "expand_relu:0" else name for name in node.input]
    halves = [
        helper.make_node("Split", ["expand_relu:0", "halves"], ["first:0", "second:0"], name="split", axis=0),
        helper.make_node("Max", ["first:0", "zero"], ["first_max:0"], name="first_max"),
        helper.make_node("Max", ["second:0", "zero"], ["second_max:0"], name="second_max"),
        helper.make_node("Concat", ["first_max:0", "second_max:0"], ["joined:0"], name="joined", axis=0),
    ]
    del graph.node[:]
    graph.node.extend([*nodes[:place], *halves, *nodes[place:]])
    graph.initializer.extend(
        [numpy_helper.from_array(np.array([2, 2]), "halves"), numpy_helper.from_array(np.float32(0), "zero")]
    )
    model = saved(proto, tmp_path / "fp32.onnx")
    calibration = calibration_from_photos(model, dozen_photos, CalibrationConfig(method=Method.AUTO))
    searched = search_ranges(model, calibration, dozen_photos)[0].tensors
    assert searched["second_max:0"][1] > 0
