"""Reads a folder of labelled photos into a Dataset: checks, hashes and splits into training, validation and test."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.formatting import many
from trtpoets.core.long_lists import LongList
from trtpoets.core.progress import Progress, silent
from trtpoets.core.serialization import OPTIONAL, parsed
from trtpoets.core.types import FULL_WHITE, Photo, Split, hash_of
from trtpoets.train.folders.given_splits import splits_with_given
from trtpoets.train.folders.layout import CLASS_FOLDERS, Layout
from trtpoets.train.folders.layout_detection import labelled_files
from trtpoets.train.folders.photo_files import BeforeReading, CheckedFile, checked_files, unchecked
from trtpoets.train.photo_table import SPLITS, PhotoTable, TableBuilder, table_of
from trtpoets.train.split import DatasetConfig, check_config, checked_splits, positions_of, ranked_splits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trtpoets.train.folders.readings import ReadingCache
    from trtpoets.train.split import Explained

__all__ = ["Dataset", "DatasetConfig", "LeftOut", "dataset_from_files", "dataset_from_folder", "dataset_from_json"]

_log = logging.getLogger(__name__)

_MAX_NAMED = 5
"""The largest number of files or reasons that a message names."""


@dataclass(frozen=True)
class LeftOut:
    """A labelled file that is not used, the reason, and a remedy."""

    path: Path
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Dataset:
    """Labelled photos with their splits. `labels` are the sorted names of the classes.

    `duplicates` are groups of files with equal bytes and label: all are used, in the same split. `contradictions` are
    groups of files with equal bytes and different labels: none is used. `layout` describes how the folder was read.
    `splits_given` is true if the folder or its label file states the splits; such splits are not changed. `families`
    are groups of near-copies, as sha256s; each is in one split unless splits are given.
    """

    folder: Path
    labels: tuple[str, ...]
    photos: PhotoTable
    left_out: tuple[LeftOut, ...]
    duplicates: tuple[tuple[Path, ...], ...]
    contradictions: tuple[tuple[Path, ...], ...]
    config: DatasetConfig
    layout: Layout = CLASS_FOLDERS
    splits_given: bool = False
    families: tuple[tuple[str, ...], ...] = ()

    def in_split(self, *splits: Split) -> PhotoTable:
        """Return the photos of a split, or of several, in the order of `photos`."""
        return self.photos.in_split(*splits)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Number of photos by label and split: counts["roses"]["train"]."""
        places = self.photos.label_indices(self.labels) * len(SPLITS) + self.photos.split_numbers
        counts = np.bincount(places, minlength=len(self.labels) * len(SPLITS)).reshape(-1, len(SPLITS)).tolist()
        return {
            label: {split.value: own[SPLITS.index(split)] for split in Split}
            for label, own in zip(self.labels, counts, strict=True)
        }

    @property
    def white(self) -> int:
        """The 16-bit value that becomes 255: the largest `levels` of a training photo; 65535 if all have 8 bits."""
        return int(self.in_split(Split.TRAIN).levels.max(initial=0)) or FULL_WHITE

    @cached_property
    def hash(self) -> str:
        """The sha256 of the labels, and of the content, label and split of each photo; paths do not change it."""
        splits = tuple(split.value for split in SPLITS)
        return hash_of([list(self.labels), self._sorted_rows((splits, self.photos.split_numbers))])

    @property
    def hash_of_labels(self) -> str:
        """The sha256 of the content and label of each photo, whatever its split."""
        return hash_of(self._sorted_rows())

    def _sorted_rows(self, *columns: tuple[Sequence[str], np.ndarray]) -> LongList[list[str]]:
        """Return the sha256 and the label of each photo, and its values in `columns`, in ascending order.

        A column has the possible values, and the index of that of each photo, int (N,).
        """
        labels = self.photos.label_names
        columns = ((labels, self.photos.label_indices(labels)), *columns)
        ranks = [np.unique(np.array(values, dtype=object), return_inverse=True)[1][of] for values, of in columns]
        sha256s, order = self.photos.sha256s, np.lexsort((*reversed(ranks), self.photos.digests))
        return LongList(len(order), lambda index: [sha256s[order[index]], *(v[of[order[index]]] for v, of in columns)])

    @property
    def document(self) -> DatasetFile:
        """The content of dataset.json, photo paths relative to `folder`."""
        relative = self._relative
        family_of = {sha256: number for number, family in enumerate(self.families) for sha256 in family}
        below, sha256s = self.photos.paths_below(self.folder), self.photos.sha256s
        paths: dict[int, list[str]] = defaultdict(list)
        for path, sha256 in zip(below, sha256s, strict=True) if family_of else ():
            if sha256 in family_of:
                paths[family_of[sha256]].append(path)

        labels, levels = self.photos.label_names, self.photos.levels
        label_of, split_of = self.photos.label_indices(labels), self.photos.split_numbers

        def row(index: int) -> PhotoRow:
            sha256, label, split = sha256s[index], labels[label_of[index]], SPLITS[split_of[index]]
            return PhotoRow(below[index], label, split, sha256, int(levels[index]) or None, family_of.get(sha256))

        return DatasetFile(
            folder=str(self.folder),
            labels=self.labels,
            photos=LongList(len(self.photos), row),
            left_out=tuple(LeftOutRow(relative(file.path), file.reason, file.remedy) for file in self.left_out),
            left_out_count=len(self.left_out),
            duplicates=tuple(tuple(map(relative, group)) for group in self.duplicates),
            duplicates_count=len(self.duplicates),
            contradictions=tuple(tuple(map(relative, group)) for group in self.contradictions),
            contradictions_count=len(self.contradictions),
            families=tuple(tuple(paths[number]) for number in sorted(paths)),
            families_count=len(self.families),
            families_photos=sum(map(len, paths.values())),
            config=self.config,
            layout=self.layout,
            splits_given=self.splits_given,
        )

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self.folder)


