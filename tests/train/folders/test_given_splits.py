"""Splits that a folder gives: kept, completed from training photos, and checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.photo_folders import HALVES, STRICT, classes, counts, photos
from trtpoets.core.errors import BadInput
from trtpoets.train.dataset import dataset_from_folder


def test_a_missing_split_is_taken_from_training(tmp_path: Path) -> None:
    classes(tmp_path / "train", 30)
    classes(tmp_path / "test", 5, 50)
    dataset = dataset_from_folder(tmp_path, HALVES)
    assert counts(dataset)["test"] == 10
    assert counts(dataset)["validation"] > 5
    shutil.rmtree(tmp_path / "test")
    classes(tmp_path / "val", 5, 50)
    dataset = dataset_from_folder(tmp_path, HALVES)
    assert counts(dataset)["validation"] == 10
    assert counts(dataset)["test"] > 5


def test_a_class_without_test_photos_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    classes(tmp_path / "train", 8)
    classes(tmp_path / "val", 4, 50)
    photos(tmp_path / "test" / "rose", 0, 4, 70)
    dataset_from_folder(tmp_path, HALVES)
    assert "there is no test photo of class 'tulip'" in caplog.text
    photos(tmp_path / "test" / "lily", 3, 4, 70)
    with raises(BadInput, "TP2032", "training photo of class 'lily'"):
        dataset_from_folder(tmp_path, HALVES)


def test_the_same_photo_in_two_given_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, name in enumerate(("train", "val", "test")):
        classes(tmp_path / name, 5, 20 * number)
    shutil.copy(tmp_path / "train" / "rose" / "000.jpg", tmp_path / "test" / "rose" / "copy.jpg")
    dataset = dataset_from_folder(tmp_path, HALVES)
    assert counts(dataset) == {"train": 10, "validation": 10, "test": 11}
    assert "1 photo is in several of the given splits with equal bytes" in caplog.text
    with raises(BadInput, "TP2034", "several"):
        dataset_from_folder(tmp_path, STRICT)


def test_a_given_split_without_photos_names_the_files_that_were_left_out(tmp_path: Path) -> None:
    classes(tmp_path / "test", 20, start=100)
    photos(tmp_path / "train" / "tulip", 1, 20)
    for number in range(3):
        (tmp_path / "train" / "rose").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / "rose" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    with raises(BadInput, "TP2032", "training photo of class 'rose'", "0.jpg is not", ", like 2 more files ("):
        dataset_from_folder(tmp_path, HALVES)


def test_several_classes_without_training_photos_are_named_in_the_plural(tmp_path: Path) -> None:
    for number, label in enumerate(("rose", "tulip", "lily")):
        photos(tmp_path / "test" / label, number, 4, start=100)
    photos(tmp_path / "train" / "tulip", 1, 4)
    with raises(BadInput, "TP2032", "training photo of the classes 'lily', 'rose'") as caught:
        dataset_from_folder(tmp_path, HALVES)
    assert caught.value.hint == "add training photos of them, or remove them from the other splits too"
