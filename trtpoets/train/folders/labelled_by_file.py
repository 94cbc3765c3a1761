"""Reads labels from CSV or JSON-lines files: selects the label file and matches its rows with photos."""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.shell_commands import command
from trtpoets.core.types import Split
from trtpoets.train.folders.class_folders import some_names
from trtpoets.train.folders.folder_roles import split_of
from trtpoets.train.folders.label_files import LabelTable, table_from_file
from trtpoets.train.folders.layout import LabelledFile, LabelledFiles, Layout
from trtpoets.train.folders.photo_index import PhotoIndex, counted_by_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


_log = logging.getLogger(__name__)

_MAX_FILES = 50
"""The largest number of files that are tried as label files."""

_SUFFIXES = (".csv", ".tsv", ".jsonl")

_ALTERNATIVE_SHARE = 0.9
"""A second file is an alternative if it labels at least this share of the number of photos that the best one labels."""


@dataclass(frozen=True)
class MatchedLabels:
    """The labels that a label file, or several files with a split each, give to existing photos.

    `labels` has the label, and the split if the row states one, of each photo. `without_photo` is the number of rows
    whose photo does not exist or is ambiguous, `without_label` the number of rows with a photo and an empty label.
    """

    tables: tuple[LabelTable, ...]
    labels: Mapping[Path, tuple[str, Split | None]]
    without_photo: int
    without_label: int


def labels_in(index: PhotoIndex) -> tuple[MatchedLabels | None, list[BadInput]]:
    """Return the labels of the file that labels most photos, or None, and the errors of files that are not label files.

    Raises BadInput if files contradict each other.
    """
    files = [
        path for path in index.others if path.suffix.lower() in _SUFFIXES and "submission" not in path.stem.lower()
    ]
    usable, errors = [], []
    for path in files[:_MAX_FILES]:
        try:
            matched = match(path, index)
        except BadInput as error:
            errors.append(error)
            continue
        if matched.labels:
            usable.append(matched)
    if not usable:
        return None, errors
    candidates = _with_joined(usable)
    candidates.sort(key=lambda candidate: -len(candidate.labels))
    best = candidates[0]
    contradicting = [
        candidate
        for candidate in candidates[1:]
        if len(candidate.labels) >= _ALTERNATIVE_SHARE * len(best.labels) and not _agree(candidate, best)
    ]
    if contradicting:
        names = [_relative(candidate.tables[0].path, index) for candidate in (best, *contradicting)]
        hint = command("run", index.folder, "--name", "NAME", "--labels", best.tables[0].path)
        raise BadInput(
            f"{index.folder} has several label files that contradict each other: {some_names(names)}",
            hint=f"choose one: {hint}",
            code="TP2049",
        )
    return best, errors


def match(path: Path, index: PhotoIndex) -> MatchedLabels:
    """Match the rows of a label file with photos. Raises BadInput if the file is not a label file."""
    file_split = _split_of_file(path)
    table = table_from_file(path, lambda cell: index.find(cell, path.parent, file_split) is not None)
    labels: dict[Path, tuple[str, Split | None]] = {}
    without_photo = without_label = 0
    for row in table.rows:
        photo = index.find(row.photo, path.parent, split_of(row.split) or file_split)
        if photo is None:
            without_photo += 1
        elif not row.label:
            without_label += 1
        elif photo in labels and labels[photo][0] != row.label:
            raise BadInput(
                f"{path} gives {row.photo!r} two labels, {labels[photo][0]!r} and {row.label!r}",
                hint="keep one row for each photo: trtpoets trains classifiers with one label per photo",
                code="TP2050",
            )
        else:
            labels[photo] = (row.label, split_of(row.split))
    distinct = {label for label, _ in labels.values()}
    if len(labels) > 20 and len(distinct) > 0.9 * len(labels):
        raise BadInput(
            f"column {table.label_column!r} of {path} has different values for almost all photos, so it is not a label",
            hint="rename the column with the labels to 'label'",
            code="TP2051",
        )
    return MatchedLabels((table,), labels, without_photo, without_label)


def labelled_by(matched: MatchedLabels, index: PhotoIndex) -> LabelledFiles:
    """Return the labelled photos, with splits from columns, files or folders, and a description of the layout.

    Logs a warning about rows and photos that are not used.
    """
    table = matched.tables[0]
    splits, source = _given_splits(matched, index)
    files = [
        LabelledFile(path, label, splits.get(path)) for path, (label, _) in sorted(matched.labels.items(), key=_path_of)
    ]
    paths = [_relative(label_table.path, index) for label_table in matched.tables]
    names = some_names(paths)
    understood = (
        f"labels from {names}: photos in column {table.photo_column!r}, labels in {table.label_column!r}, "
        f"{len(files)} photos found."
    )
    if splits:
        understood += f" Splits are given by {source}."
    _warn_of_unused(matched, index, names)
    split_column = table.split_column if splits and source.startswith("column") else ""
    layout = Layout("CSV", understood, ", ".join(paths), table.photo_column, table.label_column, split_column)
    return LabelledFiles(tuple(files), layout)


