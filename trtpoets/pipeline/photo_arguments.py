"""What a user names as photos - files, folders, patterns, standard input - as a list of single photos."""

from __future__ import annotations

import glob
import mimetypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from trtpoets.core.errors import BadInput, BadPhoto
from trtpoets.core.images import MAX_BYTES, bytes_to_array, check_photo, photo_to_array
from trtpoets.core.paths import user_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np

    from trtpoets.core.types import Preprocess

STDIN = "-"
"""The argument that stands for standard input."""

_LONGEST_LIST = 16 << 20
"""Bytes of the longest list of paths on standard input."""

_SYSTEM = frozenset(
    ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "lost+found", "@eadir", "#recycle")
)
"""Names in lower case that operating systems and archive tools put into folders of photos."""


@dataclass(frozen=True)
class PhotoSource:
    """One photo: a file, or `content` from standard input. `problem` says why an argument names no photo.

    `named` is whether the user named the file itself: a file that was found in a folder may be something else.
    """

    path: Path
    named: bool = True
    content: bytes | None = None
    problem: BadPhoto | None = None

    def pixels(self, preprocess: Preprocess) -> np.ndarray | BadPhoto | None:
        """The photo as uint8 (H, W, 3), or why it can't be used; None for a file of a folder that is no image."""
        if self.problem is not None:
            return self.problem
        try:
            if self.content is not None:
                return bytes_to_array(self.content, preprocess, "standard input")
            return photo_to_array(self.path, preprocess)
        except BadPhoto as error:
            return error if self.named or _named_as_image(self.path) else None


def photos_from_arguments(
    arguments: Iterable[Path | str], *, stdin: BinaryIO | None = None, skip: Sequence[Path] = ()
) -> list[PhotoSource]:
    """The photos that the arguments name, in their order; those of a folder or pattern are sorted by path.

    A folder stands for all photos below it, without hidden and system files, without a folder in `skip`, and without
    files that are no images. A pattern (`*`, `?`, `[...]`, `**` for any depth) is expanded unless a file has that very
    name. "-" stands for `stdin` where that is given: one photo, or paths separated by line ends or by NULs. An argument
    that names nothing becomes a source with a `problem`.
    """
    found: list[PhotoSource] = []
    barred = {folder.resolve() for folder in skip}
    for argument in arguments:
        if stdin is not None and str(argument) == STDIN:
            found += _from_stdin(stdin, barred)
        else:
            found += _from_path(str(argument), barred)
    return found


def _from_path(text: str, barred: set[Path]) -> list[PhotoSource]:
    path = user_path(text)
    if path.is_dir():
        inside = [PhotoSource(file, named=False) for file in _below(path, barred)]
        return inside or [_nothing(text, "no files below this folder")]
    if not os.path.lexists(path) and glob.has_magic(text):
        return _from_pattern(str(path), barred) or [_nothing(text, "no file matches this pattern")]
    return [PhotoSource(path)]


def _from_pattern(pattern: str, barred: set[Path]) -> list[PhotoSource]:
    matches = [Path(each) for each in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - any start, any depth
    if "**" in Path(pattern).parts:  # the files below each folder match themselves
        return [PhotoSource(path, named=False) for path in matches if path.is_file() and not _is_system(path.name)]
    found = []
    for path in matches:
        if path.is_dir():
            found += [PhotoSource(file, named=False) for file in _below(path, barred)]
        elif not _is_system(path.name):
            found.append(PhotoSource(path, named=False))
    return found


def _from_stdin(stdin: BinaryIO, barred: set[Path]) -> list[PhotoSource]:
    content = stdin.read(MAX_BYTES + 1)
    if _is_photo(content):
        return [PhotoSource(Path(STDIN), content=content)]
    if len(content) > _LONGEST_LIST:
        return [_nothing("standard input", f"it is no photo, and more than {_LONGEST_LIST >> 20} MiB of paths")]
    separator = b"\0" if b"\0" in content else b"\n"
    lines = [line if separator == b"\0" else line.rstrip(b"\r") for line in content.split(separator)]
    found = [source for line in lines if line.strip() for source in _from_line(os.fsdecode(line), barred)]
    return found or [_nothing("standard input", "it is empty: give paths of photos, or the bytes of one photo")]


def _from_line(text: str, barred: set[Path]) -> list[PhotoSource]:
    """As `_from_path`; a line that can't be a path is a source with a problem, so that the other lines are read."""
    try:
        return _from_path(text, barred)
    except BadInput as error:
        return [_nothing(text, error.message)]


def _is_photo(content: bytes) -> bool:
    """Whether bytes are a photo rather than a list of paths: they decode, or have control characters of binary data."""
    if not content:
        return False
    try:
        check_photo(content, "standard input")
    except BadPhoto:
        binary = set(range(32)) - set(b"\0\t\n\r")
        return content.startswith((b"\xff\xd8\xff", b"II*\0", b"MM\0*")) or not binary.isdisjoint(content[:4096])
    return True


def _below(folder: Path, barred: set[Path]) -> Iterator[Path]:
    """The files below a folder, sorted, folders after files. Links are followed, each folder is entered once."""
    entered = set(barred)
    pending = [folder]
    while pending:
        current = pending.pop()
        real = current.resolve()
        if real in entered:
            continue
        entered.add(real)
        try:
            names = sorted(os.listdir(current))  # noqa: PTH208 - names, as bytes sort
        except OSError:  # a folder that may not be read, as lost+found of a disk
            continue
        paths = [current / name for name in names if not _is_system(name)]
        folders = [path for path in paths if path.is_dir()]
        yield from (path for path in paths if path.is_file())
        pending += reversed(folders)


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _named_as_image(path: Path) -> bool:
    kind = mimetypes.guess_type(path.name, strict=False)[0] or ""
    return kind.startswith("image/") or path.suffix.lower() in (".heic", ".heif", ".avif", ".webp")


def _nothing(text: str, why: str) -> PhotoSource:
    return PhotoSource(
        Path(text), problem=BadPhoto(f"{text}: {why}", hint="name photo files, or a folder of them", code="TP8028")
    )
