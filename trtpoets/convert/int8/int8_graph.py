"""Builds the INT8 versions of an FP32 graph for given ranges, with any set of layers kept in FP32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView, multiply_adds
from trtpoets.convert.int8.calibration import Ranges
from trtpoets.convert.int8.equalisation import equalised
from trtpoets.convert.int8.placement import Placement, placement_from_onnx, placement_in
from trtpoets.convert.int8.qdq import with_clips, with_qdq
from trtpoets.core.errors import BadArtefact, ConversionFailed


class Int8GraphBuilder:
    """Builds INT8 versions of one FP32 ModelProto with one set of ranges.

    `model` is the FP32 model after cross-layer equalisation. `rounded` are weights that replace the model's own in
    layers that become INT8; empty at first. Raises BadArtefact when a range is missing or not finite.
    """

    def __init__(self, model: Any, ranges: Ranges) -> None:
        factors = {name: np.array(entry.factors, np.float32) for name, entry in ranges.equalised.items()}
        self.model = equalised(model, factors) if factors else model
        self.rounded: Mapping[str, np.ndarray] = {}
        self._scales: dict[str, np.ndarray] = {}
        self.view = GraphView(self.model)
        self.always_fp32 = _layers_without_range(self.view, placement_from_onnx(self.model), ranges)
        limits = {name: (-entry.limit, entry.limit) for name, entry in ranges.equalised.items()}
        self._tensors = {**ranges.tensors, **limits}
        self.work = {node.name: multiply_adds(self.view, node) for node in self.view.weighted()}
        self.total = sum(self.work.values()) + sum(multiply_adds(self.view, node) for node in self.view.products())

    def build(self, keep_float: Mapping[str, str] | None = None) -> tuple[Any, Placement]:
        """Return the graph with Q/DQ pairs, and their placement. `keep_float` maps layers kept in FP32 to the reason.

        Raises ConversionFailed when no layer can become INT8.
        """
        placement = placement_in(self.view, {**self.always_fp32, **(keep_float or {})})
        if not placement.weights:
            raise ConversionFailed(
                "no layer of the network can become INT8: "
                + "; ".join(f"{name}: {reason}" for name, reason in placement.in_float.items()),
                hint="use FP16: trtpoets quantize NAME --precision fp16",
                code="TP3026",
            )
        magnitudes = magnitudes_of(placement, self._tensors)
        return with_qdq(self.model, placement, magnitudes, self.rounded, self._scales), placement

    def build_clipped(self, placement: Placement) -> Any:
        """Return the graph that clips activations where INT8 does, but quantises nothing."""
        return with_clips(self.model, placement, magnitudes_of(placement, self._tensors))

    def share(self, placement: Placement) -> float:
        """Return the share 0..1 of all multiply-adds that run in INT8."""
        return sum(self.work[weight.node] for weight in placement.weights) / self.total if self.total else 0.0


def _layers_without_range(view: GraphView, placement: Placement, ranges: Ranges) -> dict[str, str]:
    """Return layers that read a tensor which is 0 for every calibration photo, so that it has no scale; and why."""
    kept = {}
    for use in placement.inputs:
        if use.tensor not in ranges.tensors:
            raise BadArtefact(
                f"the ranges do not contain tensor {use.tensor}",
                hint="calibrate again: trtpoets quantize NAME --force",
                code="TP3027",
            )
        low, high = ranges.tensors[use.tensor]
        if not (np.isfinite([low, high]).all() and low <= high):
            raise BadArtefact(
                f"the range of {use.tensor}, {low} to {high}, is not a finite interval",
                hint="calibrate again: trtpoets quantize NAME --force",
                code="TP3028",
            )
        if low == high == 0.0:
            for reader in view.readers[use.tensor]:
                kept[reader.node.name] = f"{use.tensor} is 0 for every calibration photo"
    return kept


def magnitudes_of(placement: Placement, tensors: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Return the largest magnitude of each tensor of a placement. Tensors joined by a Concat share their maximum."""
    magnitude = {name: max(-tensors[name][0], tensors[name][1]) for name in placement.tensors}
    for group in placement.same_scale:
        widest = max(magnitude[name] for name in group if name in magnitude)
        magnitude.update((name, widest) for name in group if name in magnitude)
    return magnitude
