"""Folders of photos in classes, and label files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.support.photos import make_photo
from trtpoets.core.types import Split
from trtpoets.train.dataset import Dataset, DatasetConfig

CLASSES = ("rose", "tulip")
HALVES = DatasetConfig(validation_percent=30, test_percent=30)
STRICT = DatasetConfig(validation_percent=30, test_percent=30, strict=True)


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
