"""Reads labels from CSV or JSON-lines files: chooses the file and matches its rows with photos."""

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
    from collections.abc import Mapping, Sequence

_log = logging.getLogger(__name__)

_MOST_FILES = 50
_SUFFIXES = (".csv", ".tsv", ".jsonl")
_RIVAL = 0.9
"""Files that label at least this share of the photos that the best file labels compete with it."""


@dataclass(frozen=True)
class MatchedLabels:
    """The labels that a label file, or one per split, gives to existing photos."""

    tables: tuple[LabelTable, ...]
    labels: Mapping[Path, tuple[str, Split | None]]
    without_photo: int
    without_label: int


def labels_in(index: PhotoIndex) -> tuple[MatchedLabels | None, list[BadInput]]:
    """Return the labels that fit the photos best, and the errors of other files. Raises BadInput if ambiguous."""
    files = [
        path for path in index.others if path.suffix.lower() in _SUFFIXES and "submission" not in path.stem.lower()
    ]
    usable, errors = [], []
    for path in files[:_MOST_FILES]:
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
    rivals = [
        candidate
        for candidate in candidates[1:]
        if len(candidate.labels) >= _RIVAL * len(best.labels) and not _agree(candidate, best)
    ]
    if rivals:
        names = [_relative(candidate.tables[0].path, index) for candidate in (best, *rivals)]
        hint = command("run", index.folder, "--name", "NAME", "--labels", best.tables[0].path)
        raise BadInput(
            f"{index.folder} has several label files that contradict each other: {some_names(names)}",
            hint=f"choose one: {hint}",
            code="TP2049",
        )
    return best, errors


def match(path: Path, index: PhotoIndex) -> MatchedLabels:
    """Match the rows of a label file with photos. Raises BadInput if the file is not a label file."""
    role = split_of(path.stem) or _role_of_stem(path.stem) or split_of(path.parent.name)
    table = table_from_file(path, lambda cell: index.find(cell, path.parent, role) is not None)
    labels: dict[Path, tuple[str, Split | None]] = {}
    without_photo = without_label = 0
    for row in table.rows:
        photo = index.find(row.photo, path.parent, split_of(row.split) or role)
        if photo is None:
            without_photo += 1
        elif not row.label:
            without_label += 1
        elif photo in labels and labels[photo][0] != row.label:
            raise BadInput(
                f"{path} gives {row.photo!r} two labels, {labels[photo][0]!r} and {row.label!r}",
                hint="trtpoets trains classifiers with one label per photo: keep one row for each photo",
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
    """Return the labelled photos, with splits from columns, files or folders, and a description of the layout."""
    given = {path: split for path, (_, split) in matched.labels.items() if split}
    table = matched.tables[0]
    source = f"column {table.split_column!r}"
    if not _has_splits(given.values()) and _has_splits(index.split(path) for path in matched.labels):
        given = {path: split for path in matched.labels if (split := index.split(path))}
        source = "their folders"
    elif len(matched.tables) > 1:
        source = "their label files"
    if not _has_splits(given.values()):
        given = {}
    files = [
        LabelledFile(path, label, given.get(path)) for path, (label, _) in sorted(matched.labels.items(), key=_path_of)
    ]
    names = some_names([_relative(label_table.path, index) for label_table in matched.tables])
    understood = (
        f"labels from {names}: photos in column {table.photo_column!r}, labels in {table.label_column!r}, "
        f"{len(files)} photos found."
    )
    if given:
        understood += f" Splits are given by {source}."
    without_row = [path for path in index.photos if path not in matched.labels]
    for count, what in (
        (matched.without_photo, f"rows of {names} name no existing photo, or several"),
        (matched.without_label, f"rows of {names} have no label"),
        (len(without_row), f"photos have no label in {names}: {counted_by_folder(without_row, index.folder)}"),
    ):
        if count:
            _log.warning("%d %s; they are not used", count, what)
    split_column = table.split_column if given and source.startswith("column") else ""
    relative = ", ".join(_relative(label_table.path, index) for label_table in matched.tables)
    layout = Layout("CSV", understood, relative, table.photo_column, table.label_column, split_column)
    return LabelledFiles(tuple(files), layout)


def disagrees(matched: MatchedLabels, files: Sequence[LabelledFile]) -> bool:
    """Return whether the rows label at least half of these files, most of them differently from their folders."""
    shared = [(file.label, matched.labels[file.path][0]) for file in files if file.path in matched.labels]
    return len(shared) >= len(files) / 2 and sum(one != other for one, other in shared) > len(shared) / 2


def _with_joined(candidates: Sequence[MatchedLabels]) -> list[MatchedLabels]:
    """Replace files of one kind, one per split (train.csv and val.csv, or one per folder), by their union."""
    groups: dict[tuple[str, bool], dict[Split, MatchedLabels]] = {}
    for candidate in candidates:
        table = candidate.tables[0]
        split = split_of(table.path.stem) or _role_of_stem(table.path.stem) or split_of(table.path.parent.name)
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


def _role_of_stem(stem: str) -> Split | None:
    """Return the split in the name of a label file such as train_labels or labels-val."""
    parts = stem.lower().replace("-", "_").replace(" ", "_").split("_")
    splits = {split for part in parts if (split := split_of(part))}
    return splits.pop() if len(splits) == 1 else None


def _has_splits(splits: object) -> bool:
    """Return whether these splits contain training and another split."""
    distinct = set(splits)  # type: ignore[call-overload]
    return Split.TRAIN in distinct and len(distinct - {None}) > 1


def _agree(one: MatchedLabels, other: MatchedLabels) -> bool:
    return all(other.labels.get(path, label)[0] == label[0] for path, label in one.labels.items())


def _relative(path: Path, index: PhotoIndex) -> str:
    return os.path.relpath(path, index.folder)


def _path_of(item: tuple[Path, object]) -> Path:
    return item[0]
