"""The search for layers that must not be INT8."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support.quantised_networks import minmax
from tests.support.small_networks import Network, saved
from trtpoets.convert.int8.accuracy_target import PairedAnswers
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.quantize_int8 import Int8Notes, int8_from_onnx
from trtpoets.convert.int8.sensitivity import SensitivitySearch
from trtpoets.core.progress import PARTS, silent
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
    searched = [done for task, done, _ in progress if task == "layers in FP32"]
    assert searched[0] == 0 and searched == sorted(searched) and searched[-1] == PARTS
    assert searched.count(PARTS) == 1
    alone = Int8Config(max_float_layers=0)
    _, none = int8_from_onnx(Int8Evaluator(model, dozen_photos, (), alone), ranges, tmp_path / "none.onnx")
    assert (none.steps, set(none.in_float)) == ((), {"head"})
    whole = Int8Config(int8_share=none.share - 1e-6, target_db=25.0)
    _, bound = int8_from_onnx(Int8Evaluator(model, dozen_photos, (), whole), ranges, tmp_path / "bound.onnx")
    assert bound.steps == (), "no layer is so small"


def test_estimated_gains_point_to_the_layers_with_the_largest_gains(dozen_photos: list[Photo], tmp_path: Path) -> None:
    model = sensitive_network(tmp_path)
    evaluator = Int8Evaluator(model, dozen_photos, ())
    builder = evaluator.builder(minmax(model, dozen_photos))
    search = SensitivitySearch(evaluator, builder, {})
    layers = search._affordable({}, 0.0)
    gains, estimates = search._gains({}, layers), search._estimates({}, layers, silent)
    assert list(estimates) == list(gains) == layers
    assert max(estimates, key=estimates.__getitem__) == max(gains, key=gains.__getitem__) == "bad"
    assert estimates["bad"] == pytest.approx(gains["bad"], rel=0.3)


REACHED = Int8Config(target_db=0.0, target_agreement=0.0)
"""Targets that are reached at once, so that only the accuracy target requires more."""


def searched(
    model: OnnxModel, photos: list[Photo], out: Path, config: Int8Config, is_met: Callable[[int], bool]
) -> Int8Notes:
    """Quantise with an accuracy target that is met or not by the number of layers that the search has kept in FP32."""
    evaluator = Int8Evaluator(model, photos, (), config)
    asked = iter(range(100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "is_target_met", lambda version: is_met(next(asked)))
        return int8_from_onnx(evaluator, minmax(model, photos), out / "int8.onnx")[1]


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    """A sensitive layer with 15 % of the multiply-adds, which is more than usually returns to FP32."""
    net = Network()
    stem = net.unary("Relu", net.conv(net.features, 16, "stem", stride=2), "stem_relu")
    one = net.unary("Relu", net.conv(stem, 32, "one"), "one_relu")
    two = net.unary("Relu", net.conv(one, 32, "two"), "two_relu")
    proto = net.model(net.unary("Relu", net.conv(two, 64, "top"), "top_relu"))
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("stem.weight", "stem.bias"):
            array[8:] *= 1e-3
        if tensor.name == "one.weight":
            array[:, 8:] *= 1e3
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return saved(proto, tmp_path_factory.mktemp("deep") / "fp32.onnx")


def test_the_accuracy_target_takes_precedence_over_the_usual_share(
    deep: OnnxModel, dozen_photos: list[Photo], tmp_path: Path
) -> None:
    notes = searched(deep, dozen_photos, tmp_path, REACHED, lambda layers: layers >= 1)
    assert [kept.layer for kept in notes.steps] == ["one"]
    assert 0.8 <= notes.share < 0.95
    assert [(point.layers, point.share) for point in notes.frontier] == [
        (0, notes.frontier[0].share),
        (1, notes.share),
    ]
    assert notes.frontier[0].share > 0.95
    assert notes.frontier[0].time < notes.frontier[1].time
    assert notes.frontier[-1].fidelity == notes.final
    assert notes.final.features_db > notes.frontier[0].fidelity.features_db + 3


def test_a_target_that_is_met_changes_nothing(deep: OnnxModel, dozen_photos: list[Photo], tmp_path: Path) -> None:
    notes = searched(deep, dozen_photos, tmp_path, REACHED, lambda layers: True)
    assert notes.steps == () and len(notes.frontier) == 1


def test_the_search_ends_where_fp16_is_advised(deep: OnnxModel, dozen_photos: list[Photo], tmp_path: Path) -> None:
    notes = searched(deep, dozen_photos, tmp_path, REACHED, lambda layers: False)
    assert notes.share >= 0.8 and notes.steps


def test_a_share_that_the_user_sets_takes_precedence(
    deep: OnnxModel, dozen_photos: list[Photo], tmp_path: Path
) -> None:
    config = replace(REACHED, int8_share=0.9)
    assert searched(deep, dozen_photos, tmp_path, config, lambda layers: False).steps == ()


def judged(model: OnnxModel, photos: list[Photo], out: Path, judge: Callable[[Any], PairedAnswers | None]) -> Int8Notes:
    """Quantise with an accuracy target that `judge` decides about."""
    evaluator = Int8Evaluator(model, photos, (), REACHED)
    return int8_from_onnx(evaluator, minmax(model, photos), out / "int8.onnx", judge=judge)[1]


def test_a_version_is_judged_when_its_noise_has_shrunk_enough(
    deep: OnnxModel, dozen_photos: list[Photo], tmp_path: Path
) -> None:
    versions: list[Any] = []

    def judge(version: Any) -> PairedAnswers:
        versions.append(version)
        return PairedAnswers(1000, 10 if len(versions) > 1 else 26)  # 13 may differ

    notes = judged(deep, dozen_photos, tmp_path, judge)
    assert [kept.layer for kept in notes.steps] == ["one"]
    # The layer gained more than the 6 dB that half the answers take, so the version with it was judged, and kept.
    assert len(versions) == 2
    assert notes.final.features_db - notes.frontier[0].fidelity.features_db > 20 * np.log10(2)
    onnx.checker.check_model(versions[0])


def test_a_version_whose_noise_has_not_shrunk_enough_is_not_judged(
    deep: OnnxModel, dozen_photos: list[Photo], tmp_path: Path
) -> None:
    versions: list[Any] = []

    def judge(version: Any) -> PairedAnswers:
        versions.append(version)
        return PairedAnswers(1000, 900)

    notes = judged(deep, dozen_photos, tmp_path, judge)
    assert notes.steps and len(versions) == 1


def test_where_a_file_cannot_be_judged_the_validation_photos_decide(
    deep: OnnxModel, dozen_photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(Int8Evaluator, "is_target_met", lambda evaluator, version: bool(asked.append(True)) or True)
    assert judged(deep, dozen_photos, tmp_path, lambda version: None).steps == ()
    assert asked == [True]
