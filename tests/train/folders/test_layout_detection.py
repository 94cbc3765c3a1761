"""Photo folders as people have them: split folders, files of labels, and what lies around them."""

from __future__ import annotations

from pathlib import Path

from tests.support.errors import raises
from tests.support.photo_folders import CLASSES, HALVES, STRICT, classes, table
from trtpoets.core.errors import BadInput
from trtpoets.train.dataset import dataset_from_folder


def test_class_folders_and_a_file_that_contradicts_them(tmp_path: Path) -> None:
    classes(tmp_path / "set", 20, names=("part_1", "part_2"))
    rows = [(f"{part}/{n:03}.jpg", CLASSES[n % 2]) for part in ("part_1", "part_2") for n in range(20)]
    table(tmp_path / "set" / "meta.csv", [("path", "label"), *rows])
    with raises(BadInput, "TP2055") as caught:
        dataset_from_folder(tmp_path, HALVES)
    assert "--labels" in caught.value.hint and "--class-folders" in caught.value.hint


def test_a_class_that_is_called_engines(tmp_path: Path) -> None:
    assert "engines" in dataset_from_folder(classes(tmp_path, 20, names=("engines", "wheels")), STRICT).labels
