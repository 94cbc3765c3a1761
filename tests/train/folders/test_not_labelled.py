"""Errors for archives, detection data sets and photos without labels."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.photo_folders import CLASSES, HALVES, classes, flat, photos, table
from trtpoets.core.errors import BadInput
from trtpoets.train.dataset import dataset_from_folder


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
    with raises(BadInput, "TP2058") as caught:
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
    with raises(BadInput, "TP2059", "it is a photo"):
        dataset_from_folder(path)
    with raises(BadInput, "TP2059") as caught:
        dataset_from_folder(table(tmp_path / "l.csv", [("id", "label")]))
    assert "--labels" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "code", "values"),
    [
        ("yolo", "TP2060", ("r000.txt", "YOLO")),
        ("coco", "TP2060", ("all.json", "COCO")),
        ("voc", "TP2060", ("r000.xml", "Pascal VOC")),
        ("csv", "TP2040", ("_annotations.csv", "xmin, ymin")),
    ],
)
def test_detection_data_sets_are_named(tmp_path: Path, kind: str, code: str, values: tuple[str, str]) -> None:
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
    with raises(BadInput, code, *values):
        dataset_from_folder(tmp_path, HALVES)