def _given_splits(matched: MatchedLabels, index: PhotoIndex) -> tuple[dict[Path, Split], str]:
    """Return the given split of each photo, and what gives it: a column, the folders or the label files.

    The splits are empty if there is none besides training.
    """
    splits = {path: split for path, (_, split) in matched.labels.items() if split}
    source = f"column {matched.tables[0].split_column!r}"
    if not _has_splits(splits.values()) and _has_splits(index.split(path) for path in matched.labels):
        splits = {path: split for path in matched.labels if (split := index.split(path))}
        source = "their folders"
    elif len(matched.tables) > 1:
        source = "their label files"
    return splits if _has_splits(splits.values()) else {}, source


def _warn_of_unused(matched: MatchedLabels, index: PhotoIndex, names: str) -> None:
    """Log a warning for rows without a photo or a label, and for photos without a row in the files `names`."""
    without_row = [path for path in index.photos if path not in matched.labels]
    for count, what in (
        (matched.without_photo, f"rows of {names} name no existing photo, or several"),
        (matched.without_label, f"rows of {names} have no label"),
        (len(without_row), f"photos have no label in {names}: {counted_by_folder(without_row, index.folder)}"),
    ):
        if count:
            _log.warning("%d %s; they are not used", count, what)


def disagrees(matched: MatchedLabels, files: Sequence[LabelledFile]) -> bool:
    """Return whether the rows label at least half of `files`, most of them with another label than their folder."""
    shared = [(file.label, matched.labels[file.path][0]) for file in files if file.path in matched.labels]
    return len(shared) >= len(files) / 2 and sum(one != other for one, other in shared) > len(shared) / 2


def _with_joined(candidates: Sequence[MatchedLabels]) -> list[MatchedLabels]:
    """Return the candidates, with label files of single splits (train.csv and val.csv) replaced by their union.

    Files are joined if they have the same kind of columns, no photo in common, and one of them is for training.
    """
    groups: dict[tuple[str, bool], dict[Split, MatchedLabels]] = {}
    for candidate in candidates:
        table = candidate.tables[0]
        split = _split_of_file(table.path)
        if split:
            kind = (table.photo_column, " columns of " in table.label_column)
            groups.setdefault(kind, {}).setdefault(split, candidate)
    joined = list(candidates)
    for parts in groups.values():
        photos = Counter(path for part in parts.values() for path in part.labels)
        if len(parts) > 1 and Split.TRAIN in parts and max(photos.values()) == 1:
            labels = {
                path: (label, own_split or split)
                for split, part in parts.items()
                for path, (label, own_split) in part.labels.items()
            }
            joined = [candidate for candidate in joined if candidate not in parts.values()]
            joined.append(
                MatchedLabels(
                    tuple(part.tables[0] for part in parts.values()),
                    labels,
                    sum(part.without_photo for part in parts.values()),
                    sum(part.without_label for part in parts.values()),
                )
            )
    return joined


def _split_of_file(path: Path) -> Split | None:
    """Return the split that the name of a label file, or else of its folder, states."""
    return split_of(path.stem) or _split_in_stem(path.stem) or split_of(path.parent.name)


def _split_in_stem(stem: str) -> Split | None:
    """Return the split in the name of a label file such as train_labels or labels-val."""
    parts = stem.lower().replace("-", "_").replace(" ", "_").split("_")
    splits = {split for part in parts if (split := split_of(part))}
    return splits.pop() if len(splits) == 1 else None


def _has_splits(splits: Iterable[Split | None]) -> bool:
    """Return whether these splits contain training and another split."""
    distinct = set(splits)
    return Split.TRAIN in distinct and len(distinct - {None}) > 1


def _agree(one: MatchedLabels, other: MatchedLabels) -> bool:
    """Return whether two label files give the same label to each photo that both contain."""
    return all(other.labels.get(path, label)[0] == label[0] for path, label in one.labels.items())


def _relative(path: Path, index: PhotoIndex) -> str:
    return os.path.relpath(path, index.folder)


def _path_of(item: tuple[Path, object]) -> Path:
    return item[0]
