"""Types for the layout of a photo folder: its labelled files, their labels, and given splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from trtpoets.core.types import Split


@dataclass(frozen=True)
class Layout:
    """The layout of a photo folder.

    `kind` is "class folders", "split folders" or "CSV". `understood` describes in one or two sentences how the folder
    was read. `labels_file` is the label file, relative to the photo folder, and `label_column`, `photo_column` and
    `split_column` are the names of its columns; they are empty if there are none.
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
    """A file that should be a photo, its label, and the split that the folder or its CSV gives, if any."""

    path: Path
    label: str
    split: Split | None = None


@dataclass(frozen=True)
class LabelledFiles:
    """All labelled files of a folder, and its layout."""

    files: tuple[LabelledFile, ...]
    layout: Layout
