"""How near a quantised network stays to the FP32 one: its features and its scores on the same photos."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import MATRIX_PRODUCTS, GraphView
from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.core.onnx_file import open_session
from trtpoets.core.types import INPUT_NAME

HIGHEST_DB = 200.0
"""Said of arrays that are equal: no noise at all would be infinite, and JSON has no infinity."""


@dataclass(frozen=True)
class Answers:
    """What a network made of photos: features float32 (N, F) before its last layer, and scores float32 (N, C)."""

    features: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Fidelity:
    """Two networks on the same photos. `agreement` is the share 0..1 of photos with the same first label.

    `features_db` and `scores_db` are signal to quantisation noise in dB; `distance` is the mean over photos of the
    total variation between the two rows of scores, 0..1.
    """

    photos: int
    features_db: float
    scores_db: float
    agreement: float
    distance: float

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is nearer. Scores' distance first: every photo has a say in it, and in agreement only a few."""
        return -self.distance, self.agreement


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Signal to quantisation noise, 10 log10(mean(reference²) / mean((other - reference)²)), in dB, ±200 at most."""
    signal = float(np.mean(np.square(reference, dtype=np.float64)))
    with np.errstate(invalid="ignore", over="ignore"):  # a broken network's infinities: no signal is left
        noise = float(np.mean(np.square(np.subtract(other, reference, dtype=np.float64))))
    if noise == 0.0:
        return HIGHEST_DB
    if signal == 0.0 or not np.isfinite(noise):
        return -HIGHEST_DB
    return float(np.clip(10.0 * np.log10(signal / noise), -HIGHEST_DB, HIGHEST_DB))


def features_of(view: GraphView) -> str:
    """The tensor that the last matrix product reads; without one, that the last layer with weights reads."""
    weighted = view.weighted()
    products = [node for node in weighted if node.op_type in MATRIX_PRODUCTS]
    return str((products or weighted)[-1].input[0])


def answers_from_onnx(model: Any, features: str, batches: Iterable[np.ndarray]) -> Answers:
    """Run a ModelProto on batches of photos, uint8 (N, H, W, 3). `features` names a tensor in it."""
    session = open_session(with_outputs(model, [features]).SerializeToString())
    found, scores = [], []
    for batch in batches:
        score, feature = session.run(None, {INPUT_NAME: batch})
        found.append(feature.reshape(len(batch), -1))
        scores.append(score)
    return Answers(np.concatenate(found), np.concatenate(scores))


def fidelity_from_answers(reference: Answers, other: Answers) -> Fidelity:
    """Compare two networks' answers to the same photos, row by row."""
    same = reference.scores.argmax(axis=1) == other.scores.argmax(axis=1)
    apart = np.abs(reference.scores.astype(np.float64) - other.scores).sum(axis=1) / 2
    return Fidelity(
        photos=len(same),
        features_db=sqnr_db(reference.features, other.features),
        scores_db=sqnr_db(reference.scores, other.scores),
        agreement=float(same.mean()),
        distance=float(apart.mean()),
    )
