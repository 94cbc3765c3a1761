"""The trials of `--unfreeze auto`: the same results in this process and by other workers."""

from __future__ import annotations

import os
import pickle
import signal
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if find_spec("tensorflow") is None:
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.errors import raises
from tests.support.fine_tuning import labelled_photos, tiny_network, zero_head
from tests.support.workers import OtherProcesses, without_seconds
from trtpoets.core.errors import PhotoChanged, RunFailed
from trtpoets.core.fine_tuning import DepthTrial, FineTuneConfig
from trtpoets.core.optional import tensorflow
from trtpoets.pipeline import depth_trials
from trtpoets.pipeline.depth_trials import PlannedTrial, ShortTraining, depth_trial_of_worker, tried_depths
from trtpoets.pipeline.ray_workers import workers_named
from trtpoets.train.finetune import LabelledPhotos
from trtpoets.train.finetune_layers import layers_of, weights_hash

CONFIG = FineTuneConfig(epochs=1, least_steps=6, batch_size=8, learning_rate=0.03)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> LabelledPhotos:
    return labelled_photos(tmp_path_factory.mktemp("photos"), 20)


def training_on(photos: LabelledPhotos) -> ShortTraining:
    return ShortTraining(tiny_network(), zero_head(), photos, CONFIG, np.ones(2, np.float32), tensorflow().__version__)


def planned(folder: Path) -> list[PlannedTrial]:
    return [PlannedTrial(layers, folder / f"trial-{layers}", f"key {layers}") for layers in (1, 3)]


def test_a_network_survives_the_way_to_another_process() -> None:
    network = tiny_network()
    sent = pickle.loads(pickle.dumps(network))
    assert weights_hash(sent) == weights_hash(network)
    assert (sent.backbone, sent.weights_id) == (network.backbone, network.weights_id)
    assert [[variable.path for variable in layer] for layer in layers_of(sent)] == [
        [variable.path for variable in layer] for layer in layers_of(network)
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    assert np.array_equal(sent.model(pixels, training=False), network.model(pixels, training=False))


def test_other_workers_give_the_same_results(photos: LabelledPhotos, tmp_path: Path) -> None:
    training, workers = training_on(photos), OtherProcesses()
    before = weights_hash(training.network)
    (tmp_path / "here").mkdir()
    here = tried_depths(training, planned(tmp_path / "here"), None)
    there = tried_depths(training, planned(tmp_path), workers)
    assert [trial.layers for trial in here] == [1, 3]
    assert here[0].cross_entropy != here[1].cross_entropy
    assert without_seconds(there) == without_seconds(here)
    assert (workers.items, workers.long_items) == (2, 2)
    assert weights_hash(training.network) == before


def test_only_results_that_are_not_stored_are_computed(
    photos: LabelledPhotos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth_trials, "depth_trial_of_worker", untrained)
    training, workers = training_on(photos), OtherProcesses()
    expected = tried_depths(training, planned(tmp_path), workers)
    planned(tmp_path)[1].result.delete()
    assert tried_depths(training, planned(tmp_path), workers) == expected
    assert workers.items == 3
    tried_depths(training, [replace(trial, key="other photos") for trial in planned(tmp_path)], workers)
    assert workers.items == 5


def test_an_error_of_a_worker_arrives_with_its_class_and_code(tmp_path: Path) -> None:
    photos = labelled_photos(tmp_path, 8)
    photos.train[0].path.write_bytes(photos.train[1].path.read_bytes())
    with raises(PhotoChanged, "TP1014", photos.train[0].path):
        tried_depths(training_on(photos), planned(tmp_path), OtherProcesses())
    assert not any(trial.path.exists() for trial in planned(tmp_path))


def test_a_worker_with_another_tensorflow_is_refused(photos: LabelledPhotos, tmp_path: Path) -> None:
    training = replace(training_on(photos), tensorflow_version="1.15.0")
    with raises(RunFailed, "TP8330", tensorflow().__version__, "1.15.0"):
        tried_depths(training, planned(tmp_path), OtherProcesses())


def test_the_progress_counts_trials(photos: LabelledPhotos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_trials, "depth_trial_of_worker", untrained)
    seen: list[tuple[str, int, int]] = []
    tried_depths(training_on(photos), planned(tmp_path), OtherProcesses(), lambda *values: seen.append(values))
    assert seen == [("trials of 2 depths", number, 2) for number in range(3)]


def untrained(training: ShortTraining, layers: int) -> DepthTrial:
    return DepthTrial(layers, layers / 7, 2.5)


def killed_at_first(marker: Path, training: ShortTraining, layers: int) -> DepthTrial:
    """Return the trial of a worker; the first worker that comes to the deeper one is killed half-way."""
    if layers == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return depth_trial_of_worker(training, layers)


@pytest.mark.slow
def test_a_local_ray_gives_the_same_results_although_a_worker_is_killed(
    photos: LabelledPhotos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'trtpoets[ray]'")
    training = training_on(photos)
    (tmp_path / "here").mkdir()
    here = tried_depths(training, planned(tmp_path / "here"), None)
    function: Any = partial(killed_at_first, tmp_path / "killed")
    monkeypatch.setattr(depth_trials, "depth_trial_of_worker", function)
    with workers_named("ray", tmp_path) as workers:
        there = tried_depths(training, planned(tmp_path), workers)
        gone = replace(photos, train=[replace(photos.train[0], path=tmp_path / "gone.jpg"), *photos.train[1:]])
        with pytest.raises(Exception, match=r"gone\.jpg") as caught:
            tried_depths(replace(training, photos=gone), [replace(planned(tmp_path)[0], key="gone")], workers)
    assert (tmp_path / "killed").exists()
    assert without_seconds(there) == without_seconds(here)
    assert (type(caught.value).__name__, getattr(caught.value, "code", "")) == ("BadPhoto", "TP1125")
