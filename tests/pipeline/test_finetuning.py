"""Fine-tuning of a run: the better network is shipped, and never the worse one."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if find_spec("tensorflow") is None:
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.fine_tuning import diverge, tiny_network, zero_head
from tests.support.photos import photo_folder
from tests.support.workers import OtherProcesses
from trtpoets.core.fine_tuning import AUTO, DepthTrial, Distortions, FineTuneConfig
from trtpoets.core.images import photo_to_array
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Split
from trtpoets.pipeline import depth_trials, finetuning
from trtpoets.pipeline.depth_trials import PlannedTrial, ShortTraining
from trtpoets.pipeline.extractors import Device, extractor_key
from trtpoets.pipeline.finetuning import (
    FrozenRun,
    answers_of_other_halves,
    delete_checkpoints,
    fine_tune,
)
from trtpoets.train.dataset import Dataset, DatasetConfig, dataset_from_folder
from trtpoets.train.finetune import Course, fine_tuned_head
from trtpoets.train.finetune_layers import weights_hash
from trtpoets.train.head import Head
from trtpoets.train.networks import Network

CONFIG = FineTuneConfig(
    unfreeze="2", epochs=1, least_steps=24, batch_size=8, learning_rate=0.03, distortions=Distortions()
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = photo_folder(tmp_path_factory.mktemp("photos"), {"roses": 50, "tulips": 50})
    return dataset_from_folder(folder, DatasetConfig(30, 30))


def frozen(dataset: Dataset, head: Head | None = None) -> FrozenRun:
    network = tiny_network()
    pixels = np.stack([photo_to_array(photo, network.backbone.preprocess) for photo in dataset.photos])
    features = np.asarray(network.model(pixels, training=False))
    return FrozenRun(network, head or zero_head(), HeadConfig(steps=60), dataset, features, Device.CPU)


@pytest.fixture(autouse=True)
def _features_by_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting the network to ONNX takes seconds, and the tests of `extractors` do it."""
    from trtpoets.pipeline.extractors import TensorFlowExtractor

    def extractor(network: Network, device: Device) -> TensorFlowExtractor:
        return TensorFlowExtractor(network, extractor_key(network))

    monkeypatch.setattr(finetuning, "extractor_from_network", extractor)


def test_a_network_that_is_better_by_more_than_chance_is_shipped(dataset: Dataset, tmp_path: Path) -> None:
    run = frozen(dataset)
    before = run.network.weights_id
    tuned = fine_tune(run, CONFIG, tmp_path / "state")
    details = tuned.details
    assert details.kept
    assert (details.layers, details.total, details.trials) == (2, 3, ())
    assert details.validation.improves
    assert details.test is not None
    assert details.test.after > details.test.before
    assert details.test.photos == len(dataset.in_split(Split.TEST)) == tuned.right.shape[1]
    assert tuned.network.weights_id == weights_hash(tuned.network) != before  # so no cache of the old weights is used
    assert extractor_key(tuned.network) != extractor_key(replace(tuned.network, weights_id=before))
    assert len(details.steps) == len(details.validation_accuracy) == len(details.train_accuracy)
    assert "so the fine-tuned network is shipped" in details.why
    assert (tmp_path / "state").exists()
    delete_checkpoints(tmp_path / "state")
    assert not list(tmp_path.iterdir())


def test_a_gain_that_may_be_chance_ships_the_frozen_network(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtpoets.judge.paired.equality_test", lambda *_: 0.3)
    run = frozen(dataset)
    before = weights_hash(run.network)
    tuned = fine_tune(run, CONFIG, tmp_path / "state")
    assert not tuned.details.kept
    assert "which may be chance, so the frozen network is shipped" in tuned.details.why
    assert weights_hash(tuned.network) == before
    assert tuned.network.weights_id == run.network.weights_id
    assert tuned.head is run.head


def test_a_training_that_diverges_ships_the_frozen_network(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverge(monkeypatch, after=1)
    run = frozen(dataset)
    before = weights_hash(run.network)
    tuned = fine_tune(run, CONFIG, tmp_path / "state")
    assert not tuned.details.kept
    assert "diverged" in tuned.details.why
    assert weights_hash(tuned.network) == before
    assert all(np.isfinite(tuned.details.validation_cross_entropy))  # JSON has no infinity


def test_auto_tries_depths_on_training_photos_only(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = frozen(dataset)
    seen: list[set[str]] = []

    def watched(network: Any, head: Head, photos: Any, *rest: Any, **options: Any) -> Any:
        seen.append({photo.sha256 for photo in (*photos.train, *photos.validation)})
        return fine_tuned_head(network, head, photos, *rest, **options)

    monkeypatch.setattr(depth_trials, "fine_tuned_head", watched)
    tuned = fine_tune(run, replace(CONFIG, unfreeze=AUTO), tmp_path / "state")
    trials = tuned.details.trials
    assert [trial.layers for trial in trials] == [1, 2, 3]
    assert tuned.details.layers == min(trials, key=lambda trial: (trial.cross_entropy, trial.layers)).layers
    training = {photo.sha256 for photo in dataset.in_split(Split.TRAIN)}
    assert len(seen) == 3
    assert all(photos <= training for photos in seen)
    delete_checkpoints(tmp_path / "state")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("gpus", [0, 1])
def test_workers_make_the_trials_unless_this_machine_has_a_gpu(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    workers, trials = OtherProcesses(), tuple(DepthTrial(layers, layers / 10, 0.0) for layers in (3, 1, 2))
    used: list[object] = []

    def tried(training: ShortTraining, planned: list[PlannedTrial], given: object, progress: object) -> Any:
        assert [trial.layers for trial in planned] == [1, 2, 3]
        assert len({trial.path for trial in planned}) == len({trial.key for trial in planned}) == 3
        used.append(given)
        return trials

    monkeypatch.setattr(finetuning, "tensorflow_gpus", lambda: gpus)
    monkeypatch.setattr(finetuning, "tried_depths", tried)
    run = frozen(dataset)._replace(workers=lambda: nullcontext(workers))
    details = fine_tune(run, replace(CONFIG, unfreeze=AUTO), tmp_path / "state").details
    assert used == [None if gpus else workers]
    assert (details.layers, details.trials) == (1, trials)


def course_of(right: np.ndarray, nats: np.ndarray) -> Course:
    count = len(right)
    return Course(tuple(range(count)), (0.0,) * count, (0.0,) * count, right, nats, 1, 1.0, 1.0)


def test_each_half_is_answered_at_the_step_of_the_other() -> None:
    """A step that is good on one half by chance does not answer that half."""
    random = np.random.default_rng(0)
    sha256 = [f"{number:064x}" for number in range(400)]
    best, other = [], []
    for _ in range(40):
        right = random.random((30, 400)) < 0.5
        course = course_of(right, np.where(right, 0.1, 2.0).astype(np.float32))
        best.append(right[course.best].mean())
        other.append(answers_of_other_halves(course, np.arange(400), sha256).mean())
    assert np.mean(best) > 0.54  # the photos with which the step was selected
    assert abs(np.mean(other) - 0.5) < 0.015
    # All photos in one group: there are no halves.
    together = answers_of_other_halves(course, np.zeros(400, int), sha256)
    np.testing.assert_array_equal(together, right[course.best])
