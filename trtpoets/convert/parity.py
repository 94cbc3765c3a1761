"""Checks that an exported network computes the same scores as the network it was exported from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.classifier_hints import REPORT
from trtpoets.core.errors import BadInput, ConversionFailed
from trtpoets.core.network_notes import Parity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.core.types import Photo

LIMIT = 1e-4
"""Largest difference in a score (0..1) that the order of additions usually causes in FP32; wrong graphs differ more."""

_LARGEST, _MEAN = 1e-3, 3e-6
"""A single score near 0.5 of a sure head can differ by more than LIMIT: a head of MobileNet 0.25 (160 pixels) for
handwritten digits by 1.4e-4, with a mean of 4.5e-7. Up to the first number it counts as rounding if the mean difference
is at most the second and all answers are the same. A wrong graph changes all scores."""


def parity_from_scores(
    reference: np.ndarray,
    scores: np.ndarray,
    photos: Sequence[Photo],
    limit: float = LIMIT,
    reference_name: str = "TensorFlow",
    hint: str = REPORT,
) -> Parity:
    """Compare float32 (N, C) scores with the reference's; row i belongs to `photos[i]`, `photos` may be empty.

    `reference_name` names the reference in errors; `hint` says what to do if the scores differ.

    Raises ConversionFailed, which names the worst photo, if a score differs by more than `limit` and by more than
    rounding explains, or is not finite; BadInput if there is nothing to compare.
    """
    if reference.shape != scores.shape or reference.ndim != 2 or not reference.size:
        raise BadInput(
            f"scores of shape {scores.shape} can't be compared with a reference of shape {reference.shape}",
            code="TP3053",
        )
    if photos and len(photos) != len(reference):
        raise BadInput(f"there are {len(reference)} rows of scores for {len(photos)} photos", code="TP3054")
    difference = np.abs(reference.astype(np.float64) - scores.astype(np.float64))
    # A score that is not finite counts as infinitely different.
    difference[~np.isfinite(difference)] = np.inf
    row = int(np.argmax(difference.max(axis=1)))
    worst = photos[row].path if photos else None
    same = int((reference.argmax(axis=1) == scores.argmax(axis=1)).sum())
    parity = Parity(len(reference), float(difference.max()), float(difference.mean()), worst, same)
    if parity.max_abs > limit and not _is_rounding(parity):
        where = str(parity.worst) if parity.worst is not None else f"row {row}"
        label = int(difference[row].argmax())
        raise ConversionFailed(
            f"the exported network differs from {reference_name}: on {where}, score {label} is "
            f"{scores[row, label]:.6g} instead of {reference[row, label]:.6g}; the difference is {parity.max_abs:.2g}, "
            f"at most {limit:.0e} is allowed; {same} of {len(reference)} answers are the same, and the mean difference "
            f"is {parity.mean_abs:.2g}",
            hint=hint,
            code="TP3055",
        )
    return parity


def _is_rounding(parity: Parity) -> bool:
    """Return whether single scores differ by rounding: see `_LARGEST`."""
    return parity.max_abs <= _LARGEST and parity.mean_abs <= _MEAN and parity.same_answers == parity.photos
