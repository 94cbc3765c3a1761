"""Features and scores of TFLite files, which are stored like bottlenecks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.photos import photo_folder
from tests.support.tiny import tiny_classifier, tiny_spec, tiny_tflite
from trtpoets.core.types import Photo, Precision, TfliteModel
from trtpoets.device.runners import open_runner
from trtpoets.judge.evaluation import scores_from_runner
from trtpoets.pipeline.extractors import features_of_model, scores_of_model
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TfliteModel:
    folder = tmp_path_factory.mktemp("tflite")
    return tiny_tflite(folder, tiny_classifier(folder / "classifier"), Precision.INT8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    folder = photo_folder(tmp_path_factory.mktemp("photos") / "photos", dict.fromkeys(tiny_spec().labels, 20))
    return list(dataset_from_folder(folder, DatasetConfig(validation_percent=20, test_percent=40)).photos)


def test_scores_are_those_of_the_runner_and_are_stored(
    model: TfliteModel, photos: list[Photo], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path))
    computed: list[str] = []
    scores = scores_of_model(model, photos, lambda task, done, total: computed.append(f"{task} {done} of {total}"))
    assert computed[-1] == f"bottlenecks {len(photos)} of {len(photos)}"
    with open_runner(model) as runner:
        np.testing.assert_allclose(scores, scores_from_runner(runner, photos), atol=1e-6)
    computed.clear()
    assert np.array_equal(scores_of_model(model, photos[::-1], lambda *step: computed.append("again"))[::-1], scores)
    assert computed == []


def test_features_are_stored_apart_from_scores(
    model: TfliteModel, photos: list[Photo], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path))
    features, scores = features_of_model(model, photos), scores_of_model(model, photos)
    assert features.shape != scores.shape
    assert np.array_equal(features_of_model(model, photos), features)
