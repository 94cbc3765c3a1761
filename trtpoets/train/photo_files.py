"""From a folder of class folders to the files that are photos: found, read, hashed and decoded once."""

from __future__ import annotations

import hashlib
import logging
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput, BadPhoto
from trtpoets.core.images import check_photo, read_photo, usable_cores
from trtpoets.core.progress import Progress, silent
from trtpoets.core.threads import map_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_log = logging.getLogger(__name__)

_LAYOUT = "put the photos of each class into a folder named after it: PHOTOS/roses/1.jpg, PHOTOS/tulips/1.jpg"


@dataclass(frozen=True)
class CheckedFile:
    """A file of a class: the sha256 of its bytes, or the reason why it can't be used, with its remedy.

    `levels` is the value of its 16-bit samples that it suggests for white, 0 for 8-bit samples.
    """

    path: Path
    label: str
    sha256: str
    reason: str = ""
    remedy: str = ""
    levels: int = 0


def files_in_classes(folder: Path) -> dict[str, list[Path]]:
    """The files of each class, sorted. A class is a folder in `folder`; its photos lie directly in it.

    Hidden entries are passed over, and so are files beside the class folders. Links are followed; since nothing is read
    deeper than a class folder, a loop of links ends by itself. Raises BadInput for a folder or class name that can't be
    used.
    """
    if not folder.exists():
        raise BadInput(f"{folder} is not there", hint=_LAYOUT)
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder", hint=_LAYOUT)
    classes = {path.name: _entries(path) for path in _entries(folder) if path.is_dir()}
    if not classes:
        raise BadInput(f"{folder} has no class folders", hint=_LAYOUT)
    _check_names(classes, folder)
    files = {}
    for label, entries in classes.items():
        folders = [path.name for path in entries if path.is_dir()]
        files[label] = [path for path in entries if path.name not in folders]
        if folders and not files[label]:
            raise BadInput(
                f"{folder / label} has folders ({_some(folders)}) and no photos: photos are read one level deep",
                hint=f"{_LAYOUT}; or give {folder / label} itself, if its folders are the classes",
            )
        if folders:
            _log.warning("folders inside class %r are not read: %s", label, _some(folders))
        if not entries:
            _log.warning("%s is empty, so it is no class", folder / label)
    return {label: each for label, each in files.items() if each}


def checked_files(classes: dict[str, list[Path]], progress: Progress = silent) -> list[CheckedFile]:
    """Read, hash and decode every file once, in threads; in the order of `classes` and their files."""
    todo = [(label, path) for label, paths in classes.items() for path in paths]
    threads = usable_cores()
    checked = []
    for result in map_ahead(lambda item: _check(*item), todo, threads, 4 * threads):
        checked.append(result)
        progress("photos", len(checked), len(todo))
    return checked


def _check(label: str, path: Path) -> CheckedFile:
    if not path.is_file():
        reason = "is a link that leads nowhere" if path.is_symlink() else "is not a regular file"
        return CheckedFile(path, label, "", reason, "delete it")
    try:
        content = read_photo(path)
        facts = check_photo(content, str(path))
    except BadPhoto as error:
        return CheckedFile(path, label, "", error.message.replace(str(path), "", 1).strip(), error.hint)
    return CheckedFile(path, label, hashlib.sha256(content).hexdigest(), levels=facts.levels)


def _entries(folder: Path) -> list[Path]:
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208 - names, as bytes sort
    except OSError as error:
        raise BadInput(f"{folder} can't be read: {error.strerror}", hint="check its permissions") from error
    return [folder / name for name in sorted(names)]


def _check_names(labels: Iterable[str], folder: Path) -> None:
    alike: dict[str, str] = {}
    for label in labels:
        try:
            label.encode()
        except UnicodeEncodeError:
            raise BadInput(
                f"the name of the class folder {os.fsencode(label)!r} in {folder} is not UTF-8",
                hint="rename it: class names are written into models, which hold only UTF-8",
            ) from None
        if any(unicodedata.category(character) == "Cc" for character in label):
            raise BadInput(f"the class name {label!r} has a control character", hint=f"rename {str(folder / label)!r}")
        same = unicodedata.normalize("NFC", label).casefold()
        if same in alike:
            raise BadInput(
                f"the class names {alike[same]!r} and {label!r} differ by case only",
                hint="rename one of the folders, or move their photos into one",
            )
        alike[same] = label


def _some(names: Sequence[str], most: int = 5) -> str:
    text = ", ".join(repr(name) for name in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")
