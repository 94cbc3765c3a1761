"""The search for layers that must not be INT8."""

from pathlib import Path

from onnx import numpy_helper

from tests.support.quantised_networks import minmax
from tests.support.small_networks import Network, saved
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.quantize_int8 import int8_from_onnx
from trtpoets.core.types import OnnxModel, Photo


def sensitive_network(path: Path) -> OnnxModel:
    """Save a network whose layer "bad" has channels with tiny inputs and large outputs."""
    net = Network()
    stem = net.unary("Relu", net.conv(net.features, 16, "stem", stride=2), "stem_relu")
    bad = net.unary("Relu", net.conv(stem, 16, "bad", group=16), "bad_relu")
    last = net.unary("Relu", net.conv(net.conv(bad, 32, "project", kernel=1), 32, "top", kernel=1), "top_relu")
    proto = net.model(last)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("stem.weight", "stem.bias"):
            array[8:] *= 1e-3
        if tensor.name == "bad.weight":
            array[8:] *= 1e3
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return saved(proto, path / "fp32.onnx")


def test_the_search_finds_the_sensitive_layer_and_no_other(dozen_photos: list[Photo], tmp_path: Path) -> None:
    model = sensitive_network(tmp_path)
    ranges = minmax(model, dozen_photos)
    config = Int8Config(int8_share=0.5, target_db=25.0, target_agreement=0.0)
    progress: list[tuple[str, int, int]] = []
    _, notes = int8_from_onnx(
        Int8Evaluator(model, dozen_photos, (), config),
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
    _, none = int8_from_onnx(Int8Evaluator(model, dozen_photos, (), alone), ranges, tmp_path / "none.onnx")
    assert (none.steps, set(none.in_float)) == ((), {"head"})
    whole = Int8Config(int8_share=none.share - 1e-6, target_db=25.0)
    _, bound = int8_from_onnx(Int8Evaluator(model, dozen_photos, (), whole), ranges, tmp_path / "bound.onnx")
    assert bound.steps == (), "no layer is so small"
