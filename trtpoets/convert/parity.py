"""Does the exported network answer like the one it was exported from?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.errors import BadInput, ConversionFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.core.types import Photo

LIMIT = 1e-4
"""Two FP32 graphs that sum in another order differ by less than this in a score of 0..1; wrong graphs by far more."""


@dataclass(frozen=True)
class Parity:
    """How far the scores of two runners lie apart: over all photos and labels, and the photo where it is worst.

    `worst` is None when the rows that were compared are not photos of a dataset.
    """

    photos: int
    max_abs: float
    mean_abs: float
    worst: Path | None


def parity_from_scores(
    reference: np.ndarray, scores: np.ndarray, photos: Sequence[Photo], limit: float = LIMIT
) -> Parity:
    """Compare float32 (N, C) scores with the reference's, row i being `photos[i]`; `photos` may be empty.

    Raises ConversionFailed when any score differs by more than `limit` or is not finite, naming the worst photo;
    BadInput when there is nothing to compare.
    """
    if reference.shape != scores.shape or reference.ndim != 2 or not reference.size:
        raise BadInput(f"scores of shape {scores.shape} can't be compared with {reference.shape}", code="TP3053")
    if photos and len(photos) != len(reference):
        raise BadInput(f"{len(reference)} rows of scores belong to {len(photos)} photos", code="TP3054")
    apart = np.abs(reference.astype(np.float64) - scores.astype(np.float64))
    # A score that is not a number lies infinitely far from anything.
    apart[~np.isfinite(apart)] = np.inf
    row = int(apart.max(axis=1).argmax())
    parity = Parity(len(reference), float(apart.max()), float(apart.mean()), photos[row].path if photos else None)
    if parity.max_abs > limit:
        where = str(parity.worst) if parity.worst is not None else f"row {row}"
        label = int(apart[row].argmax())
        raise ConversionFailed(
            f"the exported network answers otherwise than TensorFlow: on {where} score {label} is "
            f"{scores[row, label]:.6g} instead of {reference[row, label]:.6g}, {parity.max_abs:.2g} apart where "
            f"{limit:.0e} is allowed",
            hint="export again with another --opset; if it stays, report the backbone and the versions of "
            "TensorFlow and tf2onnx",
            code="TP3055",
        )
    return parity
