"""Cross-layer equalisation: the network computes the same, and its channels have similar magnitudes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.support.photos import photo_folder
from tests.support.small_networks import Network, photos_in, residual_network, saved
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.activation_stats import activation_statistics, with_outputs
from trtpoets.convert.int8.calibration import (
    CalibrationConfig,
    Method,
    Ranges,
    calibration_from_photos,
)
from trtpoets.convert.int8.equalisation import equalised, factors_of, pairs_of
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.convert.int8.quantize_int8 import best_ranges, int8_from_onnx
from trtpoets.convert.int8.range_search import search_ranges
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import open_session
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, Photo

PHOTO = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return photos_in(photo_folder(tmp_path_factory.mktemp("photos"), {"daisy": 16, "rose": 16}))


def relu6(net: Network, source: str, name: str) -> str:
    low, high = (net.constant(f"{name}.{end}", np.float32(end)) for end in (0, 6))
    return net.op("Clip", [source, low, high], name, net.channels[source])


def uneven(factor: float = 0.01) -> object:
    """Return a network like MobileNetV2 in which half the channels are smaller by `factor` and weighted up again."""
    net = Network()
    stem = relu6(net, net.conv(net.features, 16, "stem", stride=2), "stem_relu6")
    depthwise = relu6(net, net.conv(stem, 16, "depthwise", group=16), "depthwise_relu6")
    proto = net.model(net.unary("Relu", net.conv(depthwise, 32, "top", kernel=1), "top_relu"))
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("stem.weight", "stem.bias"):
            array[8:] *= factor
        if tensor.name == "depthwise.weight":
            array[8:] /= factor
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return proto


def tensors(proto: object, names: list[str]) -> list[np.ndarray]:
    session = open_session(with_outputs(proto, names).SerializeToString())
    return list(session.run(names, {INPUT_NAME: PHOTO}))


def peaks_of(proto: object, tensor: str) -> np.ndarray:
    return np.asarray(np.abs(tensors(proto, [tensor])[0]).max(axis=(0, 2, 3)))


def test_pairs_are_between_convolutions_only() -> None:
    view = GraphView(residual_network())
    pairs = {pair.tensor: pair for pair in pairs_of(view, placement_from_onnx(residual_network()).tensors)}
    # project:0 is also read by the Add; the photos do not come from a convolution.
    assert set(pairs) == {"stem_relu:0", "depthwise_relu:0", "expand_relu:0"}
    assert pairs["stem_relu:0"].producer.name == "stem"
    assert [node.name for node in pairs["stem_relu:0"].readers] == ["depthwise"]
    assert [pairs[name].free for name in ("stem_relu:0", "expand_relu:0")] == [True, False]
    assert pairs["stem_relu:0"].clip is None
    (first, second) = pairs_of(GraphView(uneven()), ["stem_relu6:0", "depthwise_relu6:0"])
    assert (first.clip, second.clip, first.free, second.free) == (6.0, 6.0, True, False)


def test_tensors_that_cannot_be_equalised() -> None:
    def pairs(change: str) -> list[str]:
        net = Network()
        stem = net.conv(net.features, 16, "stem", stride=2)
        kind = {"swish": "Sigmoid", "tanh": "Tanh"}.get(change, "Relu")
        active = net.unary(kind, stem, "active")
        if change == "low":
            ends = [net.constant(f"end{end}", np.float32(end)) for end in (-1, 6)]
            active = net.op("Clip", [stem, *ends], "cut", 16)
        last = net.conv(active, 16, "top", kernel=1)
        if change == "read twice":
            last = net.add(last, active, "join")
        if change == "read before":
            last = net.add(last, stem, "join")
        if change == "shared weights":
            last = net.op("Conv", [last, "top.weight", "top.bias"], "again", 16, kernel_shape=[1, 1])
        proto = net.model(last)
        if change == "an output":
            value = helper.make_tensor_value_info(active, onnx.TensorProto.FLOAT, None)
            proto.graph.output.append(value)
        return [pair.tensor for pair in pairs_of(GraphView(proto), [active])]

    assert pairs("") == ["active:0"]
    for change in ("tanh", "swish", "low", "read twice", "read before", "shared weights", "an output"):
        assert pairs(change) == [], change


def test_an_equalised_network_computes_the_same_and_its_peaks_are_equal() -> None:
    proto = uneven()
    view = GraphView(proto)
    pair, _ = pairs_of(view, ["stem_relu6:0", "depthwise_relu6:0"])
    before = peaks_of(proto, pair.tensor)
    factors = factors_of(view, pair, before)
    assert factors is not None and (factors >= 1).all()
    scaled = equalised(proto, {pair.tensor: factors})
    onnx.checker.check_model(scaled, full_check=True)
    live = before > 0
    after = peaks_of(scaled, pair.tensor)
    np.testing.assert_allclose(after[live], 6.0, rtol=1e-4)
    assert before[live].max() / before[live].min() > 20
    for name in (OUTPUT_NAME, "depthwise:0"):
        first, second = tensors(proto, [name])[0], tensors(scaled, [name])[0]
        np.testing.assert_allclose(first, second, atol=1e-4 * np.abs(first).max())
    assert equalised(proto, {}).SerializeToString() == proto.SerializeToString()  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(5))
def test_factors_balance_activations_and_weights(seed: int) -> None:
    proto = residual_network(seed)
    view = GraphView(proto)
    (pair,) = pairs_of(view, ["expand_relu:0"])
    before = peaks_of(proto, pair.tensor)
    factors = factors_of(view, pair, before)
    assert factors is not None
    # The ratio of activation peak to weight peak is the same in every channel.
    weights = np.abs(view.array("back.weight")).max(axis=(0, 2, 3))
    live = before > 0
    ratio = (before * factors)[live] / (weights / factors)[live]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    assert (before * factors).max() == pytest.approx(before.max(), rel=1e-5)
    assert (factors[~live] == 1).all()
    scaled = equalised(proto, {pair.tensor: factors})
    np.testing.assert_allclose(tensors(scaled, [OUTPUT_NAME])[0], tensors(proto, [OUTPUT_NAME])[0], atol=1e-5)


def test_channels_that_are_zero_get_the_factor_1() -> None:
    view = GraphView(residual_network())
    (pair,) = pairs_of(view, ["stem_relu:0"])
    assert factors_of(view, pair, np.zeros(16)) is None
    factors = factors_of(view, pair, np.r_[np.zeros(8), np.full(7, 1e-12), 1.0])
    assert factors is not None
    assert (factors[:8] == 1).all() and factors.max() <= 1000


def test_peaks_are_taken_over_the_photos_after_those_of_the_search(photos: list[Photo], tmp_path: Path) -> None:
    proto = uneven()
    model = saved(proto, tmp_path / "fp32.onnx")
    done: list[int] = []
    names = ["stem_relu6:0", "top_relu:0"]
    peaks = activation_statistics(
        proto, names, photos, model.spec.preprocess, 5, done.append, peaked=names, first_peak=7
    ).peaks
    batch = next(photo_batches(photos[7:], model.spec.preprocess, len(photos)))
    session = open_session(with_outputs(proto, names).SerializeToString())
    expected = session.run(names, {INPUT_NAME: batch})
    for array, values in zip(peaks.values(), expected, strict=True):
        np.testing.assert_allclose(array, values.max(axis=(0, 2, 3)), rtol=1e-5)
    assert done[-1] == len(photos)


def test_range_search_equalises_uneven_channels(photos: list[Photo], tmp_path: Path) -> None:
    model = saved(uneven(), tmp_path / "fp32.onnx")
    calibration = calibration_from_photos(model, photos, CalibrationConfig(method=Method.AUTO))
    features, scaled = search_ranges(model, calibration, photos)
    assert (features.method, scaled.method) == (Method.FEATURES, Method.EQUALISED)
    assert features.equalised == {} and "stem_relu6:0" in scaled.equalised
    assert features.tensors == scaled.tensors, "what FP32's own tensors span is the same"
    assert from_json(Ranges, to_json(scaled), "ranges.json") == scaled
    assert scaled.hash != features.hash
    evaluator = Int8Evaluator(model, photos, ())
    best, trials = best_ranges(evaluator, [features, scaled])
    assert best is scaled
    assert trials["equalised"].features_db > trials["features"].features_db + 10
    _, notes = int8_from_onnx(evaluator, scaled, tmp_path / "int8.onnx")
    assert notes.equalised == len(scaled.equalised)
    assert notes.final.features_db > 25


def test_few_photos_are_not_enough_for_equalisation(photos: list[Photo], tmp_path: Path) -> None:
    model = saved(uneven(), tmp_path / "fp32.onnx")
    few = photos[:12]
    calibration = calibration_from_photos(model, few, CalibrationConfig(method=Method.AUTO))
    assert calibration.channel_peaks == {}
    assert [ranges.method for ranges in search_ranges(model, calibration, few)] == [Method.FEATURES]
