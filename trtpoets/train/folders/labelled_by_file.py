"""Photos whose labels are in a CSV or JSON-lines file: the file chosen, its rows matched with photos."""

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
"""A file that labels this share of what the best one labels is its rival."""


@dataclass(frozen=True)
class Matched:
    """Files of labels (one, or one a split), and what their rows say of photos that are there."""

    tables: tuple[LabelTable, ...]
    labels: Mapping[Path, tuple[str, Split | None]]
    without_photo: int
    without_label: int


def labels_in(index: PhotoIndex) -> tuple[Matched | None, list[BadInput]]:
    """The files of labels that fit the photos best, and why others can't be used. Raises BadInput for several."""
    files = [
        path for path in index.others if path.suffix.lower() in _SUFFIXES and "submission" not in path.stem.lower()
    ]
    found, errors = [], []
    for path in files[:_MOST_FILES]:
        try:
            matched = match(path, index)
        except BadInput as error:
            errors.append(error)
            continue
        if matched.labels:
            found.append(matched)
    if not found:
        return None, errors
    candidates = _joined(found)
    candidates.sort(key=lambda each: -len(each.labels))
    best = candidates[0]
    rivals = [
        each for each in candidates[1:] if len(each.labels) >= _RIVAL * len(best.labels) and not _agree(each, best)
    ]
    if rivals:
        names = [_relative(each.tables[0].path, index) for each in (best, *rivals)]
        hint = command("run", index.folder, "--name", "NAME", "--labels", best.tables[0].path)
        raise BadInput(
            f"{index.folder} has several files with labels that differ: {some_names(names)}",
            hint=f"name the one that is meant: {hint}",
            code="TP2049",
        )
    return best, errors


def match(path: Path, index: PhotoIndex) -> Matched:
    """The rows of one file of labels, matched with the photos. Raises BadInput where it can't be read as such."""
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
                hint="trtpoets trains classifiers with one label a photo: keep one row of each photo",
                code="TP2050",
            )
        else:
            labels[photo] = (row.label, split_of(row.split))
    distinct = {label for label, _ in labels.values()}
    if len(labels) > 20 and len(distinct) > 0.9 * len(labels):
        raise BadInput(
            f"column {table.label_column!r} of {path} has another value for almost every photo, so it is no label",
            hint="name the column with the labels 'label'",
            code="TP2051",
        )
    return Matched((table,), labels, without_photo, without_label)


def labelled_by(matched: Matched, index: PhotoIndex) -> LabelledFiles:
    """The labelled photos, with the splits that columns, files or folders give, and what was understood."""
    named = {path: split for path, (_, split) in matched.labels.items() if split}
    table = matched.tables[0]
    source = f"column {table.split_column!r}"
    if not _divided(named.values()) and _divided(index.split(path) for path in matched.labels):
        named = {path: split for path in matched.labels if (split := index.split(path))}
        source = "their folders"
    elif len(matched.tables) > 1:
        source = "their files of labels"
    if not _divided(named.values()):
        named = {}
    files = [
        LabelledFile(path, label, named.get(path)) for path, (label, _) in sorted(matched.labels.items(), key=_path_of)
    ]
    names = some_names([_relative(each.path, index) for each in matched.tables])
    understood = (
        f"labels from {names}: photos in column {table.photo_column!r}, labels in {table.label_column!r}, "
        f"{len(files)} photos found."
    )
    if named:
        understood += f" Splits are given by {source}."
    without_row = [path for path in index.photos if path not in matched.labels]
    for count, what in (
        (matched.without_photo, f"rows of {names} name no photo that is there (or more than one)"),
        (matched.without_label, f"rows of {names} have no label"),
        (len(without_row), f"photos have no label in {names}: {counted_by_folder(without_row, index.folder)}"),
    ):
        if count:
            _log.warning("%d %s; left out", count, what)
    split_column = table.split_column if named and source.startswith("column") else ""
    relative = ", ".join(_relative(each.path, index) for each in matched.tables)
    layout = Layout("CSV", understood, relative, table.photo_column, table.label_column, split_column)
    return LabelledFiles(tuple(files), layout)


def disagrees(matched: Matched, files: Sequence[LabelledFile]) -> bool:
    """Whether the rows label at least half of these files, and mostly otherwise than their folders do."""
    shared = [(file.label, matched.labels[file.path][0]) for file in files if file.path in matched.labels]
    return len(shared) >= len(files) / 2 and sum(one != other for one, other in shared) > len(shared) / 2


def _joined(found: Sequence[Matched]) -> list[Matched]:
    """Files of one kind, one a split (train.csv and val.csv, or one in each folder), become one."""
    groups: dict[tuple[str, bool], dict[Split, Matched]] = {}
    for each in found:
        table = each.tables[0]
        split = split_of(table.path.stem) or _role_of_stem(table.path.stem) or split_of(table.path.parent.name)
        if split:
            groups.setdefault((table.photo_column, " columns of " in table.label_column), {}).setdefault(split, each)
    joined = list(found)
    for parts in groups.values():
        photos = Counter(path for each in parts.values() for path in each.labels)
        if len(parts) > 1 and Split.TRAIN in parts and max(photos.values()) == 1:
            labels = {
                path: (label, named or split)
                for split, each in parts.items()
                for path, (label, named) in each.labels.items()
            }
            joined = [each for each in joined if each not in parts.values()]
            joined.append(
                Matched(
                    tuple(each.tables[0] for each in parts.values()),
                    labels,
                    sum(each.without_photo for each in parts.values()),
                    sum(each.without_label for each in parts.values()),
                )
            )
    return joined


def _role_of_stem(stem: str) -> Split | None:
    """The split in the name of a file of labels: train_labels, labels-val."""
    words = stem.lower().replace("-", "_").replace(" ", "_").split("_")
    found = {split for word in words if (split := split_of(word))}
    return found.pop() if len(found) == 1 else None


def _divided(splits: object) -> bool:
    given = set(splits)  # type: ignore[call-overload]
    return Split.TRAIN in given and len(given - {None}) > 1


def _agree(one: Matched, other: Matched) -> bool:
    return all(other.labels.get(path, label)[0] == label[0] for path, label in one.labels.items())


def _relative(path: Path, index: PhotoIndex) -> str:
    return os.path.relpath(path, index.folder)


def _path_of(item: tuple[Path, object]) -> Path:
    return item[0]
