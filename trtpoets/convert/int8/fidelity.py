"""Compares a quantised network with its FP32 original: SQNR of features and scores, and agreement of the labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.activation_stats import with_outputs
from trtpoets.convert.int8.integer_reference import integer_reference
from trtpoets.convert.int8.placement import is_matrix_vector
from trtpoets.core.network_notes import Closeness, Fidelity
from trtpoets.core.onnx_file import open_model
from trtpoets.core.types import INPUT_NAME

HIGHEST_DB = 200.0
"""The SQNR in dB of arrays that are equal. It would be infinite, and JSON has no infinity."""


_SCORES = ("Softmax", "LogSoftmax", "Sigmoid")
"""Operators that compute scores from logits."""


@dataclass(frozen=True)
class NetworkOutputs:
    """Outputs of a network: `features` float32 (N, F), see `features_of`, and `scores` float32 (N, C)."""

    features: np.ndarray
    scores: np.ndarray


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Return 10 log10(mean(reference²) / mean((other - reference)²)), the SQNR in dB, limited to ±200."""
    signal = float(np.mean(np.square(reference, dtype=np.float64)))
    with np.errstate(invalid="ignore", over="ignore"):  # a damaged network may give infinities
        noise = float(np.mean(np.square(np.subtract(other, reference, dtype=np.float64))))
    return sqnr_from_powers(signal, noise)


def sqnr_from_powers(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise), limited to ±200: the SQNR in dB."""
    if noise == 0.0:
        return HIGHEST_DB
    if signal == 0.0 or not np.isfinite(noise):
        return -HIGHEST_DB
    return float(np.clip(10.0 * np.log10(signal / noise), -HIGHEST_DB, HIGHEST_DB))


def features_of(view: GraphView) -> str:
    """Return the input of the last layer with weights, which stays in floating point; otherwise the logits.

    Where the last layer is INT8, as the last convolution of SqueezeNet is, its own error must count as well.
    """
    last = view.weighted()[-1]
    if is_matrix_vector(view, last):
        return str(last.input[0])
    tensor = view.outputs[0]
    while (node := view.producer.get(tensor)) is not None and len(view.activations(node)) == 1:
        tensor = view.activations(node)[0]
        if node.op_type in _SCORES:
            return tensor
    return str(last.input[0])


def outputs_from_onnx(model: Any, features: str, batches: Iterable[np.ndarray]) -> NetworkOutputs:
    """Run a ModelProto on batches of photos, uint8 (N, H, W, 3). `features` is the name of the feature tensor.

    A network with Q/DQ pairs is computed in integers, as TensorRT does (integer_reference).
    """
    session = open_model(integer_reference(with_outputs(model, [features])))
    feature_rows, score_rows = [], []
    for batch in batches:
        scores, values = session.run(None, {INPUT_NAME: batch})
        feature_rows.append(values.reshape(len(batch), -1))
        score_rows.append(scores)
    return NetworkOutputs(np.concatenate(feature_rows), np.concatenate(score_rows))


def fidelity_from_outputs(reference: NetworkOutputs, other: NetworkOutputs) -> Fidelity:
    """Compare the outputs of two networks for the same photos, row by row."""
    scores = closeness_of_scores(reference.scores, other.scores)
    return Fidelity(
        photos=scores.photos,
        features_db=sqnr_db(reference.features, other.features),
        scores_db=scores.scores_db,
        agreement=scores.agreement,
        distance=scores.distance,
    )


def closeness_of_scores(reference: np.ndarray, other: np.ndarray) -> Closeness:
    """Compare the scores (N, C) of two networks for the same photos, row by row."""
    same = reference.argmax(axis=1) == other.argmax(axis=1)
    distance = np.abs(reference.astype(np.float64) - other).sum(axis=1) / 2
    return Closeness(
        photos=len(same),
        agreement=float(same.mean()),
        distance=float(distance.mean()),
        scores_db=sqnr_db(reference, other),
    )
