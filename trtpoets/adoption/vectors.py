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


_CLASSIFIER = "give a classifier: one photo in, one score for each class out"


def why_no_scores(name: str, values: np.ndarray | None = None) -> str:
    """Return why an output is an embedding, landmarks or coordinates; "" if nothing says so.

    `name` is that of the output, without the scopes before its last "/". `values`, float (N, K), are its rows for
    random images: vectors of length 1 with negative numbers are embeddings.
    """
    if _is_named_otherwise(name):
        return "as its name says"
    return "its vectors have the length 1" if values is not None and _have_length_1(values) else ""


def require_scores(source: str, name: str, values: np.ndarray) -> None:
    """Raise BadArtefact if an output is an embedding, landmarks or coordinates (`why_no_scores`)."""
    if _is_named_otherwise(name):
        raise BadArtefact(
            f"{source} is not a classifier: its output {name} with {values.shape[1]} values is an embedding, landmarks "
            "or coordinates, as its name says",
            hint=_CLASSIFIER,
            code="TP9462",
        )
    if _have_length_1(values):
        raise BadArtefact(
            f"{source} is not a classifier: its output {name} with {values.shape[1]} values is an embedding: its "
            "vectors have the length 1",
            hint=_CLASSIFIER,
            code="TP9463",
        )


def _is_named_otherwise(name: str) -> bool:
    return bool(_NAMED.search(name.rsplit("/", 1)[-1]))


def _have_length_1(values: np.ndarray) -> bool:
    """Return whether rows (N, K) are vectors of length 1 with negative numbers."""
    if len(values) < 2 or values.shape[1] < 2 or not np.isfinite(values).all():
        return False
    lengths = np.sqrt(np.square(values.astype(np.float64)).sum(axis=1))
    return bool(np.abs(lengths - 1).max() < _SAME_LENGTH) and bool((values < -_SAME_LENGTH).any())