@dataclass(frozen=True)
class PhotoRow:
    """A photo in dataset.json. `family` is the number of its family of near-copies; None without one."""

    path: str
    label: str
    split: Split
    sha256: str
    levels: int | None = field(default=None, metadata=OPTIONAL)
    family: int | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class LeftOutRow:
    """A file that was left out, in dataset.json."""

    path: str
    reason: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetFile:
    """The content of dataset.json. Paths are relative to `folder`; `command` trains on the dataset again."""

    folder: str
    labels: tuple[str, ...]
    photos: Sequence[PhotoRow]
    left_out: tuple[LeftOutRow, ...]
    left_out_count: int = 0
    duplicates: tuple[tuple[str, ...], ...]
    duplicates_count: int = 0
    contradictions: tuple[tuple[str, ...], ...]
    contradictions_count: int = 0
    families: tuple[tuple[str, ...], ...] = ()
    families_count: int = 0
    families_photos: int = 0
    config: DatasetConfig
    layout: Layout = CLASS_FOLDERS
    splits_given: bool = False
    counts: Mapping[str, Mapping[str, int]] | None = field(default=None, metadata=OPTIONAL)
    command: str | None = field(default=None, metadata=OPTIONAL)


def dataset_from_json(value: object) -> Dataset:
    """Return the dataset of a parsed dataset.json, whose photos may be a LongList. Raises BadArtefact."""
    try:
        rows: Sequence[object] = []
        if isinstance(value, dict) and isinstance(value.get("photos"), (list, LongList)):
            rows, value = value["photos"], {**value, "photos": []}  # the rows are read one by one
        document = parsed(DatasetFile, value)
        photos, families = _table_and_families(rows, Path(document.folder))
    except ValueError as error:
        raise BadArtefact(
            f"this is not a dataset of trtpoets: {error}",
            hint="read the photos again: trtpoets run PHOTOS --name NAME",
            code="TP2011",
        ) from error
    folder = Path(document.folder)
    return Dataset(
        folder=folder,
        labels=document.labels,
        photos=photos,
        left_out=tuple(LeftOut(folder / row.path, row.reason, row.remedy) for row in document.left_out),
        duplicates=tuple(tuple(folder / path for path in group) for group in document.duplicates),
        contradictions=tuple(tuple(folder / path for path in group) for group in document.contradictions),
        config=document.config,
        layout=document.layout,
        splits_given=document.splits_given,
        families=families,
    )


