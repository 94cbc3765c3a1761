"""Converts labels to indices of scores."""

from __future__ import annotations

from typing import Iterable, Sequence


def label_indices(names: Iterable[str], labels: Sequence[str]) -> list[int]:
    """The index in `labels` of each name; -1 for a name that is not in `labels`."""
    index = {label: position for position, label in enumerate(labels)}
    return [index.get(name, -1) for name in names]
