"""Fine-tuning: the best step is kept, and an interrupted training ends like one that was left alone."""

from __future__ import annotations

import errno
import itertools
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if find_spec("tensorflow") is None:
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.errors import raises
from tests.support.fine_tuning import diverge, labelled_photos, tiny_network, zero_head
from tests.train.test_tensorboard_events import tags_of
from trtpoets.core.errors import BadPhoto, StorageFailed
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
    network: Network,
    photos: LabelledPhotos,
    folder: Path,
    stop: int = 0,
    config: FineTuneConfig = CONFIG,
    steps: list[int] | None = None,
) -> tuple[Head, Course]:
    """Fine-tune two layers; raise Stop at step `stop`, and append the numbers of the steps taken to `steps`."""

    def progress(task: str, done: int, total: int) -> None:
        if steps is not None:
            steps.append(done)
        if stop and done == stop:
            raise Stop

    folder.mkdir(exist_ok=True)
    checkpoint = Checkpoint(folder / "state", "key")
    options: dict[str, Any] = {"class_weights": np.ones(2), "progress": progress, "logs": folder / "logs"}
    return fine_tuned_head(network, zero_head(), photos, 2, config, checkpoint, **options)


@pytest.fixture(scope="module")
def undisturbed(photos: LabelledPhotos, tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Head, Course]:
    """The network, the head and the course of a training that nothing interrupted."""
    network = tiny_network()
    return network, *tune(network, photos, tmp_path_factory.mktemp("undisturbed"))


def test_it_learns_and_keeps_the_best_step(undisturbed: tuple[Network, Head, Course], photos: LabelledPhotos) -> None:
    network, head, course = undisturbed
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
    undisturbed: tuple[Network, Head, Course],
    photos: LabelledPhotos,
    tmp_path: Path,
    stop: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    network, head, course = undisturbed
    caplog.set_level("INFO", logger="trtpoets")
    with pytest.raises(Stop):
        tune(tiny_network(), photos, tmp_path / "stopped", stop)
    assert "continues" not in caplog.text
    resumed = tiny_network()
    own_head, own_course = tune(resumed, photos, tmp_path / "stopped")
    (log_folder,) = (tmp_path / "stopped" / "logs").iterdir()
    assert log_folder.name.endswith("_unfreeze-2")
    steps = list(range(2, 25, 2))
    for split in ("train", "validation"):
        assert tags_of(log_folder / split) == {"accuracy": steps, "cross_entropy": steps}
    evaluated = (stop - 1) // 2 * 2  # the last even step before `stop`
    assert (f"after step {evaluated} of 24" in caplog.text) == (evaluated > 0)
    assert own_course.steps == course.steps
    np.testing.assert_array_equal(own_course.nats, course.nats)
    np.testing.assert_array_equal(own_head.weights, head.weights)
    for one, other in zip(network.model.variables, resumed.model.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_finished_training_is_not_repeated(photos: LabelledPhotos, tmp_path: Path) -> None:
    head, course = tune(tiny_network(), photos, tmp_path)
    again, own = tune(tiny_network(), photos, tmp_path, stop=1)
    assert len(list((tmp_path / "logs").iterdir())) == 1
    np.testing.assert_array_equal(again.weights, head.weights)
    assert own.seconds == course.seconds


def test_a_photo_that_disappears_is_named(photos: LabelledPhotos, tmp_path: Path) -> None:
    gone = replace(photos.train[0], path=tmp_path / "gone.jpg")
    with raises(BadPhoto, "TP1125", "gone.jpg"):
        tune(tiny_network(), replace(photos, train=[gone, *photos.train[1:]]), tmp_path)


def test_a_validation_photo_that_disappears_is_named(photos: LabelledPhotos, tmp_path: Path) -> None:
    gone = replace(photos.validation[-1], path=tmp_path / "gone.jpg")
    with raises(BadPhoto, "TP1125", "gone.jpg"):
        tune(tiny_network(), replace(photos, validation=[*photos.validation[:-1], gone]), tmp_path)


def test_a_training_whose_checkpoint_fills_the_disk_goes_on_from_the_one_before(
    undisturbed: tuple[Network, Head, Course],
    photos: LabelledPhotos,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, expected, _ = undisturbed
    written = itertools.count()

    def full(handle: int) -> None:
        if next(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with raises(StorageFailed, "TP1085", tmp_path / "full" / "state", "No space left"):
        tune(tiny_network(), photos, tmp_path / "full")
    monkeypatch.undo()
    seen: list[int] = []
    head, course = tune(tiny_network(), photos, tmp_path / "full", steps=seen)
    np.testing.assert_array_equal(head.weights, expected.weights)
    assert course.steps == tuple(range(0, 25, 2))
    assert 1 < seen[0] < 24


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
