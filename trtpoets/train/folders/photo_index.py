"""Finds the photo that a cell of a label file names: by path, by file name, or by file name without suffix."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.formatting import many
from trtpoets.core.types import Split
from trtpoets.train.folders.folder_roles import is_side, is_unlabelled, split_of
from trtpoets.train.folders.ignored_files import PHOTO_SUFFIXES, Entries

if TYPE_CHECKING:
    from collections.abc import Iterable

_DEEPEST = 6


class PhotoIndex:
    """All photos and other files below a folder, without photos in folders of masks and annotations."""

    def __init__(self, folder: Path, entries: Entries) -> None:
        self.folder = folder
        self.photos: list[Path] = []
        self.others: list[Path] = []
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self._walk(folder, entries, 0, set(), photos=True)
        for path in self.photos:
            self._by_name[_folded(path.name)].append(path)
            self._by_stem[_folded(path.stem)].append(path)

    def find(self, cell: str, near: Path, role: Split | None = None) -> Path | None:
        """Return the photo that `cell` of a file in the folder `near` names; None if there is none or several.

        Among photos with the same name, the one whose folders the cell names is preferred, then the one in a folder of
        `role`, then the one near the file, then the one outside a test folder.
        """
        parts = [part for part in cell.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if not parts:
            return None
        name = _folded(parts[-1])
        matches = self._by_name.get(name) or self._by_stem.get(name)
        if not matches and Path(name).suffix in PHOTO_SUFFIXES:
            matches = self._by_stem.get(Path(name).stem)
        if not matches:
            return None
        if len(matches) > 1:
            common = [_common_end(path, parts[:-1]) for path in matches]
            matches = [path for path, count in zip(matches, common, strict=True) if count == max(common)]
        for preferred in (
            lambda path: role is not None and self.split(path) is role,
            lambda path: path.parent == near.joinpath(*parts[:-1]),
            lambda path: self.split(path) is not Split.TEST,
            lambda path: path.name == parts[-1],
        ):
            if len(matches) > 1:
                matches = [path for path in matches if preferred(path)] or matches
        return matches[0] if len(matches) == 1 else None

    def split(self, path: Path) -> Split | None:
        """Return the split that the folders of a photo name, if any."""
        inside = path.relative_to(self.folder).parts[:-1]
        return next((split for part in inside if (split := split_of(part))), None)

    def _walk(self, folder: Path, entries: Entries, depth: int, seen: set[Path], *, photos: bool) -> None:
        real = folder.resolve()
        if depth > _DEEPEST or real in seen:
            return
        seen.add(real)
        for path in entries.files(folder):
            if path.suffix.lower() not in PHOTO_SUFFIXES:
                self.others.append(path)
            elif photos:
                self.photos.append(path)
        for inner in entries.folders(folder):
            labelled = photos and not is_side(inner.name) and not is_unlabelled(inner.name)
            self._walk(inner, entries, depth + 1, seen, photos=labelled)


def counted_by_folder(paths: Iterable[Path], folder: Path) -> str:
    """Return the number of paths in each folder: "8 in 'test', 2 in '.'"."""
    counts: dict[str, int] = defaultdict(int)
    for path in paths:
        counts[str(path.parent.relative_to(folder))] += 1
    shown = sorted(counts.items(), key=lambda item: -item[1])
    text = ", ".join(f"{count} in {name!r}" for name, count in shown[:4])
    return text + (f" and {many(len(shown) - 4, 'other folder')}" if len(shown) > 4 else "")


def _common_end(path: Path, parts: list[str]) -> int:
    count = 0
    for one, other in zip(reversed(path.parts[:-1]), reversed(parts), strict=False):
        if _folded(one) != _folded(other):
            break
        count += 1
    return count


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
