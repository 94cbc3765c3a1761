"""Photo folders as people have them: split folders, files of labels, and what lies around them."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.photos import make_photo
from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Split
from trtpoets.core.workspace import Workspace, seal_card
from trtpoets.train.dataset import Dataset, DatasetConfig, dataset_from_folder, dataset_from_json
from trtpoets.train.folders.label_files import read_rows, table_from_file

HALVES = DatasetConfig(validation_percent=30, test_percent=30)
STRICT = DatasetConfig(validation_percent=30, test_percent=30, strict=True)
CLASSES = ("rose", "tulip")


def photos(folder: Path, label: int, count: int, start: int = 0, stem: str = "") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}{number:03}.jpg" for number in range(start, start + count)]
    for number, path in enumerate(paths, start):
        make_photo(label, number, (8, 8)).save(path)
    return paths


def classes(folder: Path, count: int = 12, start: int = 0, names: Iterable[str] = CLASSES) -> Path:
    for label, name in enumerate(names):
        photos(folder / name, label, count, start)
    return folder


def flat(folder: Path, count: int = 12, start: int = 0) -> dict[str, str]:
    """Photos of all classes in one folder; the label of each file name."""
    return {
        path.name: name
        for label, name in enumerate(CLASSES)
        for path in photos(folder, label, count, start, stem=name[0])
    }


def table(path: Path, rows: Iterable[Iterable[object]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)
    return path


def counts(dataset: Dataset) -> dict[str, int]:
    return {split.value: len(dataset.in_split(split)) for split in Split}


def labels_by_name(dataset: Dataset) -> Mapping[str, str]:
    return {photo.path.name: photo.label for photo in dataset.photos}


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
    again = dataset_from_json(json.loads(json.dumps(to_json(dataset.document))))
    assert again == dataset


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


def test_a_test_folder_without_labels_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    classes(tmp_path / "train", 20)
    photos(tmp_path / "test", 0, 9, 50)
    dataset = dataset_from_folder(tmp_path, HALVES)
    assert len(dataset.photos) == 40 and not dataset.splits_given
    assert "test has no class folders, so its photos have no labels and are not used" in caplog.text


def test_a_class_without_test_photos_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    classes(tmp_path / "train", 8)
    classes(tmp_path / "val", 4, 50)
    photos(tmp_path / "test" / "rose", 0, 4, 70)
    dataset_from_folder(tmp_path, HALVES)
    assert "there is no test photo of class 'tulip'" in caplog.text
    photos(tmp_path / "test" / "lily", 3, 4, 70)
    with pytest.raises(BadInput, match="there is no training photo of class 'lily'"):
        dataset_from_folder(tmp_path, HALVES)


def test_the_same_photo_in_two_given_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, name in enumerate(("train", "val", "test")):
        classes(tmp_path / name, 5, 20 * number)
    shutil.copy(tmp_path / "train" / "rose" / "000.jpg", tmp_path / "test" / "rose" / "copy.jpg")
    dataset = dataset_from_folder(tmp_path, HALVES)
    assert counts(dataset) == {"train": 10, "validation": 10, "test": 11}
    assert "1 photo is in several of the given splits with equal bytes" in caplog.text
    with pytest.raises(BadInput, match="in several of the given splits"):
        dataset_from_folder(tmp_path, STRICT)


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
    with pytest.raises(BadInput, match="'Images' beside 'rose', 'tulip'") as caught:
        dataset_from_folder(tmp_path, HALVES)
    assert "--class-folders" in caught.value.hint


@pytest.mark.parametrize("names", [("train", "test"), ("images", "masks"), ("Test", "valid"), ("images", "labels")])
def test_roles_are_never_classes_silently(tmp_path: Path, names: tuple[str, str]) -> None:
    classes(tmp_path, 20, names=names)
    with pytest.raises(BadInput, match="no class folders and no label file"):
        dataset_from_folder(tmp_path, HALVES)
    assert set(dataset_from_folder(tmp_path, DatasetConfig(30, 30, class_folders=True)).labels) == set(names)


@pytest.mark.parametrize("names", [("mask", "no_mask"), ("raw", "half-raw", "ripe"), ("labels", "no labels")])
def test_a_name_of_a_role_that_another_class_repeats_is_a_class(tmp_path: Path, names: tuple[str, ...]) -> None:
    classes(tmp_path, 20, names=names)
    assert dataset_from_folder(tmp_path, HALVES).labels == tuple(sorted(names))


def test_a_given_split_without_photos_names_the_files_that_were_left_out(tmp_path: Path) -> None:
    classes(tmp_path / "test", 20, start=100)
    photos(tmp_path / "train" / "tulip", 1, 20)
    for number in range(3):
        (tmp_path / "train" / "rose").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / "rose" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    with pytest.raises(BadInput, match=r"there is no training photo of class 'rose'\. Left out: 0\.jpg and 2 more"):
        dataset_from_folder(tmp_path, HALVES)


@pytest.mark.parametrize("wrapper", ["flowers/flowers", "images", "data/photos", "my flowers"])
def test_a_folder_around_the_classes_is_entered(tmp_path: Path, wrapper: str) -> None:
    classes(tmp_path / wrapper, 20)
    assert dataset_from_folder(tmp_path, STRICT).labels == CLASSES


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


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_dialects_of_csv(tmp_path: Path, delimiter: str, encoding: str) -> None:
    truth = flat(tmp_path, 20)
    lines = ["id,label", *(f'"{name}","{label}"' for name, label in truth.items())]
    (tmp_path / "l.csv").write_text("\r\n".join(lines).replace(",", delimiter) + "\r\n", encoding=encoding)
    assert labels_by_name(dataset_from_folder(tmp_path, HALVES)) == truth


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


def test_one_hot_columns_as_roboflow_exports_them(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "valid", "test")):
        truth = flat(tmp_path / part, 6 - number, 20 * number)
        rows = [(name, int(label == "rose"), int(label == "tulip")) for name, label in truth.items()]
        table(tmp_path / part / "_classes.csv", [("filename", "rose", "tulip"), *rows])
    dataset = dataset_from_folder(tmp_path, STRICT)
    assert counts(dataset) == {"train": 12, "validation": 10, "test": 8}
    table(tmp_path / "train" / "_classes.csv", [("filename", "rose", "tulip"), ("r000.jpg", 1, 1)])
    with pytest.raises(BadInput, match="multi-label"):
        dataset_from_folder(tmp_path, DatasetConfig(labels="train/_classes.csv"))


def test_a_column_with_several_labels_a_photo(tmp_path: Path) -> None:
    rows = [(name, label, 30) for name, label in flat(tmp_path / "images", 20).items()]
    table(tmp_path / "entries.csv", [("Image Index", "Finding Labels", "Age"), *rows])
    assert dataset_from_folder(tmp_path, HALVES).layout.label_column == "Finding Labels"
    table(
        tmp_path / "entries.csv", [("Image Index", "Finding Labels", "Age"), *rows[1:], (rows[0][0], "rose|tulip", 1)]
    )
    with pytest.raises(BadInput, match="multi-label"):
        dataset_from_folder(tmp_path, HALVES)


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
    with pytest.raises(BadInput, match=r"several label files that contradict each other: 'a\.csv', 'b\.csv'") as caught:
        dataset_from_folder(tmp_path, HALVES)
    assert "--labels" in caught.value.hint
    for labels in ("b.csv", str(tmp_path / "b.csv")):
        assert dataset_from_folder(tmp_path, DatasetConfig(30, 30, labels=labels)).labels == ("ROSE", "TULIP")


def test_class_folders_and_a_file_that_contradicts_them(tmp_path: Path) -> None:
    classes(tmp_path / "set", 20, names=("part_1", "part_2"))
    rows = [(f"{part}/{n:03}.jpg", CLASSES[n % 2]) for part in ("part_1", "part_2") for n in range(20)]
    table(tmp_path / "set" / "meta.csv", [("path", "label"), *rows])
    with pytest.raises(BadInput, match="gives their photos other labels") as caught:
        dataset_from_folder(tmp_path, HALVES)
    assert "--labels" in caught.value.hint and "--class-folders" in caught.value.hint


@pytest.mark.parametrize("name", ["my photos.zip", "it's.tar.gz", "a.tar", "b.tgz", "c.tar.xz"])
def test_the_command_for_an_archive_unpacks_it(tmp_path: Path, name: str) -> None:
    source, path = classes(tmp_path / "source", 2), tmp_path / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as packed:
            for item in source.rglob("*.jpg"):
                packed.write(item, item.relative_to(tmp_path))
        if not shutil.which("unzip"):
            pytest.skip("unzip is not installed")
    else:
        mode = {"gz": "w:gz", "gz2": "", "xz": "w:xz"}.get(name.rpartition(".")[2].replace("tgz", "gz"), "w")
        with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
            packed.add(source, "source")
    with pytest.raises(BadInput, match="is an archive") as caught:
        dataset_from_folder(path)
    command, _, run = caught.value.hint.removeprefix("unpack it: ").rpartition(" && ")
    subprocess.run(["bash", "-ec", command], check=True)
    assert dataset_labels(Path(shlex.split(run)[2])) == CLASSES


def dataset_labels(folder: Path) -> tuple[str, ...]:
    """The labels of a folder whose photos are too few for a dataset."""
    from trtpoets.train.folders.layout_detection import labelled_files

    return tuple(sorted({file.label for file in labelled_files(folder, HALVES).files}))


def test_a_photo_or_a_csv_file_is_no_folder(tmp_path: Path) -> None:
    (path,) = photos(tmp_path, 0, 1)
    with pytest.raises(BadInput, match="is not a folder, it is a photo"):
        dataset_from_folder(path)
    with pytest.raises(BadInput, match="is not a folder") as caught:
        dataset_from_folder(table(tmp_path / "l.csv", [("id", "label")]))
    assert "--labels" in caught.value.hint


def litter(folder: Path) -> None:
    for place in (folder, folder / "rose"):
        for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._000.jpg", "README.txt", "LICENSE", "x.jpg.part"):
            (place / name).write_bytes(b"\0\1")
    (folder / "rose" / "000.xml").write_text("<annotation/>")
    (folder / "rose" / "000.jpg.json").write_text("{}")
    for name in ("__MACOSX", "lost+found", "@eaDir", "#recycle", "$RECYCLE.BIN", ".git", ".ipynb_checkpoints"):
        (folder / name / "rose").mkdir(parents=True)
        (folder / name / "x.jpg").write_bytes(b"\0")
    (folder / "rose" / "@eaDir").mkdir()
    (folder / "env").mkdir()
    (folder / "env" / "pyvenv.cfg").write_text("home = /usr")


def test_what_systems_and_tools_write_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    before = dataset_from_folder(classes(tmp_path, 20), STRICT)
    litter(tmp_path)
    dataset = dataset_from_folder(tmp_path, STRICT)
    assert dataset.photos == before.photos and not dataset.left_out
    assert "2 Thumbs.db" in caplog.text


def test_what_trtpoets_writes_is_ignored(tmp_path: Path) -> None:
    before = dataset_from_folder(classes(tmp_path, 20), STRICT)
    for folder in ("engines", "other name"):
        space = Workspace(tmp_path / folder, "flowers")
        space.folder.mkdir(parents=True)
        space.lock.touch()
        assert dataset_from_folder(tmp_path, STRICT).photos == before.photos
        seal_card(space.dataset, key=before.hash, files=[], details=before.document)
        photos(space.golden, 1, 3)
    seal_card(tmp_path / "run" / "training.json", key=before.hash, files=[], details={})
    assert dataset_from_folder(tmp_path, STRICT).photos == before.photos
    with pytest.raises(BadInput, match="is not a folder of photos"):
        dataset_from_folder(tmp_path / "engines", STRICT)


def test_a_class_that_is_called_engines(tmp_path: Path) -> None:
    assert "engines" in dataset_from_folder(classes(tmp_path, 20, names=("engines", "wheels")), STRICT).labels


def test_a_folder_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    listed = os.listdir

    def listdir(path: Path) -> list[str]:
        if Path(path).name == "private":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    classes(tmp_path, 20)
    (tmp_path / "private").mkdir()
    monkeypatch.setattr(os, "listdir", listdir)
    assert dataset_from_folder(tmp_path, STRICT).labels == CLASSES
    assert "private cannot be read (Permission denied) and is ignored" in caplog.text


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("rose\u00a0", r"'rose' and 'rose\\xa0' differ by white space"),
        (" rose", "differ by white space"),
        ("ro\u200bse", r"ro\\u200bse"),
        ("Rose", "differ by case only"),
    ],
)
def test_class_names_that_look_alike(tmp_path: Path, other: str, message: str) -> None:
    classes(tmp_path, 2, names=("rose", other, "tulip"))
    with pytest.raises(BadInput, match=message):
        dataset_from_folder(tmp_path, HALVES)


def test_class_names_in_two_unicode_forms(tmp_path: Path) -> None:
    classes(tmp_path, 2, names=[unicodedata.normalize(form, "r\u00f6se") for form in ("NFC", "NFD")])
    with pytest.raises(BadInput, match=r"'ro\\u0308se' and 'r\\xf6se' are the same text in two Unicode forms"):
        dataset_from_folder(tmp_path, HALVES)


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc", "csv"])
def test_detection_data_sets_are_named(tmp_path: Path, kind: str) -> None:
    for part in ("train", "valid"):
        flat(tmp_path / part / "images", 3)
        labels = tmp_path / part / "labels"
        labels.mkdir()
        if kind == "yolo":
            (labels / "r000.txt").write_text("0 0.5 0.5 0.1 0.2\n1 0.5 0.5 0.1 0.2\n")
        elif kind == "coco":
            (labels / "all.json").write_text('{"images": [], "annotations": [{"bbox": [1, 2, 3, 4]}]}')
        elif kind == "voc":
            (labels / "r000.xml").write_text("<annotation><object><bndbox></bndbox></object></annotation>")
        else:
            rows = [("filename", "class", "xmin", "ymin"), ("r000.jpg", "rose", 1, 2)]
            table(tmp_path / part / "_annotations.csv", rows)
    with pytest.raises(BadInput, match="detection"):
        dataset_from_folder(tmp_path, HALVES)


def test_the_hint_for_a_folder_too_deep_names_no_split(tmp_path: Path) -> None:
    photos(tmp_path / "rose", 0, 5)
    classes(tmp_path / "more", 5)
    with pytest.raises(BadInput, match="one level deep") as caught:
        dataset_from_folder(tmp_path, HALVES)
    assert f"trtpoets run {tmp_path / 'more'} --name NAME" in caught.value.hint
    (tmp_path / "more" / "rose").rename(tmp_path / "more" / "train")
    with pytest.raises(BadInput, match="one level deep") as caught:
        dataset_from_folder(tmp_path, HALVES)
    assert "trtpoets" not in caught.value.hint


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        table_from_file(path, lambda cell: cell.startswith("a"))
    except BadInput as error:
        assert error.hint


_CELL = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff"), min_size=1, max_size=12
).map(lambda text: "a" + text.strip())


@given(st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=8), st.sampled_from(",;\t"))
def test_written_rows_are_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    path = table(tmp_path_factory.getbasetemp() / "rows.csv", [("id", "label"), *rows], delimiter)
    assert read_rows(path) == (["id", "label"], [list(row) for row in rows])
