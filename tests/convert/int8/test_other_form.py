"""The ranges of TensorRT's form, used for the CPU form: nothing is measured twice, and they are as good as own ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from tests.support.photos import photo_folder
from tests.support.small_networks import LABELS, residual_network, saved, spec
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8 import other_form
from trtpoets.convert.int8.calibration import (
    CalibrationConfig,
    Method,
    Ranges,
    calibration_from_photos,
    calibration_photos,
)
from trtpoets.convert.int8.forms import CPU, TENSORRT
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.other_form import ranges_for_form, tensors_of_form
from trtpoets.convert.int8.placement import Placement
from trtpoets.convert.int8.quantize_int8 import best_ranges, chosen_ranges
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.types import OnnxModel, Photo, Precision, Split
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder

MODEL = residual_network()
PREPROCESS = spec().preprocess


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Photo, ...]:
    folder = photo_folder(tmp_path_factory.mktemp("photos") / "photos", dict.fromkeys(LABELS, 40), size=(40, 40))
    return tuple(dataset_from_folder(folder, DatasetConfig(20, 10)).photos)


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return saved(MODEL, tmp_path_factory.mktemp("model") / "fp32.onnx", Precision.FP32)


@pytest.fixture(scope="module")
def ranges(fp32: OnnxModel, photos: tuple[Photo, ...]) -> tuple[Ranges, Ranges]:
    """Those of TensorRT's form, with and without the tensors that only the CPU form needs."""
    config = CalibrationConfig(photos=16, method=Method.MINMAX)
    chosen = calibration_photos(photos, config)
    (without,) = calibration_from_photos(fp32, chosen, config).by_method
    (with_others,) = calibration_from_photos(fp32, chosen, config, also=tensors_of_form(MODEL, CPU)).by_method
    return without, with_others


def test_the_cpu_form_needs_more_tensors(ranges: tuple[Ranges, Ranges]) -> None:
    without, with_others = ranges
    needed = CPU.place(GraphView(CPU.prepared_from_onnx(MODEL)), {}, ()).tensors
    assert not set(needed) <= set(without.tensors)
    assert set(needed) <= set(with_others.tensors)
    assert without.tensors.items() <= with_others.tensors.items(), "the others are as before"


def test_measured_ranges_are_not_measured_again(
    ranges: tuple[Ranges, Ranges], photos: tuple[Photo, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    without, with_others = ranges
    chosen = [photo for photo in photos if photo.sha256 in without.photos]
    measured = ranges_for_form(MODEL, CPU, without, chosen, PREPROCESS)
    for name, span in measured.tensors.items():
        assert span == pytest.approx(with_others.tensors[name], rel=1e-5, abs=1e-6)
    monkeypatch.setattr(other_form, "activation_ranges", lambda *arguments: pytest.fail("measured again"))
    assert ranges_for_form(MODEL, CPU, with_others, chosen, PREPROCESS) == with_others


def test_shared_ranges_are_as_good_as_own_ones(
    fp32: OnnxModel, ranges: tuple[Ranges, Ranges], photos: tuple[Photo, ...]
) -> None:
    config = CalibrationConfig(photos=16, method=Method.MINMAX)
    chosen = calibration_photos(photos, config)
    judged = [photo for photo in photos if photo.split is Split.VALIDATION]
    int8 = Int8Evaluator(fp32, chosen, judged, Int8Config(judged_photos=4))
    int8.fidelity(int8.builder(ranges[0]).build()[0])
    evaluator = int8.of_form(CPU, int8.config)
    assert evaluator.arithmetic is CPU
    assert "_fp32_outputs" in vars(evaluator), "the FP32 network does not run again"
    version = evaluator.builder(ranges[1]).build()
    rounded = evaluator.gptq_weights(*version)
    again = evaluator.of_form(CPU, replace(int8.config, max_float_layers=0)).gptq_weights(*version)
    assert again is rounded, "nothing is rounded twice"
    (own,) = calibration_from_photos(fp32, chosen, config, arithmetic=CPU).by_method
    shared = ranges_for_form(MODEL, CPU, ranges[1], chosen, PREPROCESS)
    by_origin = {
        origin: best_ranges(evaluator, [item])[1]["minmax"] for origin, item in (("own", own), ("shared", shared))
    }
    assert by_origin["shared"].features_db == pytest.approx(by_origin["own"].features_db, abs=0.5)
    assert np.isfinite(by_origin["own"].features_db)
    assert TENSORRT.prepared_from_onnx(MODEL) is MODEL


def test_tensors_of_the_cpu_form_alone_are_searched(photos: tuple[Photo, ...], tmp_path: Path) -> None:
    proto = residual_network()
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, channel, value in (("back.bias", (0,), 90.0), ("top.weight", (slice(None), 0), 0.0)):
        array = numpy_helper.to_array(constants[name]).copy()
        array[channel] = value  # a huge channel that nothing reads
        constants[name].CopyFrom(numpy_helper.from_array(array, name))
    model = saved(proto, tmp_path / "fp32.onnx")
    chosen = list(photos[:16])
    evaluator = Int8Evaluator(model, chosen, chosen, Int8Config(judged_photos=4))
    plain = chosen_ranges(evaluator, chosen, CalibrationConfig(method=Method.MINMAX), other_form=CPU)
    searched = chosen_ranges(evaluator, chosen, CalibrationConfig(method=Method.FEATURES), other_form=CPU)
    assert plain.tensors["back:0"][1] > 80, "min-max asks for no search"
    assert searched.tensors["back:0"][1] < 0.5 * plain.tensors["back:0"][1]
    without = chosen_ranges(evaluator, chosen, CalibrationConfig(method=Method.FEATURES))
    assert "back:0" not in without.tensors
    for name, span in without.tensors.items():
        assert span == pytest.approx(searched.tensors[name], rel=1e-5), "int8.onnx is as before"


def test_a_network_without_that_form_needs_no_more_tensors() -> None:
    def impossible(view: GraphView, keep: object, without: object) -> Placement:
        raise ConversionFailed("no layer", code="TP3200")

    assert tensors_of_form(MODEL, replace(CPU, place=impossible)) == ()
