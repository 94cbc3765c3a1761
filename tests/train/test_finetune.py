"""Fine-tuning: the best step is kept, and an interrupted training ends like one that was left alone."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

if find_spec("tensorflow") is None:
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.errors import raises
from tests.support.fine_tuning import diverge, labelled_photos, tiny_network, zero_head
from trtpoets.core.errors import BadPhoto
from trtpoets.core.fine_tuning import Distortions, FineTuneConfig
from trtpoets.train.finetune import Course, LabelledPhotos, best_entry, fine_tuned_head
from trtpoets.train.finetune_checkpoint import Checkpoint
from trtpoets.train.head import Head
from trtpoets.train.networks import Network

CONFIG = FineTuneConfig(
    epochs=1, least_steps=24, batch_size=8, learning_rate=0.03, distortions=Distortions(flip_left_right=True)
)


class Stop(Exception):
    """Stands for a process that is killed."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> LabelledPhotos:
    return labelled_photos(tmp_path_factory.mktemp("photos"))


def tune(
    network: Network, photos: LabelledPhotos, folder: Path, stop: int = 0, config: FineTuneConfig = CONFIG
) -> tuple[Head, Course]:
    def progress(task: str, done: int, total: int) -> None:
        if stop and done == stop:
            raise Stop

    checkpoint = Checkpoint(folder / "state", "key")
    return fine_tuned_head(
        network, zero_head(), photos, 2, config, checkpoint, class_weights=np.ones(2), progress=progress
    )


def test_it_learns_and_keeps_the_best_step(photos: LabelledPhotos, tmp_path: Path) -> None:
    network = tiny_network()
    head, course = tune(network, photos, tmp_path)
    assert course.steps == tuple(range(0, 25, 2))
    assert course.right.shape == course.nats.shape == (13, len(photos.validation))
    assert course.nats[course.best].mean() < course.nats[0].mean() == pytest.approx(np.log(2), abs=1e-5)
    assert course.steps[course.best] >= 16
    assert len(course.train_accuracy) == 13
    # The network and the head are those of the best step.
    from trtpoets.core.images import photo_to_array

    pixels = np.stack([photo_to_array(photo, network.backbone.preprocess) for photo in photos.validation])
    logits = np.asarray(network.model(pixels, training=False)) @ head.weights + head.bias
    np.testing.assert_array_equal(logits.argmax(axis=1) == photos.validation_labels, course.right[course.best])


@pytest.mark.parametrize("stop", [7, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 24))])
def test_an_interrupted_training_ends_like_an_undisturbed_one(
    photos: LabelledPhotos, tmp_path: Path, stop: int
) -> None:
    undisturbed = tiny_network()
    head, course = tune(undisturbed, photos, tmp_path / "undisturbed")
    with pytest.raises(Stop):
        tune(tiny_network(), photos, tmp_path / "stopped", stop)
    resumed = tiny_network()
    own_head, own_course = tune(resumed, photos, tmp_path / "stopped")
    assert own_course.steps == course.steps
    np.testing.assert_array_equal(own_course.nats, course.nats)
    np.testing.assert_array_equal(own_head.weights, head.weights)
    for one, other in zip(undisturbed.model.variables, resumed.model.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_finished_training_is_not_repeated(photos: LabelledPhotos, tmp_path: Path) -> None:
    head, course = tune(tiny_network(), photos, tmp_path)
    again, own = tune(tiny_network(), photos, tmp_path, stop=1)
    np.testing.assert_array_equal(again.weights, head.weights)
    assert own.seconds == course.seconds


def test_a_photo_that_disappears_is_named(photos: LabelledPhotos, tmp_path: Path) -> None:
    gone = replace(photos.train[0], path=tmp_path / "gone.jpg")
    with raises(BadPhoto, "TP1016", "gone.jpg"):
        tune(tiny_network(), replace(photos, train=[gone, *photos.train[1:]]), tmp_path)


def test_a_training_that_diverges_ends_there(
    photos: LabelledPhotos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverge(monkeypatch, after=3)
    _, course = tune(tiny_network(), photos, tmp_path)
    assert course.steps == (0, 2, 4, 6)
    assert course.best == 0
    assert not np.isfinite(course.nats[-1]).all()


def test_the_best_entry_is_after_the_frozen_one() -> None:
    nats = np.array([[0.1, 0.1], [0.5, 0.5], [0.3, 0.3], [np.nan, 0.0]], np.float32)
    assert best_entry(nats, 1) == 2
    assert best_entry(nats[:2], 1) == 1
    assert best_entry(nats[:1], 1) == 0
    assert best_entry(np.array([[0.1], [np.inf]], np.float32), 1) == 0
