"""The photos of a dataset as columns of arrays: about 80 bytes for a photo, where a Photo with its Path takes 600."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np

from trtpoets.core.long_lists import LongList
from trtpoets.core.types import Photo, Split

SPLITS = tuple(Split)
"""The order in which splits are numbered."""

_SHA256 = re.compile("[0-9a-f]{64}")

_NOT_PLAIN = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")
"""Finds empty parts of a path, `.` and `..`: such a path is not what `os.path.relpath` returns."""


@dataclass(frozen=True, eq=False)
class _Columns:
    """The photos before some of them are chosen. `paths` are those below `root`, one after the other, in UTF-8.

    `ends` int64 (N + 1,) are their ends; `label_of`, int32 (N,), numbers `labels`, and `split_of`, uint8 (N,), SPLITS.
    `digests` are bytes of 32, (N,), and `levels` int32 (N,).
    """

    root: Path
    labels: tuple[str, ...]
    paths: bytes
    ends: np.ndarray
    label_of: np.ndarray
    split_of: np.ndarray
    digests: np.ndarray
    levels: np.ndarray

    def path(self, row: int) -> str:
        return self.paths[self.ends[row] : self.ends[row + 1]].decode("utf-8", "surrogateescape")


class PhotoTable(Sequence[Photo]):
    """Photos, each of which is made when it is accessed. Immutable; equal to any sequence with equal photos."""

    def __init__(self, columns: _Columns, rows: np.ndarray | None = None) -> None:
        """`rows`, int64 (n,), chooses some of the photos in `columns`; None is all of them."""
        self._columns, self._rows = columns, rows

    def __len__(self) -> int:
        return len(self._columns.label_of) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Photo: ...

    @overload
    def __getitem__(self, index: slice) -> PhotoTable: ...

    def __getitem__(self, index: int | slice) -> Photo | PhotoTable:
        if isinstance(index, slice):
            return self.at(np.arange(*index.indices(len(self))))
        columns, row = self._columns, self._row(range(len(self))[index])
        return Photo(
            columns.root / columns.path(row),
            columns.labels[columns.label_of[row]],
            SPLITS[columns.split_of[row]],
            self._sha256(row),
            int(columns.levels[row]),
        )

    def __iter__(self) -> Iterator[Photo]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (PhotoTable, tuple, list)):
            return NotImplemented
        if isinstance(other, PhotoTable):
            return self._equals_table(other)
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash((len(self), *self.sha256s[:10]))

    def at(self, rows: np.ndarray) -> PhotoTable:
        """Return the photos with the indices `rows`, int (n,)."""
        return PhotoTable(self._columns, rows if self._rows is None else self._rows[rows])

    def in_split(self, *splits: Split) -> PhotoTable:
        """Return the photos of a split, or of several, in their order."""
        return self.at(self.rows_in(*splits))

    def rows_in(self, *splits: Split) -> np.ndarray:
        """Return the indices of the photos of a split, or of several, int64 (n,), ascending."""
        return np.flatnonzero(np.isin(self.split_numbers, [SPLITS.index(split) for split in splits]))

    def with_splits(self, splits: Iterable[Split]) -> PhotoTable:
        """Return the photos with other splits."""
        return self._with_split_numbers(np.fromiter(map(SPLITS.index, splits), np.uint8, len(self)))

    def with_splits_of(self, others: PhotoTable) -> PhotoTable:
        """Return the photos with the splits that photos of equal bytes have in `others`; the last one counts.

        Photos that are not in `others` keep theirs.
        """
        if not len(others):
            return self
        order = np.argsort(others.digests, kind="stable")
        place = np.maximum(np.searchsorted(others.digests, self.digests, side="right", sorter=order) - 1, 0)
        found = others.digests[order[place]] == self.digests
        return self._with_split_numbers(np.where(found, others.split_numbers[order[place]], self.split_numbers))

    def _with_split_numbers(self, numbers: np.ndarray) -> PhotoTable:
        split_of = self._columns.split_of.copy()
        split_of[slice(None) if self._rows is None else self._rows] = numbers
        return PhotoTable(replace(self._columns, split_of=split_of), self._rows)

    def with_labels(self, renamed: Mapping[str, str]) -> PhotoTable:
        """Return the photos with other labels, by their present labels."""
        labels = tuple(renamed.get(label, label) for label in self._columns.labels)
        return PhotoTable(replace(self._columns, labels=labels), self._rows)

    @property
    def split_numbers(self) -> np.ndarray:
        """The place in SPLITS of each photo's split, uint8 (N,)."""
        return self._chosen(self._columns.split_of)

    @property
    def levels(self) -> np.ndarray:
        """The `levels` of each photo, int32 (N,)."""
        return self._chosen(self._columns.levels)

    @property
    def digests(self) -> np.ndarray:
        """The sha256 of each photo, in bytes of dtype S32, (N,)."""
        return self._chosen(self._columns.digests)

    @property
    def sha256s(self) -> LongList[str]:
        """The sha256 of each photo, as in `Photo`."""
        return LongList(len(self), lambda index: self._sha256(self._row(index)))

    @property
    def files(self) -> LongList[tuple[str, str]]:
        """The file name of each photo, and its sha256."""

        def file(index: int) -> tuple[str, str]:
            row = self._row(index)
            return self._columns.path(row).rpartition("/")[2], self._sha256(row)

        return LongList(len(self), file)

    @property
    def names(self) -> LongList[tuple[str, str]]:
        """The folder of each photo, below a folder of all or whole, and its file name."""

        def name(index: int) -> tuple[str, str]:
            folder, _, file = self._columns.path(self._row(index)).rpartition("/")
            return folder, file

        return LongList(len(self), name)

    @property
    def labels(self) -> LongList[str]:
        """The label of each photo."""
        return LongList(len(self), lambda index: self._columns.labels[self._columns.label_of[self._row(index)]])

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels of the photos, in any order; some may belong to photos that were not chosen."""
        return self._columns.labels

    def label_indices(self, labels: Sequence[str]) -> np.ndarray:
        """Return the index in `labels` of each photo's label, int64 (N,); -1 for labels that are not in it."""
        place = {label: number for number, label in enumerate(labels)}
        places = np.array([place.get(label, -1) for label in self._columns.labels], np.int64)
        return np.asarray(places[self._chosen(self._columns.label_of)]) if len(self) else np.zeros(0, np.int64)

    def paths_below(self, folder: Path) -> LongList[str]:
        """The path of each photo relative to `folder`, as `os.path.relpath` returns it."""
        root = self._columns.root

        def path(index: int) -> str:
            text = self._columns.path(self._row(index))
            return text if root == folder and not _NOT_PLAIN.search(text) else os.path.relpath(root / text, folder)

        return LongList(len(self), path)

    def _equals_table(self, other: PhotoTable) -> bool:
        mine, theirs = self._columns, other._columns
        if not (
            np.array_equal(self.digests, other.digests)
            and np.array_equal(self.split_numbers, other.split_numbers)
            and np.array_equal(self.levels, other.levels)
            and np.array_equal(self.label_indices(theirs.labels), other.label_indices(theirs.labels))
        ):
            return False
        if mine.paths is theirs.paths and mine.root == theirs.root and self._rows is other._rows:
            return True
        return all(one.path == another.path for one, another in zip(self, other, strict=True))

    def _row(self, index: int) -> int:
        return index if self._rows is None else int(self._rows[index])

    def _sha256(self, row: int) -> str:
        return bytes(self._columns.digests[row]).ljust(32, b"\0").hex()  # numpy drops zeros at the end

    def _chosen(self, column: np.ndarray) -> np.ndarray:
        return column if self._rows is None else column[self._rows]