def _table_and_families(rows: Iterable[object], folder: Path) -> tuple[PhotoTable, tuple[tuple[str, ...], ...]]:
    """Return the photos and families of the rows of dataset.json. Raises ValueError that names the wrong row."""
    builder, families = TableBuilder(folder), defaultdict[int, set[str]](set)
    for number, value in enumerate(rows):
        try:
            row = parsed(PhotoRow, value)
            builder.add(row.path, row.label, row.split, row.sha256, row.levels or 0)
        except ValueError as error:
            raise ValueError(f"photos[{number}]: {error}") from None
        if row.family is not None:
            families[row.family].add(row.sha256)
    return builder.table(), tuple(sorted(tuple(sorted(family)) for family in families.values()))


def dataset_from_folder(
    folder: Path,
    config: DatasetConfig = DatasetConfig(),  # noqa: B008 - frozen
    progress: Progress = silent,
    *,
    ranked: bool = False,
    readings: ReadingCache | None = None,
    before_reading: BeforeReading = unchecked,
) -> Dataset:
    """Read a folder of labelled photos: decode every photo once to check it, hash it, and assign a split.

    Labels come from class folders or a label file; splits given by the folder are kept. A file that cannot be used is
    left out with a warning, or is an error with `strict`. `ranked` assigns splits by `ranked_splits`, which works with
    fewer photos, for a classifier that is not trained on them. Files whose readings are in `readings` are not read
    again; `before_reading` is called with the others, if there are any. Raises BadInput if the folder, its names or its
    photos do not form a dataset.
    """
    check_config(config)
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay as the user wrote them
    labelled = labelled_files(folder, config)
    checked = checked_files(labelled.files, progress, readings, before_reading)
    return dataset_from_files(folder, labelled.layout, checked, config, ranked=ranked)


def dataset_from_files(
    folder: Path, layout: Layout, checked: Sequence[CheckedFile], config: DatasetConfig, *, ranked: bool = False
) -> Dataset:
    """Return the dataset of all files of a folder, which were found with `layout` and checked.

    Raises BadInput and logs warnings as `dataset_from_folder` does.
    """
    usable, left_out, contradictions = _usable(checked)
    _report(left_out, config, folder)
    labels = _labels(usable, checked, left_out, folder)
    positions = positions_of([(file.path.name, file.sha256) for file in usable])
    splits = _splits(usable, labels, positions, config, ranked, lambda lacking: _reasons(lacking, checked, left_out))
    photos = LongList(
        len(usable),
        lambda index: Photo(
            usable[index].path, usable[index].label, splits[index], usable[index].sha256, usable[index].levels
        ),
    )
    dataset = Dataset(
        folder=folder,
        labels=labels,
        photos=table_of(photos, folder),
        left_out=tuple(left_out),
        duplicates=_groups(usable, lambda files: len(files) > 1),
        contradictions=contradictions,
        config=config,
        layout=layout,
        splits_given=_has_splits(usable),
    )
    _report_white(dataset)
    return dataset


def _usable(
    checked: Sequence[CheckedFile],
) -> tuple[list[CheckedFile], list[LeftOut], tuple[tuple[Path, ...], ...]]:
    """Return the files to use, those that are left out, and the groups of equal files with different labels."""
    broken = [LeftOut(file.path, file.reason, file.remedy) for file in checked if file.reason]
    intact = [file for file in checked if not file.reason]
    contradictions = _groups(intact, lambda files: len({file.label for file in files}) > 1)
    contradicted = {path for group in contradictions for path in group}
    reason, remedy = "has an identical copy under another label", "keep it under one label"
    left_out = [*broken, *(LeftOut(path, reason, remedy) for path in sorted(contradicted))]
    return [file for file in intact if file.path not in contradicted], left_out, contradictions


def _has_splits(files: Sequence[CheckedFile]) -> bool:
    return any(file.split for file in files)


