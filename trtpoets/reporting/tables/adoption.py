"""The result of `adopt` on the terminal."""

from __future__ import annotations

from typing import Any

from trtpoets.core.formatting import shown
from trtpoets.reporting.sections.adoption_section import adoption_rows, parity_sentence

_TRIED = 8
"""Rows of the trial that are shown."""


def adoption_parts(adoption: Any) -> list[tuple[str, list[str], list[tuple[Any, ...]]]]:
    """Return the parts (title, columns, rows) about an Adoption of pipeline/adopt.py."""
    parts: list[tuple[str, list[str], list[tuple[Any, ...]]]] = [("", [], [*adoption_rows(adoption.spec)])]
    trial = adoption.trial
    if trial is not None:
        rows = [(shown(row.contract.text), f"{row.count} of {row.photos}") for row in trial.rows[:_TRIED]]
        more = f"; the best {_TRIED} of {len(trial.rows)}" if len(trial.rows) > _TRIED else ""
        parts.append((f"Ways to prepare the photos, and right answers{more}", ["", "right>"], rows))
    return parts


def comparison_sentence(adoption: Any) -> str:
    """Return how the scores of fp32.onnx compare with those of the original file."""
    return parity_sentence(adoption.spec, adoption.compared.parity, adoption.compared.rounded)
