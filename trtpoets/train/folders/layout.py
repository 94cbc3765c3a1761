"""What was understood of a photo folder: which files are labelled how, and whether splits are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from trtpoets.core.types import Split


@dataclass(frozen=True)
class Layout:
    """How a photo folder is arranged.

    `kind` is "class folders", "split folders" or "CSV". `understood` says in one or two sentences what was read as
    what. `labels_file` is the file with the labels, relative to the photo folder, and `label_column`, `photo_column`
    and `split_column` name its columns; they are empty where there is none.
    """

    kind: str
    understood: str = ""
    labels_file: str = ""
    photo_column: str = ""
    label_column: str = ""
    split_column: str = ""


CLASS_FOLDERS = Layout("class folders")


@dataclass(frozen=True)
class LabelledFile:
    """A file that should be a photo, its label, and the split that the folder or its CSV gives it, if any."""

    path: Path
    label: str
    split: Split | None = None


@dataclass(frozen=True)
class LabelledFiles:
    """All labelled files of a folder, and what was understood of it."""

    files: tuple[LabelledFile, ...]
    layout: Layout