def _splits(
    files: Sequence[CheckedFile],
    labels: Sequence[str],
    positions: Sequence[float],
    config: DatasetConfig,
    ranked: bool,
    explained: Explained,
) -> list[Split]:
    """Return the split of each file. Raises BadInput for classes that lack photos; `explained` ends its message."""
    if _has_splits(files):
        return splits_with_given(files, positions, config, explained)
    if ranked:
        return ranked_splits([file.label for file in files], positions, config)
    return checked_splits([file.label for file in files], positions, labels, config, explained)


def _groups(
    files: Iterable[CheckedFile], wanted: Callable[[Sequence[CheckedFile]], bool]
) -> tuple[tuple[Path, ...], ...]:
    """Return the groups of files with equal bytes for which `wanted` returns true, as paths."""
    same: dict[str, list[CheckedFile]] = defaultdict(list)
    for file in files:
        same[file.sha256].append(file)
    return tuple(tuple(file.path for file in group) for group in same.values() if wanted(group))


def _labels(
    usable: Sequence[CheckedFile], checked: Sequence[CheckedFile], left_out: Sequence[LeftOut], folder: Path
) -> tuple[str, ...]:
    """Return the sorted labels. Raises BadInput for a class without a usable photo, and for fewer than two classes."""
    labels = tuple(sorted({file.label for file in usable}))
    unused = sorted({file.label for file in checked} - set(labels))
    if not labels:
        reasons = _reasons(unused, checked, left_out)
        raise BadInput(
            f"{folder} has no usable photo{reasons}",
            hint="repair the files, or choose another folder",
            code="TP2013",
        )
    for label in unused:
        raise BadInput(
            f"class {label!r} has no usable photo{_reasons([label], checked, left_out)}",
            hint="repair its files, add photos to it, or delete its folder",
            code="TP2014",
        )
    if len(labels) < 2:
        raise BadInput(
            f"{folder} has only one class, {labels[0]!r}, but at least two are needed",
            hint="add a folder with photos of another class",
            code="TP2015",
        )
    return labels


def _reasons(labels: Sequence[str], checked: Sequence[CheckedFile], left_out: Sequence[LeftOut]) -> str:
    """Return the reasons why files of these classes were left out, with remedies, for the end of a message."""
    label_of = {file.path: file.label for file in checked}
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for entry in left_out:
        if label_of[entry.path] in labels:
            groups[entry.reason, entry.remedy].append(entry.path)
    if not groups:
        return ""
    shown = sorted(groups.items(), key=lambda group: -len(group[1]))
    lines = [
        f"{paths[0].name} {reason}{_others(len(paths) - 1)} ({remedy})"
        for (reason, remedy), paths in shown[:_MAX_NAMED]
    ]
    if len(shown) > _MAX_NAMED:
        lines.append(f"and {many(sum(len(paths) for _, paths in shown[_MAX_NAMED:]), 'more file')}")
    return f". Left out: {'; '.join(lines)}"


def _others(count: int) -> str:
    """Return what follows a statement about one file that also applies to `count` others; its verb stays singular."""
    return f", like {many(count, 'more file')}" if count else ""


def _report_white(dataset: Dataset) -> None:
    """Log a warning if there are 16-bit photos, with the value that becomes white."""
    wide = int((dataset.photos.levels > 0).sum())
    if wide:
        _log.warning(
            "%d of %d photos have 16 bits: the largest value in training photos is %d, so %d becomes white (255)",
            wide,
            len(dataset.photos),
            dataset.white,
            dataset.white,
        )


def _report(left_out: Sequence[LeftOut], config: DatasetConfig, folder: Path) -> None:
    """Log a warning about files that are left out; raise BadInput instead with `config.strict`."""
    if not left_out:
        return
    lines = [f"{os.path.relpath(file.path, folder)} {file.reason}" for file in left_out[:_MAX_NAMED]]
    if len(left_out) > _MAX_NAMED:
        lines.append(f"and {len(left_out) - _MAX_NAMED} more")
    files = "1 file" if len(left_out) == 1 else f"{len(left_out)} files"
    if config.strict:
        raise BadInput(
            f"{files} in {folder} can't be used: {'; '.join(lines)}",
            hint="repair or delete them, or omit --strict",
            code="TP2016",
        )
    _log.warning("%s in %s not used: %s", files, folder, "; ".join(lines))
