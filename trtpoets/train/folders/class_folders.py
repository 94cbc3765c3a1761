"""Class folders, alone or inside train, validation and test folders: found whatever lies around them."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
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

ADVICE = "put the photos of each class into a folder named after it: PHOTOS/roses/1.jpg, PHOTOS/tulips/1.jpg"
_DEEPEST = 8


def some_names(names: Sequence[str], most: int = 5) -> str:
    """The names, quoted, of which the first `most` are shown."""
    text = ", ".join(repr(name) for name in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")


def plain_class_folders(folder: Path, entries: Entries) -> LabelledFiles:
    """Every folder in `folder` as a class, whatever its name. Raises BadInput where there is none."""
    classes = _filled(entries.folders(folder), entries)
    if not classes:
        raise BadInput(f"{folder} has no class folders", hint=ADVICE, code="TP2023")
    files = [LabelledFile(path, each.name) for each in classes for path in _class_files(each, entries, roles=False)]
    return LabelledFiles(tuple(files), Layout("class folders", f"{len(classes)} class folders in {folder}."))


def class_folders(folder: Path, entries: Entries, depth: int = 0) -> LabelledFiles | None:
    """The labelled files of a folder with class folders; None where it has none.

    Folders named train, val and test (in all their spellings) with class folders inside give splits. A folder that
    holds nothing but one other, or is named "images" and the like, is entered. Raises BadInput for a name of a role
    among classes, and for photos that lie too deep.
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
    """The files directly in `folder` that seem to be photos, by their suffix."""
    return [path for path in entries.files(folder) if path.suffix.lower() in PHOTO_SUFFIXES]


def _entered(
    folder: Path, containers: Sequence[Path], aside: Sequence[Path], entries: Entries, depth: int
) -> LabelledFiles | None:
    found = []
    if depth < _DEEPEST:
        found = [(each, inner) for each in containers if (inner := class_folders(each, entries, depth + 1))]
    if len(found) > 1:
        names = [each.name for each, _ in found]
        hint = command("run", found[0][0], "--name", "NAME")
        raise BadInput(
            f"{folder} has several folders with class folders inside: {some_names(names)}",
            hint=f"give the one that is meant, for example: {hint}",
            code="TP2024",
        )
    if not found:
        return None
    _say_aside(folder, [*(each for each in containers if each != found[0][0]), *aside])
    _log.info("%s holds %r, in which the photos are", folder, found[0][0].name)
    return found[0][1]


def _classes_beside_splits(
    folder: Path, plain: Sequence[Path], parts: dict[Path, Split], aside: Sequence[Path], entries: Entries
) -> LabelledFiles:
    names = {path.name for path in plain}
    files = [file for each in plain for file in _of_class(each, entries)]
    for part, split in parts.items():
        inner = {path.name for path in _filled(entries.folders(part), entries)}
        if split is not Split.TRAIN and inner and inner <= names:
            files += [
                LabelledFile(path, each.name, split)
                for each in _filled(entries.folders(part), entries)
                for path in _class_files(each, entries)
            ]
        elif split is Split.TEST and not inner and len(plain) > 1:
            _log.warning(
                "%s has %d photos without labels, so they are left out; --class-folders makes it a class",
                part,
                len(photos_in(part, entries)),
            )
        else:
            _refuse_roles(folder, plain, [part])
    _say_aside(folder, aside)
    given = sorted({file.split.value for file in files if file.split})
    understood = f"{len(plain)} class folders in {folder}" + (f", and {' and '.join(given)} given" if given else "")
    return LabelledFiles(tuple(files), Layout("split folders" if given else "class folders", understood + "."))


def _of_class(folder: Path, entries: Entries) -> list[LabelledFile]:
    """The files of a class folder. Inside it photos may lie in train/ and test/, or in images/ beside masks/."""
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
            hint += f"; or, if {some_names(folders)} are the classes: {command('run', folder, '--name', 'NAME')}"
        raise BadInput(
            f"{folder} has folders ({some_names(folders)}) and no photos: photos are read one level deep",
            hint=hint,
            code="TP2025",
        )
    if folders:
        _log.warning("folders inside class %r are not read: %s", folder.name, some_names(folders))
    return files


def _split_folders(
    folder: Path, parts: dict[Path, Split], others: Sequence[Path], entries: Entries, depth: int
) -> LabelledFiles | None:
    files: list[LabelledFile] = []
    unlabelled = []
    names: dict[Split, list[str]] = defaultdict(list)
    for part, split in parts.items():
        found = class_folders(part, entries, depth + 1) if depth < _DEEPEST else None
        if found is None:
            unlabelled.append(part)
            continue
        files += [LabelledFile(file.path, file.label, split) for file in found.files]
        names[split].append(part.name)
    if not files:
        return None
    left = [part for part in unlabelled if parts[part] is not Split.TEST]
    if Split.TRAIN not in names and (len(names) > 1 or left):
        hint = f"training needs a folder named train with class folders inside; or {_as_classes(folder)}"
        raise BadInput(
            f"{folder} has {some_names(sorted(part.name for part in parts))}, and no train with class folders",
            hint=hint,
            code="TP2026",
        )
    if left:
        raise BadInput(
            f"{left[0]} has no class folders, and {folder / names[Split.TRAIN][0]} has",
            hint=f"put its photos into class folders, or move it out of {folder}",
            code="TP2027",
        )
    for part in unlabelled:
        _log.warning("%s has no class folders, so its photos have no labels and are left out", part)
    _say_aside(folder, others)
    if len(names) == 1:  # one part alone: it is divided as a folder of classes is
        (only,) = names.values()
        understood = f"class folders in {some_names(only)} of {folder}, divided by trtpoets."
        return LabelledFiles(tuple(LabelledFile(f.path, f.label) for f in files), Layout("class folders", understood))
    told = ", ".join(f"{split.value} from {some_names(names[split])}" for split in Split if split in names)
    missing = [split.value for split in Split if split not in names]
    understood = f"split folders with class folders inside: {told}."
    if missing:
        understood += f" {' and '.join(missing).capitalize()} photos are taken from those for training."
    return LabelledFiles(tuple(files), Layout("split folders", understood))


def _refuse_roles(folder: Path, plain: Sequence[Path], roles: Sequence[Path]) -> None:
    names = some_names([path.name for path in roles])
    raise BadInput(
        f"{folder} has {names} beside {some_names([path.name for path in plain])}: such a name usually says what a "
        "folder is for, not what its photos show",
        hint=f"move what is no class out of it; or {_as_classes(folder)}",
        code="TP2028",
    )


def _as_classes(folder: Path) -> str:
    return f"take every folder as a class: {command('run', folder, '--name', 'NAME', '--class-folders')}"


def _say_aside(folder: Path, paths: Sequence[Path]) -> None:
    if paths:
        _log.warning(
            "not read as classes, in %s: %s; --class-folders makes every folder a class",
            folder,
            some_names([path.name for path in paths]),
        )


def _filled(folders: Sequence[Path], entries: Entries) -> list[Path]:
    """Those that hold anything. A folder without anything is no class, and is warned about once."""
    filled = []
    for path in folders:
        if entries.files(path) or entries.folders(path):
            filled.append(path)
        else:
            entries.say_empty(path)
    return filled
