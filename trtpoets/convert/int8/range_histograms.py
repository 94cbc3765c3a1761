"""Coarse histograms of activations, small enough to store in a report, and the point where INT8 clips each tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import WEIGHTED, GraphView
from trtpoets.convert.int8.fidelity import HIGHEST_DB
from trtpoets.convert.int8.placement import LEVELS
from trtpoets.core.network_notes import WorstLayer

BINS = 64
"""Number of bins that are kept of each tensor: enough for a small plot."""

_DIGITS = 4
"""Significant digits of a share. A network has about a hundred tensors, so the numbers are kept short."""


@dataclass(frozen=True)
class Histogram:
    """The magnitudes |x| of a tensor on the calibration photos: the share of values in equal bins over 0..top."""

    top: float
    shares: tuple[float, ...]


def histogram_from_counts(counts: np.ndarray, top: float) -> Histogram:
    """Return the coarse histogram of int64 counts (n,) in equal bins over 0..top; n must be a multiple of 64."""
    coarse = counts.reshape(BINS, -1).sum(axis=1) / max(int(counts.sum()), 1)
    return Histogram(top, tuple(float(f"{share:.{_DIGITS}g}") for share in coarse))


def worst_layers(
    int8: Any, histograms: Mapping[str, Histogram], layers_db: Mapping[str, float], most: int = 6
) -> tuple[WorstLayer, ...]:
    """Return the INT8 layers with the lowest SQNR, lowest first, with the histogram of the tensor that each reads.

    `int8` is the quantised ModelProto; its scales determine where each tensor is clipped. `layers_db` is each layer's
    SQNR in dB. Each tensor is listed once. Layers kept in FP32 and tensors without a histogram are omitted.
    """
    view = GraphView(int8)
    layers = {node.name: node for node in view.nodes if node.op_type in WEIGHTED}
    worst: dict[str, WorstLayer] = {}
    for name, db in sorted(layers_db.items(), key=lambda item: item[1]):
        tensor, limit = _clipping_limit(view, layers[name]) if name in layers else ("", 0.0)
        if tensor in histograms and tensor not in worst and db < HIGHEST_DB:
            seen = histograms[tensor]
            worst[tensor] = WorstLayer(name, db, tensor, limit, seen.top, seen.shares)
        if len(worst) == most:
            break
    return tuple(worst.values())


def _clipping_limit(view: GraphView, layer: Any) -> tuple[str, float]:
    """Return the tensor that a layer reads through a Q/DQ pair, and the magnitude at which the pair clips it."""
    dequantize = view.producer.get(layer.input[0])
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return "", 0.0
    quantize = view.producer.get(dequantize.input[0])
    if quantize is None or quantize.op_type != "QuantizeLinear" or quantize.input[1] not in view.constants:
        return "", 0.0
    return quantize.input[0], float(view.array(quantize.input[1])) * LEVELS
