"""Labels as numbers: which score each names."""

from __future__ import annotations

from typing import Iterable, Sequence


def label_indices(found: Iterable[str], labels: Sequence[str]) -> list[int]:
    """Which score each label names; -1 for a label that the classifier does not know."""
    index = {label: number for number, label in enumerate(labels)}
    return [index.get(label, -1) for label in found]
