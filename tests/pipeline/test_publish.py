"""Classifier and dataset are replaced together; a stop between two writes leaves either state or an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trtpoets
from tests.support.bundle_run import bundle_run
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import MissingArtefact, TrtPoetsError
from trtpoets.core.files import atomic_folder
from trtpoets.core.training import HeadConfig, TrainingDetails
from trtpoets.core.types import Classifier, Precision, Split
from trtpoets.core.workspace import Workspace, card_of, read_card, seal_card
from trtpoets.pipeline import publish
from trtpoets.pipeline.artefacts import classifier_in, dataset_in, training_in
from trtpoets.train.dataset import Dataset, DatasetConfig, dataset_from_folder
from trtpoets.train.photo_table import table_of

FP32, FP16, INT8 = Precision


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    """A run that was trained on its dataset."""
    space = bundle_run(tmp_path, (FP32,))
    written(space, dataset_in(space), "first")
    return space


@pytest.fixture
def other(tmp_path: Path) -> Dataset:
    """The same photos in other splits."""
    return dataset_from_folder(tmp_path / "photos", DatasetConfig(validation_percent=30, test_percent=20))


TRAINING = TrainingDetails(HeadConfig(), 0, 0.0, (), (), (), (), ())


def classifier_writer(space: Workspace, weights: str) -> Callable[[], Classifier]:
    """Replace the classifier's folder by one with other weights."""

    def write() -> Classifier:
        spec = replace(tiny_spec(), weights_id=weights)
        with atomic_folder(space.classifier) as part:
            (part / "saved_model").mkdir()
            for name in ("classifier.keras", "saved_model/saved_model.pb"):
                (part / name).write_bytes(weights.encode())
            (part / "model.json").write_text(spec.to_json())
        return Classifier(space.classifier, spec)

    return write


def written(space: Workspace, dataset: Dataset, weights: str, **others: Any) -> Classifier:
    return publish.publish(
        space,
        f"key of {weights}",
        classifier_writer(space, weights),
        dataset=dataset,
        command=f"trtpoets retrain of {weights}",
        trained_on=dataset.hash,
        **{"training": TRAINING, **others},
    )


def test_what_a_training_leaves(space: Workspace, other: Dataset) -> None:
    classifier = written(space, other, "second")
    assert classifier_in(space).spec == classifier.spec
    assert dataset_in(space).hash == other.hash
    assert training_in(space) == TRAINING
    card = read_card(card_of(space.classifier))
    assert (card.key, card.details["dataset"]) == ("key of second", other.hash)
    dataset = read_card(space.dataset).details
    assert dataset["command"] == card.details["command"] == "trtpoets retrain of second"
    assert dataset["counts"] == other.counts


def test_a_classifier_that_was_not_trained_here_has_no_training(space: Workspace) -> None:
    before = space.dataset.read_bytes()
    publish.publish(space, "key", classifier_writer(space, "published"), dataset=None, command="trtpoets pretrained")
    assert space.dataset.read_bytes() == before
    assert not space.training.exists()
    assert read_card(card_of(space.classifier)).details["dataset"] is None


def test_the_splits_of_the_training_are_kept(space: Workspace) -> None:
    dataset = dataset_in(space)
    assert publish.trained_here(space, "another key", dataset) is None
    trained = publish.trained_here(space, "key of first", dataset)
    assert trained is not None
    assert trained.hash == dataset.hash
    photo = dataset.in_split(Split.TRAIN)[0]
    moved = tuple(replace(item, split=Split.TEST) if item == photo else item for item in dataset.photos)
    again = publish.trained_here(space, "key of first", replace(dataset, photos=table_of(moved, dataset.folder)))
    assert again is not None
    assert again.hash == dataset.hash
    assert publish.trained_here(space, "key of first", replace(dataset, photos=dataset.photos[1:])) is None


def test_without_its_dataset_a_classifier_is_trained_again(space: Workspace) -> None:
    dataset = dataset_in(space)
    space.dataset.write_text("{}")
    moved = tuple(replace(photo, split=Split.TEST) for photo in dataset.photos)
    assert publish.trained_here(space, "key of first", replace(dataset, photos=table_of(moved, dataset.folder))) is None
    assert publish.trained_here(space, "key of first", dataset) is not None


def test_photos_that_moved_change_only_their_folder(space: Workspace, tmp_path: Path) -> None:
    dataset = dataset_in(space)
    card = card_of(space.classifier).read_bytes()
    moved = dataset.folder.rename(tmp_path / "new place")
    publish.seal_dataset(space, dataset_from_folder(moved, dataset.config), "trtpoets retrain again")
    assert dataset_in(space).folder == moved
    assert read_card(space.dataset).details["command"] == "trtpoets retrain again"
    assert card_of(space.classifier).read_bytes() == card


@pytest.mark.parametrize("stop", range(8))
def test_an_interrupted_training_leaves_a_valid_run_or_none(
    stop: int, space: Workspace, other: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before or after each of the four writes, by Ctrl-C."""
    before = dataset_in(space)
    turn = iter(range(8))

    def stopped(write: Any) -> Any:
        def instead(*arguments: Any, **words: Any) -> Any:
            if next(turn) == stop:
                raise KeyboardInterrupt
            result = write(*arguments, **words)
            if next(turn) == stop:
                raise KeyboardInterrupt
            return result

        return instead

    writer = classifier_writer
    with monkeypatch.context() as patched:
        patched.setattr(publish, "seal_card", stopped(seal_card))
        patched.setattr("tests.pipeline.test_publish.classifier_writer", lambda *values: stopped(writer(*values)))
        with pytest.raises(KeyboardInterrupt):
            written(space, other, "second")
    try:
        result = dataset_in(space)
    except TrtPoetsError as error:
        assert 0 < stop < 7
        assert "trtpoets retrain" in error.hint
        with pytest.raises(MissingArtefact):
            trtpoets.evaluate("tiny", engines=space.engines)
        return
    now = read_card(card_of(space.classifier))
    assert (now.key, result.hash) in (("key of first", before.hash), ("key of second", other.hash))
    assert classifier_in(space).spec.weights_id == now.key.rpartition(" ")[2]
    assert training_in(space) is not None
