"""Labels from files: which file is used, and how its rows are matched with photos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.photo_folders import HALVES, STRICT, counts, flat, labels_by_name, photos, table
from trtpoets.core.errors import BadInput
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder

HEADS = [
    ("id", "label"),
    ("image_id", "Species"),
    ("FileName", "class"),
    ("Image", "target"),
    ("file_name", "dx"),
    ("foo", "bar"),
]


@pytest.mark.parametrize("head", [*HEADS, None], ids=str)
@pytest.mark.parametrize("suffix", [True, False])
@pytest.mark.parametrize("place", ["", "images", "train"])
def test_a_csv_file_with_labels(tmp_path: Path, head: tuple[str, str] | None, suffix: bool, place: str) -> None:
    truth = flat(tmp_path / place, 20)
    photos(tmp_path / "test", 0, 3, 80)
    rows = [(name if suffix else Path(name).stem, label) for name, label in truth.items()]
    table(tmp_path / "labels.csv", [*([head] if head else []), *rows])
    dataset = dataset_from_folder(tmp_path, STRICT)
    assert labels_by_name(dataset) == truth
    assert dataset.layout.kind == "CSV" and dataset.layout.labels_file == "labels.csv"
    assert not head or (dataset.layout.photo_column, dataset.layout.label_column) == head


def test_the_same_names_in_train_and_test(tmp_path: Path) -> None:
    truth = flat(tmp_path / "train", 20)
    flat(tmp_path / "test", 20, 0)
    table(tmp_path / "train.csv", [("id", "label"), *truth.items()])
    table(tmp_path / "sample_submission.csv", [("id", "label"), *((name, "rose") for name in truth)])
    dataset = dataset_from_folder(tmp_path, HALVES)
    assert {photo.path.parent.name for photo in dataset.photos} == {"train"}
    assert not dataset.splits_given


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_of_an_image_folder(tmp_path: Path, kind: str) -> None:
    for number, part in enumerate(("train", "validation", "test")):
        truth = flat(tmp_path / part, 6 - number, 20 * number)
        if kind == "csv":
            table(tmp_path / part / "metadata.csv", [("file_name", "label"), *truth.items()])
        else:
            lines = [json.dumps({"file_name": name, "label": label}) for name, label in truth.items()]
            (tmp_path / part / "metadata.jsonl").write_text("\n".join(lines))
    dataset = dataset_from_folder(tmp_path, STRICT)
    assert counts(dataset) == {"train": 12, "validation": 10, "test": 8}
    assert dataset.splits_given


def test_a_column_of_splits(tmp_path: Path) -> None:
    truth = flat(tmp_path / "images", 10)
    rows = [(f"images/{n}", label, ("train", "val", "test")[k % 3]) for k, (n, label) in enumerate(truth.items())]
    table(tmp_path / "all.csv", [("path", "label", "split"), *rows])
    dataset = dataset_from_folder(tmp_path, STRICT)
    assert counts(dataset) == {"train": 7, "validation": 7, "test": 6}
    assert dataset.layout.split_column == "split"


def test_rows_and_photos_that_have_no_counterpart_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    truth = flat(tmp_path, 20)
    photos(tmp_path / "test", 0, 4, 60, "x")
    table(tmp_path / "l.csv", [("id", "label"), *truth.items(), ("gone.jpg", "rose"), ("x060", "")])
    dataset_from_folder(tmp_path, HALVES)
    assert "1 rows of 'l.csv' name no existing photo" in caplog.text
    assert "1 rows of 'l.csv' have no label" in caplog.text
    assert "4 photos have no label in 'l.csv': 4 in 'test'" in caplog.text


def test_several_files_of_labels(tmp_path: Path) -> None:
    truth = flat(tmp_path, 20)
    table(tmp_path / "a.csv", [("id", "label"), *truth.items()])
    table(tmp_path / "b.csv", [("id", "label"), *((name, label.upper()) for name, label in truth.items())])
    with raises(BadInput, "TP2049", "'a.csv', 'b.csv'") as caught:
        dataset_from_folder(tmp_path, HALVES)
    assert "--labels" in caught.value.hint
    for labels in ("b.csv", str(tmp_path / "b.csv")):
        assert dataset_from_folder(tmp_path, DatasetConfig(30, 30, labels=labels)).labels == ("ROSE", "TULIP")
