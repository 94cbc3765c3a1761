"""Checks class names: they must be valid in model files and distinguishable by people."""

from __future__ import annotations

import os
import unicodedata
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def check_class_names(labels: Iterable[str], folder: Path, labels_file: str = "") -> None:
    """Raise BadInput for a name that is not UTF-8 or has a control character, and for two names that look alike.

    Names look alike if they differ only by case, white space at the ends, invisible characters or Unicode form.
    `labels_file` is the file that contains the names, empty for class folders.
    """
    where = "labels in " + labels_file if labels_file else "folders"
    alike: dict[str, str] = {}
    for label in labels:
        try:
            label.encode()
        except UnicodeEncodeError:
            raise BadInput(
                f"the name of the class folder {os.fsencode(label)!r} in {folder} is not UTF-8",
                hint="rename it: class names are stored in model files as UTF-8",
                code="TP2029",
            ) from None
        if any(unicodedata.category(character) == "Cc" for character in label):
            raise BadInput(
                f"the class name {label!r} has a control character",
                hint=f"rename {str(folder / label)!r}",
                code="TP2030",
            )
        same = _folded(label)
        if same in alike:
            raise BadInput(
                f"the class names {_difference(alike[same], label)}",
                hint=f"rename one of the {where}, or merge them",
                code="TP2031",
            )
        alike[same] = label


def _folded(label: str) -> str:
    visible = "".join(character for character in label if unicodedata.category(character) != "Cf")
    return " ".join(unicodedata.normalize("NFC", visible).casefold().split())


def _difference(one: str, other: str) -> str:
    """Return both names and their difference; non-ASCII characters are escaped if the names look the same."""
    if one.casefold() == other.casefold():
        return f"{one!r} and {other!r} differ by case only"
    if unicodedata.normalize("NFC", one).casefold() == unicodedata.normalize("NFC", other).casefold():
        return f"{one!a} and {other!a} are the same text in two Unicode forms (NFC and NFD)"
    return f"{one!a} and {other!a} differ by white space or invisible characters only"
