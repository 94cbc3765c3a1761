"""What calibration saw of each tensor, coarse enough to keep and to draw, and where INT8 cuts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import WEIGHTED, GraphView
from trtpoets.convert.int8.fidelity import HIGHEST_DB
from trtpoets.convert.int8.qdq import LEVELS

BINS = 64
"""Bins that are kept of each tensor: as many as a small plot can show."""

_DIGITS = 4
"""Of a share: more would say nothing, and a network has a hundred tensors."""


@dataclass(frozen=True)
class Histogram:
    """The magnitudes |x| of a tensor on the calibration photos: the share of values in equal bins over 0..top."""

    top: float
    shares: tuple[float, ...]


@dataclass(frozen=True)
class WorstLayer:
    """An INT8 layer that is far from FP32: its signal to noise `db`, and the histogram of the `tensor` that it reads.

    `limit` is the largest magnitude of the tensor that INT8 holds; `top` and `shares` are as in Histogram.
    """

    layer: str
    db: float
    tensor: str
    limit: float
    top: float
    shares: tuple[float, ...]


def histogram_from_counts(counts: np.ndarray, top: float) -> Histogram:
    """The coarse form of counts int64 (n,) in equal bins over 0..top, n a multiple of 64."""
    few = counts.reshape(BINS, -1).sum(axis=1) / max(int(counts.sum()), 1)
    return Histogram(top, tuple(float(f"{share:.{_DIGITS}g}") for share in few))


def worst_layers(
    int8: Any, histograms: Mapping[str, Histogram], layers_db: Mapping[str, float], most: int = 6
) -> tuple[WorstLayer, ...]:
    """The INT8 layers whose output is farthest from FP32's, lowest dB first, with the histogram of what each reads.

    `int8` is the quantised ModelProto: where it cuts a tensor is read from its scales. A tensor is shown once; layers
    in float, and tensors that no histogram is known of, are left out.
    """
    view = GraphView(int8)
    layers = {node.name: node for node in view.nodes if node.op_type in WEIGHTED}
    found: dict[str, WorstLayer] = {}
    for name, db in sorted(layers_db.items(), key=lambda item: item[1]):
        tensor, limit = _cut(view, layers[name]) if name in layers else ("", 0.0)
        if tensor in histograms and tensor not in found and db < HIGHEST_DB:
            seen = histograms[tensor]
            found[tensor] = WorstLayer(name, db, tensor, limit, seen.top, seen.shares)
        if len(found) == most:
            break
    return tuple(found.values())


def _cut(view: GraphView, layer: Any) -> tuple[str, float]:
    """The tensor that a layer reads through a Q/DQ pair, and the largest magnitude that its step holds."""
    back = view.producer.get(layer.input[0])
    narrow = view.producer.get(back.input[0]) if back is not None and back.op_type == "DequantizeLinear" else None
    if narrow is None or narrow.op_type != "QuantizeLinear" or narrow.input[1] not in view.constants:
        return "", 0.0
    return narrow.input[0], float(view.array(narrow.input[1])) * LEVELS
