"""Range histograms: they describe the tensors' values and contain the clipping limits of the INT8 file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support.small_networks import Network, saved
from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, Ranges, calibration_from_photos
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.range_histograms import BINS, Histogram, histogram_from_counts, worst_layers
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import open_session
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import INPUT_NAME, OnnxModel, Photo


@pytest.fixture(scope="module")
def ranges(model: OnnxModel, photos: list[Photo]) -> Ranges:
    return calibration_from_photos(
        model, photos, CalibrationConfig(method=Method.PERCENTILE, percentile=99.0)
    ).by_method[0]


def test_shares_match_the_values(model: OnnxModel, photos: list[Photo], ranges: Ranges) -> None:
    proto = with_outputs(onnx.load(model.path), ["project:0"])
    (batch,) = photo_batches([photo.path for photo in photos], model.spec.preprocess, 100)
    (array,) = open_session(proto.SerializeToString()).run(["project:0"], {INPUT_NAME: batch})
    histogram = ranges.histograms["project:0"]
    assert histogram.top == pytest.approx(float(np.abs(array).max()), rel=1e-5)
    expected, _ = np.histogram(np.abs(array), bins=BINS, range=(0, histogram.top))
    np.testing.assert_allclose(histogram.shares, expected / array.size, atol=3 / array.size)
    assert sum(histogram.shares) == pytest.approx(1.0, abs=1e-3)
    assert list(ranges.histograms) == list(ranges.tensors)


def test_rare_values_are_kept_and_no_values_give_zero_shares() -> None:
    counts = np.zeros(2048, np.int64)
    counts[0], counts[-1] = 10**9, 1
    assert histogram_from_counts(counts, 3.0) == Histogram(3.0, (1.0, *[0.0] * 62, 1e-9))
    assert set(histogram_from_counts(counts * 0, 3.0).shares) == {0.0}


def test_histograms_are_saved_with_the_ranges_but_not_part_of_their_hash(ranges: Ranges) -> None:
    again = from_json(Ranges, json.loads(json.dumps(to_json(ranges))), "ranges.json")
    assert again.histograms == ranges.histograms
    bare = replace(ranges, histograms={})
    assert bare.hash == ranges.hash
    older = {name: value for name, value in to_json(ranges).items() if name != "histograms"}
    assert from_json(Ranges, older, "ranges.json") == bare


def test_minmax_measures_no_histograms(model: OnnxModel, photos: list[Photo]) -> None:
    assert calibration_from_photos(model, photos, CalibrationConfig(method=Method.MINMAX)).by_method[0].histograms == {}


def test_worst_layers_are_int8_layers_with_the_clipping_limit_of_the_file(model: OnnxModel, ranges: Ranges) -> None:
    quantised, _ = Int8GraphBuilder(onnx.load(model.path), ranges).build({"expand": "a test"})
    decibels = {
        "stem": 40.0,
        "depthwise": 30.0,
        "project": 20.0,
        "expand": 10.0,
        "back": 25.0,
        "top": 200.0,
        "head": 5.0,
        "gone": 1.0,
    }
    result = worst_layers(quantised, ranges.histograms, decibels)
    # `expand` and `head` are in float, `top` lost nothing, and `gone` is not a layer of this graph.
    assert [(worst_layer.layer, worst_layer.db, worst_layer.tensor) for worst_layer in result] == [
        ("project", 20.0, "depthwise_relu:0"),
        ("back", 25.0, "expand_relu:0"),
        ("depthwise", 30.0, "stem_relu:0"),
        ("stem", 40.0, "nchw:0"),
    ]
    for worst_layer in result:
        low, high = ranges.tensors[worst_layer.tensor]
        assert worst_layer.limit == pytest.approx(max(-low, high), rel=1e-6)
        assert (worst_layer.top, worst_layer.shares) == (
            ranges.histograms[worst_layer.tensor].top,
            ranges.histograms[worst_layer.tensor].shares,
        )
    assert [worst_layer.layer for worst_layer in worst_layers(quantised, ranges.histograms, decibels, most=2)] == [
        "project",
        "back",
    ]
    assert worst_layers(quantised, {}, decibels) == ()


def test_a_tensor_with_two_readers_is_listed_once(photos: list[Photo], tmp_path: Path) -> None:
    net = Network()
    stem = net.unary("Relu", net.conv(net.features, 16, "stem", stride=2), "stem_relu")
    joined = net.concat([net.conv(stem, 16, "left"), net.conv(stem, 16, "right", kernel=1)], "joined")
    model = saved(net.model(net.conv(joined, 16, "top", kernel=1)), tmp_path / "fp32.onnx")
    ranges = calibration_from_photos(model, photos, CalibrationConfig(method=Method.MSE)).by_method[0]
    quantised, _ = Int8GraphBuilder(onnx.load(model.path), ranges).build()
    result = worst_layers(quantised, ranges.histograms, {"stem": 30.0, "left": 21.0, "right": 20.0, "top": 25.0})
    assert [(item.layer, item.tensor) for item in result] == [
        ("right", "stem_relu:0"),
        ("top", "joined:0"),
        ("stem", "nchw:0"),
    ]
