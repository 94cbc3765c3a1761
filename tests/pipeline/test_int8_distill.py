"""The decision on a distilled network, by photos that it was not trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.photos import photo_folder
from tests.support.small_networks import residual_network, saved
from tests.support.topologies import TOPOLOGIES
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, calibration_from_photos
from trtpoets.convert.int8.distill.training import DistillConfig
from trtpoets.convert.int8.fidelity import NetworkOutputs
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.core.types import Split
from trtpoets.pipeline.int8_distill import compared, int8_distiller
from trtpoets.train.dataset import Dataset, DatasetConfig, dataset_from_folder

GROUPS = np.arange(60)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = photo_folder(tmp_path_factory.mktemp("photos") / "photos", dict.fromkeys(("daisy", "rose", "tulip"), 40))
    return dataset_from_folder(folder, DatasetConfig(validation_percent=40, test_percent=10))


def outputs(noise: float, changed: int = 0) -> NetworkOutputs:
    """Features with some noise, and scores of three labels; the answer to the last `changed` photos is another."""
    random = np.random.default_rng(1)
    exact = random.normal(0, 1, (60, 8))
    features = exact + noise * random.normal(0, 1, exact.shape)
    answers = np.arange(60) % 3
    answers[60 - changed :] += 1
    scores = np.eye(3)[answers % 3]
    return NetworkOutputs(features.astype(np.float32), scores.astype(np.float32))


def test_a_network_that_is_closer_is_kept() -> None:
    notes = compared(outputs(0), outputs(0.2, changed=2), outputs(0.1, changed=1), GROUPS)
    assert notes.kept
    assert notes.features_db is not None and notes.change_low is not None and notes.change_high is not None
    assert notes.features_db[1] - notes.features_db[0] == pytest.approx(6.0, abs=0.1)
    assert 5.9 < notes.change_low <= notes.change_high < 6.1
    assert notes.agreement == (pytest.approx(58 / 60), pytest.approx(59 / 60))


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (outputs(0.2), "not significantly closer"),
        (outputs(0.3), "not significantly closer"),
        (outputs(0.1, changed=12), "agrees significantly less often"),
    ],
    ids=["equal", "worse", "other answers"],
)
def test_a_network_that_is_no_better_is_not_kept(after: NetworkOutputs, why: str) -> None:
    notes = compared(outputs(0), outputs(0.2), after, GROUPS)
    assert not notes.kept
    assert why in notes.why


def test_copies_of_a_photo_are_no_evidence() -> None:
    """An improvement on nine photos, and on their copies, proves nothing."""
    notes = compared(outputs(0), outputs(0.2), outputs(0.1), np.arange(60) % 9)
    assert not notes.kept
    assert "copies of only 9 photos" in notes.why


# -- a small network -----------------------------------------------------------------------------------------------


def evaluator(model: Any, dataset: Dataset, folder: Path) -> Int8Evaluator:
    train, validation = (dataset.in_split(kind) for kind in (Split.TRAIN, Split.VALIDATION))
    return Int8Evaluator(saved(model, folder / "fp32.onnx"), train, validation, Int8Config(max_float_layers=0))


@pytest.mark.slow
def test_a_network_with_coarse_ranges_is_distilled(dataset: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    judge = evaluator(residual_network(), dataset, tmp_path)
    photos = dataset.in_split(Split.TRAIN)
    (ranges,) = calibration_from_photos(judge.model, photos, CalibrationConfig(method=Method.MINMAX)).by_method
    wide = {name: (8 * low, 8 * high) for name, (low, high) in ranges.tensors.items()}
    version, placement = judge.builder(replace(ranges, tensors=wide)).build()
    distil = int8_distiller(dataset, judge, photos, DistillConfig(steps=40, batch=8, learning_rate=0.1))
    after, notes = distil(version, placement)
    assert notes.kept, notes
    assert notes.steps > 0 and notes.photos == len(photos)
    assert notes.validation_photos == len(dataset.in_split(Split.VALIDATION))
    assert judge.fidelity(after).features_db > judge.fidelity(version).features_db


def test_an_operator_that_is_not_supported_is_the_reason(dataset: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    judge = evaluator(TOPOLOGIES["alexnet"](), dataset, tmp_path)
    photos = dataset.in_split(Split.TRAIN)
    version, placement = judge.builder(
        calibration_from_photos(judge.model, photos, CalibrationConfig(method=Method.MINMAX)).by_method[0]
    ).build()
    after, notes = int8_distiller(dataset, judge, photos, DistillConfig())(version, placement)
    assert after is version
    assert not notes.kept
    assert "the operator LRN of node lrn1 is not supported" in notes.why


def test_too_few_photos(dataset: Dataset, tmp_path: Path) -> None:
    judge = evaluator(residual_network(), dataset, tmp_path)
    photos = dataset.in_split(Split.TRAIN)[:10]
    (ranges,) = calibration_from_photos(judge.model, photos, CalibrationConfig(method=Method.MINMAX)).by_method
    version, placement = judge.builder(ranges).build()
    after, notes = int8_distiller(dataset, judge, photos, DistillConfig())(version, placement)
    assert after is version
    assert "10 training and" in notes.why and "too few" in notes.why
