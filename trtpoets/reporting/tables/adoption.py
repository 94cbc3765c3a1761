"""The result of `adopt` on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import shown
from trtpoets.reporting.sections.adoption_section import adoption_rows, parity_sentence

if TYPE_CHECKING:
    from trtpoets.core.types import ModelSpec

_TRIED = 8
"""Rows of the trial that are shown."""


def adoption_parts(adoption: Any) -> list[tuple[str, list[str], list[tuple[Any, ...]]]]:
    """Return the parts (title, columns, rows) about an Adoption of pipeline/adopt.py."""
    parts: list[tuple[str, list[str], list[tuple[Any, ...]]]] = [("", [], [*adoption_rows(adoption.spec)])]
    trial = adoption.trial
    if trial is not None:
        best = trial.rows[:_TRIED]
        chosen = [row for row in trial.rows[_TRIED:] if _is_chosen(row, adoption.spec)]
        rows = [
            (shown(row.contract.text), f"{row.count} of {row.photos}", _mark(row, adoption.spec))
            for row in (*best, *chosen)
        ]
        more = f"; the best {_TRIED} of {len(trial.rows)}" if len(trial.rows) > _TRIED else ""
        parts.append((f"Ways to prepare the photos, and right answers{more}", ["", "right>", ""], rows))
    return parts


def comparison_sentence(adoption: Any) -> str:
    """Return how the scores of fp32.onnx compare with those of the original file."""
    return parity_sentence(adoption.spec, adoption.compared.parity, adoption.compared.rounded)


def _mark(row: Any, spec: ModelSpec) -> str:
    return "chosen" if _is_chosen(row, spec) else ""


def _is_chosen(row: Any, spec: ModelSpec) -> bool:
    """Return whether a row of the trial has the contract of the classifier."""
    pixels, preprocess = row.contract.pixels, spec.preprocess
    geometry = (preprocess.resize, preprocess.crop_fraction)
    return (
        (pixels.scale, pixels.offset) == (preprocess.scale, preprocess.offset)
        and spec.original is not None
        and pixels.channels is spec.original.channels
        and (row.contract.geometry.resize, row.contract.geometry.crop_fraction) == geometry
    )
