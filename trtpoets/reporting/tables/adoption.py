"""The result of `adopt` on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import many, shown
from trtpoets.core.runner_id import baseline_of, baseline_text
from trtpoets.reporting.sections.adoption_section import adoption_rows

if TYPE_CHECKING:
    from trtpoets.core.types import ModelSpec

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


def parity_sentence(spec: ModelSpec, parity: Any, rounded: Any) -> str:
    """Return how fp32.onnx compares with the classifier. For an integer network `rounded` is a variant that rounds."""
    original = baseline_text(baseline_of(spec))
    on = f"on {many(parity.photos, 'image')}"
    if rounded is None:
        return f"fp32.onnx gives the scores of {original} {on}: the largest difference is {parity.max_abs:.1g}."
    same = "" if parity.same_answers is None else f"; it gives the same answer to {parity.same_answers} of them"
    return (
        f"With the rounding of its integers, the converted network gives the scores of {original} {on}, with a "
        f"difference of at most {rounded.max_abs:.2g}. fp32.onnx does not round: its scores differ by at most "
        f"{parity.max_abs:.2g}{same}."
    )
