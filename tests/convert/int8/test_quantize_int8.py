"""INT8 quantisation compared with FP32: fidelity, segments, corrections, range search and sensitivity analysis."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support.photos import photo_folder
from tests.support.small_networks import Network, photos_in, residual_network, saved
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.convert.int8.bias_correction import bias_shifts, layer_sqnr, reference_from_onnx, with_shifted_biases
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, Ranges, ranges_from_photos
from trtpoets.convert.int8.fidelity import HIGHEST_DB, features_of, fidelity_from_outputs, outputs_from_onnx, sqnr_db
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.quantize_int8 import best_ranges, int8_from_onnx
from trtpoets.convert.int8.range_search import search_ranges
from trtpoets.convert.int8.segments import LiveTensors, SegmentRunner, split_model
from trtpoets.convert.int8.sensitivity import SearchLimits
from trtpoets.core.errors import BadInput
from trtpoets.core.images import photo_batches
from trtpoets.core.network_notes import Fidelity
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, OnnxModel, Photo

ENDS = ["stem", "depthwise", "project", "expand", "back", "top", "head"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return photos_in(photo_folder(tmp_path_factory.mktemp("photos"), {"daisy": 6, "rose": 6}))


@pytest.fixture(scope="module")
def batch(model: OnnxModel, photos: list[Photo]) -> np.ndarray:
    return next(photo_batches([photo.path for photo in photos], model.spec.preprocess, len(photos)))


def minmax(model: OnnxModel, photos: list[Photo]) -> Ranges:
    return ranges_from_photos(model, photos, CalibrationConfig(method=Method.MINMAX))[0]


def tensors(proto: object, names: list[str], batch: np.ndarray) -> list[np.ndarray]:
    session = open_session(with_outputs(proto, names).SerializeToString())
    arrays: list[np.ndarray] = session.run(names, {INPUT_NAME: batch})
    return arrays


# -- fidelity ------------------------------------------------------------------------------------------------------


def test_sqnr() -> None:
    signal = np.array([3.0, -4.0])
    assert sqnr_db(signal, signal * 1.1) == pytest.approx(20.0)
    assert sqnr_db(signal, signal) == HIGHEST_DB
    assert sqnr_db(signal * 0, signal) == -HIGHEST_DB
    assert sqnr_db(signal, signal * np.nan) == -HIGHEST_DB


def test_outputs_and_fidelity(model: OnnxModel, batch: np.ndarray) -> None:
    proto = onnx.load(model.path)
    name = features_of(GraphView(proto))
    assert name == "flat:0"
    outputs = outputs_from_onnx(proto, name, [batch[:5], batch[5:]])
    np.testing.assert_allclose(outputs.features, tensors(proto, [name], batch)[0], atol=1e-5)
    same = fidelity_from_outputs(outputs, outputs)
    assert (same.photos, same.features_db, same.agreement, same.distance) == (12, HIGHEST_DB, 1.0, 0.0)


# -- segments ------------------------------------------------------------------------------------------------------


def test_segments_compute_the_same_as_the_whole_network(model: OnnxModel, batch: np.ndarray) -> None:
    proto = onnx.load(model.path)
    segments = split_model(proto, ENDS, ("flat:0", OUTPUT_NAME))
    assert [segment.end for segment in segments] == [*ENDS, ""]
    live: LiveTensors = {INPUT_NAME: batch}
    runner = SegmentRunner()
    for segment in segments:
        runner.advance(segment, live)
        if segment.end == "expand":
            assert sorted(live) == ["expand:0", "project:0"], "tensors that are not needed any more are removed"
    assert sorted(live) == ["flat:0", OUTPUT_NAME]
    np.testing.assert_allclose(live[OUTPUT_NAME], tensors(proto, [OUTPUT_NAME], batch)[0], atol=1e-5)


# -- bias correction -----------------------------------------------------------------------------------------------


def test_bias_correction_compensates_the_rounding_of_weights(
    model: OnnxModel, photos: list[Photo], batch: np.ndarray
) -> None:
    proto = onnx.load(model.path)
    builder = Int8GraphBuilder(proto, minmax(model, photos))
    quantised, placement = builder.build()
    clipped = builder.build_clipped(placement)
    reference = reference_from_onnx(proto, batch)
    shifts = bias_shifts(quantised, clipped, reference, batch, SegmentRunner())
    assert set(shifts) == set(ENDS) - {"head"}, "the head's weights are not rounded"
    corrected = with_shifted_biases(quantised, shifts)
    assert max(np.abs(shift).max() for shift in shifts.values()) > 1e-3
    # Measured again with the corrected biases, on the same INT8 inputs, no mean is shifted any more.
    left = bias_shifts(corrected, clipped, reference, batch, SegmentRunner())
    assert max(np.abs(shift).max() for shift in left.values()) < 1e-4


def test_a_convolution_without_bias_gets_one(photos: list[Photo], batch: np.ndarray) -> None:
    proto = residual_network()
    for node in proto.graph.node:  # type: ignore[attr-defined]
        if node.name in ("stem", "project"):
            del node.input[2:]
    shift = np.arange(16, dtype=np.float32)
    shifted = with_shifted_biases(proto, {"stem": shift})
    before, after = (tensors(graph, ["stem:0"], batch)[0] for graph in (proto, shifted))
    np.testing.assert_allclose(after - before, np.broadcast_to(shift[:, None, None], before.shape), atol=1e-4)
    onnx.checker.check_model(shifted, full_check=True)


def test_sqnr_of_each_layer(model: OnnxModel, photos: list[Photo], batch: np.ndarray) -> None:
    proto = onnx.load(model.path)
    quantised, _ = Int8GraphBuilder(proto, minmax(model, photos)).build()
    layers_db = layer_sqnr(proto, quantised, batch, SegmentRunner())
    assert list(layers_db) == ENDS
    expected = sqnr_db(tensors(proto, ["back:0"], batch)[0], tensors(quantised, ["back:0"], batch)[0])
    assert layers_db["back"] == pytest.approx(expected, abs=0.1)


# -- ranges --------------------------------------------------------------------------------------------------------


def test_range_search_ignores_values_without_effect_on_the_features(photos: list[Photo], tmp_path: Path) -> None:
    proto = residual_network()
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}  # type: ignore[attr-defined]

    def change(name: str, channel: tuple[object, ...], value: float) -> None:
        array = numpy_helper.to_array(constants[name]).copy()
        array[channel] = value
        constants[name].CopyFrom(numpy_helper.from_array(array, name))

    change("expand.bias", (0,), 60.0)  # a huge channel,
    change("back.weight", (slice(None), 0), 0.0)  # that nothing reads
    model = saved(proto, tmp_path / "fp32.onnx")
    candidates = ranges_from_photos(model, photos, CalibrationConfig(method=Method.AUTO))
    assert [ranges.method.value for ranges in candidates] == ["minmax", "entropy", "percentile", "mse"]
    (searched,) = search_ranges(model, candidates, photos)
    assert searched.method is Method.FEATURES
    assert candidates[0].tensors["expand_relu:0"][1] > 50
    assert searched.tensors["expand_relu:0"][1] < 0.5 * candidates[0].tensors["expand_relu:0"][1]
    best, trials = best_ranges(Int8Evaluator(model, photos, photos), [candidates[0], searched])
    assert best is searched
    assert trials["features"].features_db > trials["minmax"].features_db


def test_the_chosen_ranges_are_not_evaluated_again(
    model: OnnxModel, photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def counting(*arguments: object) -> dict[str, np.ndarray]:
        calls.append(arguments)
        return bias_shifts(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("trtpoets.convert.int8.int8_evaluator.bias_shifts", counting)
    ranges = ranges_from_photos(model, photos, CalibrationConfig(method=Method.AUTO))[:2]
    evaluator = Int8Evaluator(model, photos, photos, Int8Config(max_float_layers=0, round_weights=False))
    best, trials = best_ranges(evaluator, ranges)
    assert len(calls) == 2
    _, notes = int8_from_onnx(evaluator, best, tmp_path / "int8.onnx")
    assert len(calls) == 2
    assert notes.corrected == trials[best.method.value]


# -- sensitivity analysis ------------------------------------------------------------------------------------------


def sensitive_network(path: Path) -> OnnxModel:
    """Save a network whose layer "bad" has channels with tiny inputs and large outputs."""
    net = Network()
    stem = net.unary("Relu", net.conv(net.features, 16, "stem", stride=2), "stem_relu")
    bad = net.unary("Relu", net.conv(stem, 16, "bad", group=16), "bad_relu")
    last = net.unary("Relu", net.conv(net.conv(bad, 32, "project", kernel=1), 32, "top", kernel=1), "top_relu")
    proto = net.model(last)
    for tensor in proto.graph.initializer:  # type: ignore[attr-defined]
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("stem.weight", "stem.bias"):
            array[8:] *= 1e-3
        if tensor.name == "bad.weight":
            array[8:] *= 1e3
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return saved(proto, path / "fp32.onnx")


def test_the_search_finds_the_sensitive_layer_and_no_other(photos: list[Photo], tmp_path: Path) -> None:
    model = sensitive_network(tmp_path)
    ranges = minmax(model, photos)
    config = Int8Config(int8_share=0.5, target_db=25.0, target_agreement=0.0)
    progress: list[tuple[str, int, int]] = []
    _, notes = int8_from_onnx(
        Int8Evaluator(model, photos, (), config),
        ranges,
        tmp_path / "int8.onnx",
        lambda *update: progress.append(update),
    )
    assert [kept.layer for kept in notes.steps][:1] == ["bad"]
    assert notes.in_float["bad"].startswith("in FP32 it gains ")
    assert notes.final.features_db > notes.plain.features_db + 5
    assert notes.share == notes.steps[-1].share >= 0.5
    assert ("sensitivity", 1, 4) in progress
    alone = Int8Config(max_float_layers=0)
    _, none = int8_from_onnx(Int8Evaluator(model, photos, (), alone), ranges, tmp_path / "none.onnx")
    assert (none.steps, set(none.in_float)) == ((), {"head"})
    whole = Int8Config(int8_share=none.share - 1e-6, target_db=25.0)
    _, bound = int8_from_onnx(Int8Evaluator(model, photos, (), whole), ranges, tmp_path / "bound.onnx")
    assert bound.steps == (), "no layer is so small"


@pytest.mark.parametrize(
    ("photos", "wrong", "met"), [(120, 0, True), (120, 3, True), (120, 4, False), (1000, 12, True), (1000, 20, False)]
)
def test_agreement_below_the_target_by_chance_is_accepted(photos: int, wrong: int, met: bool) -> None:
    """If 1 % of 120 photos may differ, 4 or more differ with a probability of 3 %, and 3 or more with one of 12 %."""
    limits = SearchLimits(target_db=20, target_agreement=0.99, least_share=0.9, most_layers=None)
    assert limits.met(Fidelity(photos, 21.0, 30.0, 1 - wrong / photos, 0.01)) is met
    assert not limits.met(Fidelity(photos, 19.0, 30.0, 1.0, 0.01))


def test_no_search_when_the_targets_are_reached(model: OnnxModel, photos: list[Photo], tmp_path: Path) -> None:
    config = Int8Config(target_db=5.0, target_agreement=0.0)
    evaluator = Int8Evaluator(model, photos, (), config)
    _, notes = int8_from_onnx(evaluator, minmax(model, photos), tmp_path / "int8.onnx")
    assert notes.steps == ()
    stages = (notes.plain, notes.corrected, notes.together)
    assert notes.final.features_db == max(stage.features_db for stage in stages)


@pytest.mark.parametrize(
    "wrong", [{"int8_share": 1.5}, {"search_photos": 0}, {"max_float_layers": -1}, {"target_agreement": -0.1}]
)
def test_invalid_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Int8Config(**wrong)  # type: ignore[arg-type]


def test_int8_needs_photos(model: OnnxModel) -> None:
    with pytest.raises(BadInput, match="no photos for INT8 bias correction"):
        Int8Evaluator(model, [], [])
