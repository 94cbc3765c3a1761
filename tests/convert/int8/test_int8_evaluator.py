"""The evaluator of INT8 versions: what it computes again, and what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.support.quantised_networks import minmax
from trtpoets.convert.int8 import int8_evaluator
from trtpoets.convert.int8.accuracy_target import PairedAnswers
from trtpoets.convert.int8.calibration import CalibrationConfig, Method
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.quantize_int8 import chosen_ranges
from trtpoets.core.types import OnnxModel, Photo


@pytest.mark.parametrize(("different", "runs"), [(0, 1), (3, 0)])
def test_other_photos_are_run_only_where_they_can_change_the_judgement(
    different: int, runs: int, model: OnnxModel, dozen_photos: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = Int8Evaluator(model, dozen_photos, dozen_photos, Int8Config(round_weights=False))
    version, _ = Int8GraphBuilder(onnx.load(model.path), minmax(model, dozen_photos)).build()
    assert evaluator.is_target_met(version) in (True, False)  # computes the scores of FP32
    run: list[Any] = []

    def with_others(proto: Any, scores: np.ndarray) -> np.ndarray:
        run.append(proto)
        return scores

    monkeypatch.setattr(evaluator, "_with_others", with_others)
    monkeypatch.setattr(int8_evaluator, "answers_from_scores", lambda *_: PairedAnswers(12, different))
    assert evaluator.is_target_met(version) is (different == 0)
    assert len(run) == runs


def test_auto_chooses_among_all_methods_and_records_each(
    model: OnnxModel, dozen_photos: list[Photo], tmp_path: Path
) -> None:
    evaluator = Int8Evaluator(model, dozen_photos, dozen_photos, Int8Config(round_weights=False))
    chosen = chosen_ranges(evaluator, dozen_photos, CalibrationConfig(method=Method.AUTO))
    assert {"minmax", "entropy", "percentile", "mse", "features"} <= set(chosen.trials)
    best = max(trial.features_db for trial in chosen.trials.values() if trial.photos == len(dozen_photos))
    assert chosen.trials[chosen.method.value].features_db == best
