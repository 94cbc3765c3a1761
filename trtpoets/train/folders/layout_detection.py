"""Detects how the photos of a folder are labelled: by class folders, split folders, or a label file."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.paths import user_path
from trtpoets.core.shell_commands import command
from trtpoets.train.folders.class_folders import ADVICE, class_folders, plain_class_folders
from trtpoets.train.folders.class_names import check_class_names
from trtpoets.train.folders.ignored_files import Entries, written_by_program
from trtpoets.train.folders.labelled_by_file import disagrees, labelled_by, labels_in, match
from trtpoets.train.folders.not_labelled import file_error, folder_error
from trtpoets.train.folders.photo_index import PhotoIndex

if TYPE_CHECKING:
    from pathlib import Path

    from trtpoets.train.folders.layout import LabelledFiles
    from trtpoets.train.split import DatasetConfig

_log = logging.getLogger(__name__)


def labelled_files(folder: Path, config: DatasetConfig) -> LabelledFiles:
    """Find the labelled files of a folder, and log the layout.

    `config.labels` is the path of the label file; `config.class_folders` treats every folder as a class. Raises
    BadInput if the folder has no labels, or if they are ambiguous.
    """
    if config.labels and config.class_folders:
        raise BadInput("--labels and --class-folders can't be used together", hint="omit one of them", code="TP2052")
    if not folder.exists():
        raise BadInput(f"{folder} does not exist", hint=ADVICE, code="TP2053")
    if not folder.is_dir():
        raise file_error(folder)
    entries = Entries()
    labelled = _labelled(folder, config, entries)
    check_class_names(sorted({file.label for file in labelled.files}), folder, labelled.layout.labels_file)
    entries.report()
    if labelled.layout.understood:
        text = labelled.layout.understood
        _log.info("%s", text if str(folder) in text else f"{folder}: {text}")
    return labelled


def _labelled(folder: Path, config: DatasetConfig, entries: Entries) -> LabelledFiles:
    if config.class_folders:
        return plain_class_folders(folder, entries)
    if config.labels:
        return _by_named_file(folder, config.labels, entries)
    if origin := written_by_program(folder):
        raise BadInput(f"{folder} is not a folder of photos, but a {origin}", hint=ADVICE, code="TP2054")
    by_folders = class_folders(folder, entries)
    if by_folders is not None and not _has_tables(folder, by_folders.files[0].path, entries):
        return by_folders
    index = PhotoIndex(folder, entries)
    if by_folders is None:
        matched, errors = labels_in(index)
        if matched is None:
            raise folder_error(index, errors, entries)
        return labelled_by(matched, index)
    try:
        matched, _ = labels_in(index)
    except BadInput:
        matched = None  # class folders are used if label files are ambiguous
    if matched is not None and disagrees(matched, by_folders.files):
        table = matched.tables[0].path
        run = ("run", folder, "--name", "NAME")
        raise BadInput(
            f"{folder} has class folders, but {table} gives their photos other labels",
            hint=f"choose one: {command(*run, '--labels', table)} or {command(*run, '--class-folders')}",
            code="TP2055",
        )
    return by_folders


def _by_named_file(folder: Path, labels: str, entries: Entries) -> LabelledFiles:
    path = user_path(labels)
    if not path.is_file() and not path.is_absolute() and (folder / path).is_file():
        path = folder / path
    if not path.is_file():
        raise BadInput(f"{labels} is not a file", hint="use --labels with the path of the CSV file", code="TP2056")
    index = PhotoIndex(folder, entries)
    matched = match(path.absolute(), index)
    if not matched.labels:
        raise BadInput(
            f"no row of {path} has both a label and a photo in {folder}",
            hint="add a column 'filename' with the photos' paths, relative to the photo folder",
            code="TP2057",
        )
    return labelled_by(matched, index)


def _has_tables(folder: Path, photo: Path, entries: Entries) -> bool:
    """Return whether there may be a label file in the photo folder, or in a folder between it and a photo."""
    between = [parent for parent in photo.parents if parent == folder or folder in parent.parents]
    suffixes = (".csv", ".tsv", ".jsonl")
    return any(path.suffix.lower() in suffixes for parent in between for path in entries.files(parent))
