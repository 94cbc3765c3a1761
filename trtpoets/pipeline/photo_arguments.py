"""Expands the photo arguments of a command (files, folders, glob patterns, standard input) into single photos."""

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
"""The argument for standard input."""

_MAX_LIST = 16 << 20
"""Maximum size in bytes of a list of paths on standard input."""

_SYSTEM = frozenset(
    ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "lost+found", "@eadir", "#recycle")
)
"""Names, in lower case, of files and folders that operating systems and archive tools add to photo folders."""


@dataclass(frozen=True)
class PhotoSource:
    """One photo: a file, or `content` from standard input. `problem` is set if an argument matches no photo.

    `named` is true if the user named the file, false if it was found in a folder and therefore may not be a photo.
    """

    path: Path
    named: bool = True
    content: bytes | None = None
    problem: BadPhoto | None = None

    def pixels(self, preprocess: Preprocess) -> np.ndarray | BadPhoto | None:
        """Return the photo as uint8 (H, W, 3), or its error; None for a file in a folder that is not an image."""
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
    """Return the photos of the arguments, in order; those of a folder or pattern are sorted by path.

    A folder stands for all photos below it, except hidden files, system files and the folders in `skip`. A pattern
    (`*`, `?`, `[...]`, `**` for any depth) is expanded unless a file of that name exists. "-" stands for `stdin`, if
    given: one photo, or paths separated by newlines or NUL bytes. An argument that matches nothing becomes a source
    with a `problem`.
    """
    sources: list[PhotoSource] = []
    excluded = {folder.resolve() for folder in skip}
    for argument in arguments:
        if stdin is not None and str(argument) == STDIN:
            sources += _from_stdin(stdin, excluded)
        else:
            sources += _from_path(str(argument), excluded)
    return sources


def _from_path(text: str, excluded: set[Path]) -> list[PhotoSource]:
    path = user_path(text)
    if path.is_dir():
        sources = [PhotoSource(file, named=False) for file in _below(path, excluded)]
        return sources or [_no_photo(text, "no files below this folder")]
    if not os.path.lexists(path) and glob.has_magic(text):
        return _from_pattern(str(path), excluded) or [_no_photo(text, "no file matches this pattern")]
    return [PhotoSource(path)]


def _from_pattern(pattern: str, excluded: set[Path]) -> list[PhotoSource]:
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - any start, any depth
    if "**" in Path(pattern).parts:  # the files below each folder match themselves
        return [PhotoSource(path, named=False) for path in matches if path.is_file() and not _is_system(path.name)]
    sources = []
    for path in matches:
        if path.is_dir():
            sources += [PhotoSource(file, named=False) for file in _below(path, excluded)]
        elif not _is_system(path.name):
            sources.append(PhotoSource(path, named=False))
    return sources


def _from_stdin(stdin: BinaryIO, excluded: set[Path]) -> list[PhotoSource]:
    content = stdin.read(MAX_BYTES + 1)
    if _is_photo(content):
        return [PhotoSource(Path(STDIN), content=content)]
    if len(content) > _MAX_LIST:
        return [_no_photo("standard input", f"it is neither a photo nor a list of at most {_MAX_LIST >> 20} MiB")]
    separator = b"\0" if b"\0" in content else b"\n"
    lines = [line if separator == b"\0" else line.rstrip(b"\r") for line in content.split(separator)]
    sources = [source for line in lines if line.strip() for source in _from_line(os.fsdecode(line), excluded)]
    return sources or [_no_photo("standard input", "it is empty; it must be a list of paths or one photo")]


def _from_line(text: str, excluded: set[Path]) -> list[PhotoSource]:
    """Like `_from_path`, but an invalid path becomes a source with a problem, so that the other lines are read."""
    try:
        return _from_path(text, excluded)
    except BadInput as error:
        return [_no_photo(text, error.message)]


def _is_photo(content: bytes) -> bool:
    """Return whether `content` is a photo and not a list of paths: it decodes, or contains control characters."""
    if not content:
        return False
    try:
        check_photo(content, "standard input")
    except BadPhoto:
        binary = set(range(32)) - set(b"\0\t\n\r")
        return content.startswith((b"\xff\xd8\xff", b"II*\0", b"MM\0*")) or not binary.isdisjoint(content[:4096])
    return True


def _below(folder: Path, excluded: set[Path]) -> Iterator[Path]:
    """Yield the files below a folder, sorted, files before subfolders. Links are followed, each folder only once."""
    entered = set(excluded)
    pending = [folder]
    while pending:
        current = pending.pop()
        real = current.resolve()
        if real in entered:
            continue
        entered.add(real)
        try:
            names = sorted(os.listdir(current))  # noqa: PTH208 - sorted by name
        except OSError:  # an unreadable folder, such as lost+found
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


def _no_photo(text: str, why: str) -> PhotoSource:
    return PhotoSource(
        Path(text), problem=BadPhoto(f"{text}: {why}", hint="name photo files, or a folder of them", code="TP8028")
    )
