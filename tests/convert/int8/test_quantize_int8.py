"""INT8 quantisation compared with FP32: fidelity, segments, corrections, range search and sensitivity analysis."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support.quantised_networks import ENDS, minmax, tensors
from trtpoets.convert.int8.bias_correction import bias_shifts, layer_sqnr
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, ranges_from_photos
from trtpoets.convert.int8.fidelity import (
    sqnr_db,
)
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.quantize_int8 import best_ranges, int8_from_onnx
from trtpoets.core.errors import BadInput
from trtpoets.core.types import OnnxModel, Photo

# -- bias correction -----------------------------------------------------------------------------------------------


def test_sqnr_of_each_layer(model: OnnxModel, dozen_photos: list[Photo], batch: np.ndarray) -> None:
    proto = onnx.load(model.path)
    quantised, _ = Int8GraphBuilder(proto, minmax(model, dozen_photos)).build()
    layers_db = layer_sqnr(proto, quantised, batch)
    assert list(layers_db) == ENDS
    expected = sqnr_db(tensors(proto, ["back:0"], batch)[0], tensors(quantised, ["back:0"], batch)[0])
    assert layers_db["back"] == pytest.approx(expected, abs=0.1)


# -- ranges --------------------------------------------------------------------------------------------------------


def test_the_chosen_ranges_are_not_evaluated_again(
    model: OnnxModel, dozen_photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def counting(*arguments: object) -> dict[str, np.ndarray]:
        calls.append(arguments)
        return bias_shifts(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("trtpoets.convert.int8.int8_evaluator.bias_shifts", counting)
    ranges = ranges_from_photos(model, dozen_photos, CalibrationConfig(method=Method.AUTO))[:2]
    evaluator = Int8Evaluator(model, dozen_photos, dozen_photos, Int8Config(max_float_layers=0, round_weights=False))
    best, trials = best_ranges(evaluator, ranges)
    assert len(calls) == 2
    _, notes = int8_from_onnx(evaluator, best, tmp_path / "int8.onnx")
    assert len(calls) == 2
    assert notes.corrected == trials[best.method.value]


# -- sensitivity analysis ------------------------------------------------------------------------------------------


def test_no_search_when_the_targets_are_reached(model: OnnxModel, dozen_photos: list[Photo], tmp_path: Path) -> None:
    config = Int8Config(target_db=5.0, target_agreement=0.0)
    evaluator = Int8Evaluator(model, dozen_photos, (), config)
    _, notes = int8_from_onnx(evaluator, minmax(model, dozen_photos), tmp_path / "int8.onnx")
    assert notes.steps == ()
    stages = (notes.plain, notes.corrected, notes.together)
    assert notes.final.features_db == max(stage.features_db for stage in stages)


def test_int8_needs_photos(model: OnnxModel) -> None:
    with pytest.raises(BadInput, match="no photos for INT8 bias correction"):
        Int8Evaluator(model, [], [])
