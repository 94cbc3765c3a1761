"""Class folders, alone and inside split folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.photo_folders import CLASSES, HALVES, STRICT, classes, counts, photos
from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import to_json
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder, dataset_from_json


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Training", "Validation", "Testing"),
        ("TRAIN", "valid", "Test"),
        ("seg_train", "seg_val", "seg_test"),
    ],
)
@pytest.mark.parametrize("inside", ["", "images", "data/dataset"])
def test_given_splits_are_used(tmp_path: Path, names: tuple[str, str, str], inside: str) -> None:
    for number, (name, count) in enumerate(zip(names, (6, 2, 3), strict=True)):
        classes(tmp_path / inside / name, count, 20 * number)
    dataset = dataset_from_folder(tmp_path, STRICT)
    assert dataset.labels == CLASSES
    assert counts(dataset) == {"train": 12, "validation": 4, "test": 6}
    assert dataset.splits_given
    assert dataset.layout.kind == "split folders" and repr(names[0]) in dataset.layout.understood
    again = dataset_from_json(json.loads(json.dumps(to_json(dataset.document), default=list)))
    assert again == dataset


def test_a_test_folder_without_labels_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    classes(tmp_path / "train", 20)
    photos(tmp_path / "test", 0, 9, 50)
    dataset = dataset_from_folder(tmp_path, HALVES)
    assert len(dataset.photos) == 40 and not dataset.splits_given
    assert "test has no class folders, so its photos have no labels and are not used" in caplog.text


def test_splits_inside_each_class(tmp_path: Path) -> None:
    for label, name in enumerate(CLASSES):
        for number, part in enumerate(("train", "val", "test")):
            photos(tmp_path / name / part, label, 4 - number, 20 * number)
    assert counts(dataset_from_folder(tmp_path, HALVES)) == {"train": 8, "validation": 6, "test": 4}


def test_roles_beside_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    classes(tmp_path, 20)
    photos(tmp_path / "test", 1, 20, 50)
    assert dataset_from_folder(tmp_path, HALVES).labels == CLASSES
    assert "test has 20 photos without labels, which are not used" in caplog.text
    assert set(dataset_from_folder(tmp_path, DatasetConfig(30, 30, class_folders=True)).labels) == {*CLASSES, "test"}
    (tmp_path / "test").rename(tmp_path / "Images")
    with raises(BadInput, "TP2028", "'Images'", "'rose', 'tulip'") as caught:
        dataset_from_folder(tmp_path, HALVES)
    assert "--class-folders" in caught.value.hint


@pytest.mark.parametrize("wrapper", ["flowers/flowers", "images", "data/photos", "my flowers"])
def test_a_folder_around_the_classes_is_entered(tmp_path: Path, wrapper: str) -> None:
    classes(tmp_path / wrapper, 20)
    assert dataset_from_folder(tmp_path, STRICT).labels == CLASSES


def test_the_hint_for_a_folder_too_deep_names_no_split(tmp_path: Path) -> None:
    photos(tmp_path / "rose", 0, 5)
    classes(tmp_path / "more", 5)
    with raises(BadInput, "TP2025") as caught:
        dataset_from_folder(tmp_path, HALVES)
    assert f"trtpoets run {tmp_path / 'more'} --name NAME" in caught.value.hint
    (tmp_path / "more" / "rose").rename(tmp_path / "more" / "train")
    with raises(BadInput, "TP2025") as caught:
        dataset_from_folder(tmp_path, HALVES)
    assert "trtpoets" not in caught.value.hint
