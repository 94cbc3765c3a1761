"""Finds class folders, alone or inside train, validation and test folders, in any surroundings."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.formatting import many
from trtpoets.core.shell_commands import command
from trtpoets.core.types import Split
from trtpoets.train.folders.folder_roles import (
    class_like,
    is_container,
    is_role,
    is_side,
    is_unlabelled,
    split_of,
    splits_of,
)
from trtpoets.train.folders.ignored_files import PHOTO_SUFFIXES, Entries
from trtpoets.train.folders.layout import LabelledFile, LabelledFiles, Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)

ADVICE = "put the photos of each class into a folder with its name: PHOTOS/roses/1.jpg, PHOTOS/tulips/1.jpg"
_DEEPEST = 8


def some_names(names: Sequence[str], most: int = 5) -> str:
    """Return the names, quoted; at most `most` of them and the number of others."""
    text = ", ".join(repr(name) for name in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")


def plain_class_folders(folder: Path, entries: Entries) -> LabelledFiles:
    """Return every folder in `folder` as a class, whatever its name. Raises BadInput if there is none."""
    classes = _filled(entries.folders(folder), entries)
    if not classes:
        raise BadInput(f"{folder} has no class folders", hint=ADVICE, code="TP2023")
    files = [LabelledFile(path, own.name) for own in classes for path in _class_files(own, entries, roles=False)]
    return LabelledFiles(tuple(files), Layout("class folders", f"{many(len(classes), 'class folder')} in {folder}."))


def class_folders(folder: Path, entries: Entries, depth: int = 0) -> LabelledFiles | None:
    """Return the labelled files of a folder with class folders; None if it has none.

    Folders named train, val and test (in all spellings) with class folders inside define splits. A folder that only
    contains another one, or is named "images" or similar, is entered. Raises BadInput for role names such as "test"
    among classes, and for photos that are nested too deeply.
    """
    everything = _filled(entries.folders(folder), entries)
    splits = splits_of([path.name for path in everything])
    parts = {path: splits[path.name] for path in everything if path.name in splits}
    rest = [path for path in everything if path not in parts]
    named = class_like([path.name for path in rest])
    aside = [path for path in rest if path.name not in named and (is_side(path.name) or is_unlabelled(path.name))]
    containers = [path for path in rest if path.name not in named and path not in aside and is_container(path.name)]
    plain = [path for path in rest if path not in aside and path not in containers]
    if parts and not any(photos_in(path, entries) for path in plain):
        return _split_folders(folder, parts, [*plain, *containers, *aside], entries, depth)
    if not plain:
        return _entered(folder, containers, aside, entries, depth)
    if len(plain) == 1 and not parts and not containers and not photos_in(plain[0], entries):
        inner = _filled(entries.folders(plain[0]), entries)
        if inner and plain[0].resolve() != folder.resolve():
            return _entered(folder, plain, aside, entries, depth)
    if len(plain) == 1 and aside and not parts and not containers:
        _refuse_roles(folder, plain, aside)
    if containers:
        _refuse_roles(folder, plain, containers)
    return _classes_beside_splits(folder, plain, parts, aside, entries)


def photos_in(folder: Path, entries: Entries) -> list[Path]:
    """Return the files directly in `folder` that seem to be photos, by their suffix."""
    return [path for path in entries.files(folder) if path.suffix.lower() in PHOTO_SUFFIXES]


def _entered(
    folder: Path, containers: Sequence[Path], aside: Sequence[Path], entries: Entries, depth: int
) -> LabelledFiles | None:
    entered = []
    if depth < _DEEPEST:
        entered = [(path, inner) for path in containers if (inner := class_folders(path, entries, depth + 1))]
    if len(entered) > 1:
        names = [path.name for path, _ in entered]
        hint = command("run", entered[0][0], "--name", "NAME")
        raise BadInput(
            f"{folder} has several folders with class folders inside: {some_names(names)}",
            hint=f"choose one of them, for example: {hint}",
            code="TP2024",
        )
    if not entered:
        return None
    container, labelled = entered[0]
    _warn_of_ignored(folder, [*(path for path in containers if path != container), *aside])
    _log.info("the photos of %s are in %r", folder, container.name)
    return labelled


def _classes_beside_splits(
    folder: Path, plain: Sequence[Path], parts: dict[Path, Split], aside: Sequence[Path], entries: Entries
) -> LabelledFiles:
    names = {path.name for path in plain}
    files = [file for path in plain for file in _of_class(path, entries)]
    for part, split in parts.items():
        inner = {path.name for path in _filled(entries.folders(part), entries)}
        if split is not Split.TRAIN and inner and inner <= names:
            files += [
                LabelledFile(path, class_folder.name, split)
                for class_folder in _filled(entries.folders(part), entries)
                for path in _class_files(class_folder, entries)
            ]
        elif split is Split.TEST and not inner and len(plain) > 1:
            _log.warning(
                "%s has %d photos without labels, which are not used; --class-folders makes it a class",
                part,
                len(photos_in(part, entries)),
            )
        else:
            _refuse_roles(folder, plain, [part])
    _warn_of_ignored(folder, aside)
    given = sorted({file.split.value for file in files if file.split})
    understood = f"{many(len(plain), 'class folder')} in {folder}"
    understood += f", and {' and '.join(given)} given" if given else ""
    return LabelledFiles(tuple(files), Layout("split folders" if given else "class folders", understood + "."))


def _of_class(folder: Path, entries: Entries) -> list[LabelledFile]:
    """Return the files of a class folder. Its photos may be in train/ and test/ inside it, or in images/."""
    if entries.files(folder):
        return [LabelledFile(path, folder.name) for path in _class_files(folder, entries)]
    inner = _filled(entries.folders(folder), entries)
    if inner and all(is_role(path.name) for path in inner):
        used = [path for path in inner if not is_side(path.name) and not is_unlabelled(path.name)]
        splits = {path: split_of(path.name) for path in used}
        if used and (all(splits.values()) or len(used) == 1) and all(entries.files(path) for path in used):
            return [
                LabelledFile(file, folder.name, splits[path] if len(used) > 1 else None)
                for path in used
                for file in _class_files(path, entries)
            ]
    return [LabelledFile(path, folder.name) for path in _class_files(folder, entries)]


def _class_files(folder: Path, entries: Entries, *, roles: bool = True) -> list[Path]:
    files, folders = entries.files(folder), [path.name for path in entries.folders(folder)]
    if folders and not files:
        hint = ADVICE
        inner = _filled(entries.folders(folder), entries)
        if roles and len(inner) > 1 and all(photos_in(path, entries) and not is_role(path.name) for path in inner):
            hint += f"; or, with {some_names(folders)} as classes: {command('run', folder, '--name', 'NAME')}"
        raise BadInput(
            f"{folder} has folders ({some_names(folders)}) but no photos: photos are read one level deep",
            hint=hint,
            code="TP2025",
        )
    if folders:
        _log.warning("folders inside class %r are ignored: %s", folder.name, some_names(folders))
    return files


def _split_folders(
    folder: Path, parts: dict[Path, Split], others: Sequence[Path], entries: Entries, depth: int
) -> LabelledFiles | None:
    files: list[LabelledFile] = []
    unlabelled = []
    names: dict[Split, list[str]] = defaultdict(list)
    for part, split in parts.items():
        labelled = class_folders(part, entries, depth + 1) if depth < _DEEPEST else None
        if labelled is None:
            unlabelled.append(part)
            continue
        files += [LabelledFile(file.path, file.label, split) for file in labelled.files]
        names[split].append(part.name)
    if not files:
        return None
    left = [part for part in unlabelled if parts[part] is not Split.TEST]
    if Split.TRAIN not in names and (len(names) > 1 or left):
        hint = f"add a folder named train with class folders inside; or {_as_classes(folder)}"
        raise BadInput(
            f"{folder} has {some_names(sorted(part.name for part in parts))}, but no folder train with class folders",
            hint=hint,
            code="TP2026",
        )
    if left:
        raise BadInput(
            f"{left[0]} has no class folders, but {folder / names[Split.TRAIN][0]} has",
            hint=f"put its photos into class folders, or move it out of {folder}",
            code="TP2027",
        )
    for part in unlabelled:
        _log.warning("%s has no class folders, so its photos have no labels and are not used", part)
    _warn_of_ignored(folder, others)
    if len(names) == 1:  # a single split folder is divided like a folder of classes
        (only,) = names.values()
        understood = f"class folders in {some_names(only)} of {folder}, divided by trtpoets."
        return LabelledFiles(tuple(LabelledFile(f.path, f.label) for f in files), Layout("class folders", understood))
    sources = ", ".join(f"{split.value} from {some_names(names[split])}" for split in Split if split in names)
    missing = [split.value for split in Split if split not in names]
    understood = f"split folders with class folders inside: {sources}."
    if missing:
        understood += f" {' and '.join(missing).capitalize()} photos are taken from those for training."
    return LabelledFiles(tuple(files), Layout("split folders", understood))


def _refuse_roles(folder: Path, plain: Sequence[Path], roles: Sequence[Path]) -> None:
    names = some_names([path.name for path in roles])
    raise BadInput(
        f"{folder} has {names} beside {some_names([path.name for path in plain])}: such names usually describe the "
        "purpose of a folder, not a class",
        hint=f"move folders that are not classes out of it; or {_as_classes(folder)}",
        code="TP2028",
    )


def _as_classes(folder: Path) -> str:
    return f"use every folder as a class: {command('run', folder, '--name', 'NAME', '--class-folders')}"


def _warn_of_ignored(folder: Path, paths: Sequence[Path]) -> None:
    if paths:
        _log.warning(
            "not used as classes, in %s: %s; --class-folders makes every folder a class",
            folder,
            some_names([path.name for path in paths]),
        )


def _filled(folders: Sequence[Path], entries: Entries) -> list[Path]:
    """Return the folders that are not empty; log a warning, once, for each empty one."""
    filled = []
    for path in folders:
        if entries.files(path) or entries.folders(path):
            filled.append(path)
        else:
            entries.warn_empty(path)
    return filled
