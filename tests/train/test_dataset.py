"""A folder of class folders becomes a Dataset, whatever lies in it."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.support.errors import raises
from tests.support.photos import make_photo, photo_folder
from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.files import read_json, write_json
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Split
from trtpoets.train.dataset import Dataset, DatasetConfig, LeftOut, _reasons, dataset_from_folder, dataset_from_json
from trtpoets.train.folders.photo_files import CheckedFile

HALVES = DatasetConfig(validation_percent=30, test_percent=30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", {"roses": 40, "tulips": 40}, size=(16, 12))


def splits(dataset: Dataset) -> dict[tuple[str, str], Split]:
    return {(photo.label, photo.sha256): photo.split for photo in dataset.photos}


def test_each_photo_is_labelled_hashed_and_in_one_split(folder: Path) -> None:
    dataset = dataset_from_folder(folder, HALVES)
    assert dataset.labels == ("roses", "tulips")
    assert len(dataset.photos) == 80
    assert [photo.path for photo in dataset.photos] == sorted(folder.glob("*/*.jpg"))
    for label, counts in dataset.counts.items():
        assert sum(counts.values()) == 40
        for split in Split:
            assert counts[split.value] == sum(photo.label == label for photo in dataset.in_split(split)) > 0
    assert dataset.left_out == dataset.duplicates == dataset.contradictions == ()


def test_renaming_moving_and_adding_photos_moves_no_other(folder: Path, tmp_path: Path) -> None:
    before = dataset_from_folder(folder, HALVES)
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    for number, path in enumerate(sorted(moved.glob("*/*.jpg"))):
        path.rename(path.with_name(f"renamed {number}.png"))
    again = dataset_from_folder(moved, HALVES)
    assert splits(again) == splits(before)
    assert again.hash == before.hash
    for number in range(100, 130):
        make_photo(0, number, (16, 12)).save(moved / "roses" / f"{number}.jpg")
    (moved / "lilies").mkdir()
    for number in range(40):
        make_photo(3, number, (16, 12)).save(moved / "lilies" / f"{number}.jpg")
    grown = dataset_from_folder(moved, HALVES)
    assert splits(before).items() <= splits(grown).items()
    assert grown.hash != before.hash


def test_json_and_back(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "roses" / "0000.jpg", folder / "roses" / "copy.jpg")
    shutil.copy(folder / "roses" / "0001.jpg", folder / "tulips" / "stray.jpg")
    (folder / "roses" / "0002.jpg").rename(folder / "roses" / "caf\udce9.jpg")
    (folder / "roses" / "notes.txt").write_text("hello")
    dataset = dataset_from_folder(folder, HALVES)
    write_json(tmp_path / "dataset.json", to_json(dataset.document))
    again = dataset_from_json(read_json(tmp_path / "dataset.json"))
    assert again == dataset
    assert again.hash == dataset.hash
    assert any(photo.path.name == "caf\udce9.jpg" for photo in again.photos)
    assert all(photo.path.is_file() for photo in again.photos)


def test_json_of_another_kind_is_refused() -> None:
    with raises(BadArtefact, "TP2011", "folder is missing"):
        dataset_from_json({"labels": []})
    with raises(BadArtefact, "TP2011", "labels is missing"):
        dataset_from_json(json.loads('{"folder": "x", "photos": 3}'))


def test_all_files_that_are_left_out_are_recorded(folder: Path) -> None:
    dataset = dataset_from_folder(folder, HALVES)
    lacking = tuple(LeftOut(folder / f"{number}.txt", "is no photo") for number in range(1500))
    value = to_json(replace(dataset, left_out=lacking).document)
    assert [item["path"] for item in value["left_out"]] == [f"{number}.txt" for number in range(1500)]
    assert value["left_out_count"] == 1500
    assert to_json(dataset_from_json(value).document) == value


def test_copies_share_a_split_and_are_reported(folder: Path) -> None:
    for number in range(20):
        shutil.copy(folder / "roses" / f"{number:04}.jpg", folder / "roses" / f"copy{number}.jpg")
    dataset = dataset_from_folder(folder, HALVES)
    assert len(dataset.photos) == 100
    assert len(dataset.duplicates) == 20
    split_of = {photo.path: photo.split for photo in dataset.photos}
    for group in dataset.duplicates:
        assert len(group) == 2
        assert len({split_of[path] for path in group}) == 1


def test_a_photo_under_two_labels_is_left_out_under_both(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = dataset_from_folder(folder, HALVES)
    shutil.copy(folder / "roses" / "0000.jpg", folder / "tulips" / "stray.jpg")
    dataset = dataset_from_folder(folder, HALVES)
    pair = (folder / "roses" / "0000.jpg", folder / "tulips" / "stray.jpg")
    assert dataset.contradictions == (pair,)
    reason = "has an identical copy under another label"
    assert {(x.path, x.reason) for x in dataset.left_out} == {(path, reason) for path in pair}
    assert len(dataset.photos) == 79
    assert splits(dataset).items() <= splits(before).items()
    assert "2 files" in caplog.text and "stray.jpg has an identical copy under another label" in caplog.text
    with raises(BadInput, "TP2016", "2", "stray.jpg", reason):
        dataset_from_folder(folder, DatasetConfig(30, 30, strict=True))


def test_broken_files_are_left_out_with_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = (folder / "roses" / "0000.jpg").read_bytes()
    (folder / "roses" / "empty.jpg").write_bytes(b"")
    (folder / "roses" / "half.jpg").write_bytes(whole[:-20])
    (folder / "tulips" / "notes.jpg").write_text("no photo")
    (folder / "tulips" / "nowhere.jpg").symlink_to(folder / "gone.jpg")
    os.mkfifo(folder / "tulips" / "pipe.jpg")
    dataset = dataset_from_folder(folder, HALVES)
    reasons = {x.path.name: x.reason for x in dataset.left_out}
    assert set(reasons) == {"empty.jpg", "half.jpg", "notes.jpg", "nowhere.jpg", "pipe.jpg"}
    assert reasons["empty.jpg"] == "is empty"
    assert reasons["half.jpg"].startswith("can't be decoded: ")
    assert reasons["notes.jpg"].startswith("is not a photo that can be read")
    assert reasons["nowhere.jpg"] == "is a broken link"
    assert reasons["pipe.jpg"] == "is not a regular file"
    assert len(dataset.photos) == 80
    assert "5 files in" in caplog.text and "roses/empty.jpg is empty" in caplog.text
    with raises(BadInput, "TP2016", "5 files", "roses/empty.jpg is empty") as caught:
        dataset_from_folder(folder, DatasetConfig(30, 30, strict=True))
    assert caught.value.hint == "repair or delete them, or omit --strict"


def test_hidden_files_and_files_beside_the_classes_are_passed_over(folder: Path) -> None:
    before = dataset_from_folder(folder, HALVES)
    (folder / ".directory").write_text("[Desktop Entry]")
    (folder / "labels.txt").write_text("roses\ntulips\n")
    (folder / "roses" / ".DS_Store").write_bytes(b"\0")
    (folder / ".ipynb_checkpoints").mkdir()
    assert dataset_from_folder(folder, DatasetConfig(30, 30, strict=True)).photos == before.photos


def test_links_are_followed(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    (linked / "roses").mkdir(parents=True)
    (linked / "tulips").symlink_to(folder / "tulips")
    for path in (folder / "roses").iterdir():
        (linked / "roses" / path.name).symlink_to(path)
    assert dataset_from_folder(linked, HALVES).hash == dataset_from_folder(folder, HALVES).hash


def test_loops_of_links_end(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "roses" / "again").symlink_to(folder)
    (folder / "roses" / "itself.jpg").symlink_to("itself.jpg")
    dataset = dataset_from_folder(folder, HALVES)
    assert len(dataset.photos) == 80
    assert [x.path.name for x in dataset.left_out] == ["itself.jpg"]
    assert "folders inside class 'roses' are ignored: 'again'" in caplog.text
    (folder / "loop").symlink_to(folder)
    with raises(BadInput, "TP2025", "loop", "'loop', 'roses', 'tulips'"):
        dataset_from_folder(folder, HALVES)


def test_photos_one_level_too_deep_are_found(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert dataset_from_folder(folder.parent, HALVES).hash == dataset_from_folder(folder, HALVES).hash
    assert " are in 'photos'" in caplog.text


def test_an_empty_folder_is_no_class(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "lilies").mkdir()
    assert dataset_from_folder(folder, HALVES).labels == ("roses", "tulips")
    assert "lilies is empty, so it is not used as a class" in caplog.text


@pytest.mark.parametrize("name", ["wild roses", "it's", 'the "rose"', "🌹", "röse", "$(rm)", "100%", "-x", "a\\b"])
def test_class_names_are_kept_as_written(tmp_path: Path, name: str) -> None:
    folder = photo_folder(tmp_path, {name: 30, "tulips": 30}, size=(16, 12))
    assert set(dataset_from_folder(folder, HALVES).labels) == {name, "tulips"}


@pytest.mark.parametrize(
    ("name", "code", "values"),
    [
        (b"ros\xe9s", "TP2029", (r"b'ros\xe9s'",)),
        (b"ro\nses", "TP2030", (r"'ro\nses'",)),
        (b"TULIPS", "TP2031", ("'TULIPS'", "'tulips'", "case")),
    ],
)
def test_class_names_that_are_refused(folder: Path, name: bytes, code: str, values: tuple[str, ...]) -> None:
    (folder / "roses").rename(folder / os.fsdecode(name))
    with raises(BadInput, code, *values) as caught:
        dataset_from_folder(folder)
    assert "rename" in caught.value.hint


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    with raises(BadInput, "TP2053", "gone") as caught:
        dataset_from_folder(tmp_path / "gone")
    assert "PHOTOS/roses/1.jpg" in caught.value.hint
    (tmp_path / "file").write_text("x")
    with raises(BadInput, "TP2059", "file"):
        dataset_from_folder(tmp_path / "file")
    with raises(BadInput, "TP2062", "class folders"):
        dataset_from_folder(tmp_path)
    (tmp_path / "roses").mkdir()
    with raises(BadInput, "TP2062", "usable photo"):
        dataset_from_folder(tmp_path)
    photo_folder(tmp_path, {"roses": 3})
    with raises(BadInput, "TP2015", "'roses'"):
        dataset_from_folder(tmp_path)
    (tmp_path / "tulips").mkdir()
    (tmp_path / "tulips" / "1.jpg").write_text("no photo")
    with raises(BadInput, "TP2014", "'tulips'"):
        dataset_from_folder(tmp_path)


def test_a_class_too_small_to_test_is_named_with_the_least_number(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path, {"roses": 60, "tulips": 2}, size=(16, 12))
    with raises(BadInput, "TP2077", "class 'tulips' has 2 photos", "test split") as caught:
        dataset_from_folder(folder)
    assert "needs at least 3; with 35 in each, every class gets one in 19 of 20 cases" in caught.value.hint


def test_the_folder_is_read_with_progress(folder: Path) -> None:
    seen = []
    dataset_from_folder(folder, HALVES, lambda task, done, total: seen.append((task, done, total)))
    assert seen == [("photos", number, 80) for number in range(1, 81)]


def test_five_hundred_classes(tmp_path: Path) -> None:
    for label in range(500):
        (tmp_path / f"{label:04}").mkdir()
        for number in range(5):
            Image.new("RGB", (2, 2), (label % 256, label // 256, number)).save(
                tmp_path / f"{label:04}" / f"{number}.bmp"
            )
    with raises(BadInput, "TP2077", "class '0000'", "5 photos", "test split") as caught:
        dataset_from_folder(tmp_path)
    others = re.search(r"\d+(?= more)", caught.value.message)
    assert others and 0 < int(others.group()) < 500


@pytest.mark.parametrize(("copies", "others"), [(1, ""), (2, ", like 1 more file"), (20, ", like 19 more files")])
def test_the_verb_about_a_counted_file_agrees_with_it(tmp_path: Path, copies: int, others: str) -> None:
    folder = photo_folder(tmp_path, {"roses": 30, "tulips": 30}, size=(16, 12))
    (folder / "lilies").mkdir()
    for number in range(copies):
        shutil.copy(folder / "roses" / f"{number:04}.jpg", folder / "lilies" / f"{number:04}.jpg")
    text = f"0000.jpg has an identical copy under another label{others} (keep it under one label)"
    with raises(BadInput, "TP2014", "class 'lilies'", text):
        dataset_from_folder(folder, HALVES)


def test_files_left_out_for_more_reasons_than_are_named_are_counted(tmp_path: Path) -> None:
    reasons = [LeftOut(tmp_path / f"{number}.jpg", f"is bad in way {number}", "delete it") for number in range(7)]
    checked = [CheckedFile(entry.path, "roses", "", entry.reason, entry.remedy) for entry in reasons]
    for count, text in ((6, "and 1 more file"), (7, "and 2 more files")):
        assert _reasons(["roses"], checked, reasons[:count]).endswith(f"; {text}")
