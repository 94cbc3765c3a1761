"""Recognises outputs that describe a photo by numbers, such as embeddings and landmarks, in place of class scores."""

from __future__ import annotations

import re

import numpy as np

from trtpoets.core.errors import BadArtefact

_NAMED = re.compile(
    r"embed|feature|descriptor|landmark|keypoint|heatmap|regress|bbox|_crop$|(^|[^a-z])(kps|boxes)([^a-z]|$)",
    re.IGNORECASE,
)
"""Names of outputs whose values are no scores."""

_SAME_LENGTH = 1e-3
"""Largest difference of the length of a vector from 1, for float16 too."""


def why_no_scores(name: str, values: np.ndarray | None = None) -> str:
    """Return why an output is an embedding, landmarks or coordinates; "" if nothing says so.

    `name` is that of the output, without the scopes before its last "/". `values`, float (N, K), are its rows for
    random images: vectors of length 1 with negative numbers are embeddings.
    """
    if _NAMED.search(name.rsplit("/", 1)[-1]):
        return "as its name says"
    if values is None or len(values) < 2 or values.shape[1] < 2 or not np.isfinite(values).all():
        return ""
    lengths = np.sqrt(np.square(values.astype(np.float64)).sum(axis=1))
    one = bool(np.abs(lengths - 1).max() < _SAME_LENGTH) and bool((values < -_SAME_LENGTH).any())
    return "its vectors have the length 1" if one else ""


def require_scores(source: str, name: str, values: np.ndarray) -> None:
    """Raise BadArtefact if an output is an embedding, landmarks or coordinates (`why_no_scores`)."""
    why = why_no_scores(name, values)
    if why:
        raise BadArtefact(
            f"{source} is not a classifier: its output {name} with {values.shape[1]} values is an embedding, landmarks "
            f"or coordinates, {why}",
            hint="give a classifier: one photo in, one score for each class out",
            code="TP9462",
        )