class TableBuilder:
    """Collects photos for a PhotoTable."""

    def __init__(self, root: Path) -> None:
        """`root` is the folder that the paths are relative to."""
        self._root = root
        self._labels: dict[str, int] = {}
        self._paths, self._ends = bytearray(), array("q", [0])
        self._label_of, self._levels = array("i"), array("i")
        self._split_of, self._digests = bytearray(), bytearray()

    def add(self, path: str, label: str, split: Split, sha256: str, levels: int = 0) -> None:
        """Add a photo. Raises ValueError for a sha256 that is not one, or levels of more than 31 bits."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"sha256 is {sha256!r}, and 64 hexadecimal digits were expected")
        if not 0 <= levels < 2**31:
            raise ValueError(f"levels is {levels}, and a value of 16 bits was expected")
        self._paths += path.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._paths))
        self._label_of.append(self._labels.setdefault(label, len(self._labels)))
        self._levels.append(levels)
        self._split_of.append(SPLITS.index(split))
        self._digests += bytes.fromhex(sha256)

    def table(self) -> PhotoTable:
        """Return the photos that were added."""
        columns = _Columns(
            self._root,
            tuple(self._labels),
            bytes(self._paths),
            np.array(self._ends, np.int64),
            np.array(self._label_of, np.int32),
            np.frombuffer(bytes(self._split_of), np.uint8),
            np.frombuffer(bytes(self._digests), "S32"),
            np.array(self._levels, np.int32),
        )
        return PhotoTable(columns)


def table_of(photos: Sequence[Photo], folder: Path) -> PhotoTable:
    """Return photos as a table. Their paths are kept relative to `folder` if all are below it."""
    if isinstance(photos, PhotoTable):
        return photos
    prefix = str(folder).rstrip("/") + "/"
    below = all(str(photo.path).startswith(prefix) for photo in photos)
    builder = TableBuilder(folder if below else Path())
    for photo in photos:
        path = str(photo.path)
        builder.add(path[len(prefix) :] if below else path, photo.label, photo.split, photo.sha256, photo.levels)
    return builder.table()


def sha256s_of(photos: Sequence[Photo]) -> Sequence[str]:
    """Return the sha256 of each photo."""
    return photos.sha256s if isinstance(photos, PhotoTable) else [photo.sha256 for photo in photos]


def files_of(photos: Sequence[Photo]) -> Sequence[tuple[str, str]]:
    """Return the file name and the sha256 of each photo."""
    if isinstance(photos, PhotoTable):
        return photos.files
    return [(photo.path.name, photo.sha256) for photo in photos]
