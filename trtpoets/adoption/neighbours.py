"""Reads the small text files beside a classifier file, and those stored inside it. Their content is not trusted."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trtpoets.adoption.foreign import ForeignModel
from trtpoets.core.errors import BadInput
from trtpoets.core.reading import read_text

LARGEST = 4 << 20
"""Most bytes of a file with labels or settings."""

_LARGEST_NUMBER = 1e6


def folders_of(foreign: ForeignModel) -> tuple[Path, ...]:
    """Return the folders whose files may belong to a classifier: its own, and that of a subfolder named onnx."""
    path = foreign.path
    own = (path, path.parent) if path.is_dir() else (path.parent,)
    return (*own, path.parent.parent) if path.parent.name in ("onnx", "saved_model") else own


def find_beside(foreign: ForeignModel, names: Sequence[str]) -> list[Path]:
    """Return the files with these names beside a classifier, in the order of `names`."""
    paths = [folder / name for name in names for folder in folders_of(foreign)]
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def text_beside(foreign: ForeignModel, name: str) -> str | None:
    """Return the text of a file beside a classifier; None if there is none, or it is not text in UTF-8."""
    for path in find_beside(foreign, [name]):
        try:
            return read_text(path, LARGEST).removeprefix("\ufeff")
        except (OSError, UnicodeDecodeError, BadInput):
            continue
    return None


def json_beside(foreign: ForeignModel, name: str) -> dict[str, Any]:
    """Return the object in a JSON file beside a classifier; empty if there is none, or it is damaged."""
    return json_object(text_beside(foreign, name))


def json_object(text: str | None) -> dict[str, Any]:
    """Return the JSON object of a text; empty if it is something else."""
    value = json_value(text)
    return value if isinstance(value, dict) else {}


def json_value(text: str | None) -> Any:
    """Return the value of a JSON text; None if it is not valid."""
    if text is None or len(text) > LARGEST:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def number_of(value: Any) -> float | None:
    """Return a finite number from a number or its text, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) <= _LARGEST_NUMBER else None


def triple_of(value: Any) -> tuple[float, float, float] | None:
    """Return three numbers from a list of one or three, or their text with commas; None for anything else."""
    if isinstance(value, str):
        value = value.strip("[]() ").split(",")
    if not isinstance(value, (list, tuple)) or len(value) not in (1, 3):
        return None
    numbers = [number for number in map(number_of, value) if number is not None]
    if len(numbers) != len(value):
        return None
    return (numbers[0], numbers[-2] if len(numbers) == 3 else numbers[0], numbers[-1])
