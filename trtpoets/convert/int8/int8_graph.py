"""The INT8 forms of a graph for given ranges: some layers left in float, and how much of its work is INT8 then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView, multiply_adds
from trtpoets.convert.int8.calibration import Ranges
from trtpoets.convert.int8.equalisation import equalised
from trtpoets.convert.int8.placement import Placement, placement_from_onnx, placement_in
from trtpoets.convert.int8.qdq import with_cuts, with_pairs
from trtpoets.core.errors import BadArtefact, ConversionFailed


class Int8Maker:
    """Makes the INT8 forms of one FP32 ModelProto with one set of ranges.

    `model` is its FP32 form, channels scaled as the ranges say. `rounded` are weights to put in place of its own
    where they become INT8; none at first. Raises BadArtefact when the ranges lack a tensor or are not finite.
    """

    def __init__(self, model: Any, ranges: Ranges) -> None:
        factors = {name: np.array(each.factors, np.float32) for name, each in ranges.equalised.items()}
        self.model = equalised(model, factors) if factors else model
        self.rounded: Mapping[str, np.ndarray] = {}
        self.view = GraphView(self.model)
        self.rigid = _without_range(self.view, placement_from_onnx(self.model), ranges)
        limits = {name: (-each.limit, each.limit) for name, each in ranges.equalised.items()}
        self._tensors = {**ranges.tensors, **limits}
        self.work = {node.name: multiply_adds(self.view, node) for node in self.view.weighted()}
        self.total = sum(self.work.values())

    def make(self, keep_float: Mapping[str, str] | None = None) -> tuple[Any, Placement]:
        """The graph with Q/DQ pairs. `keep_float` names layers that stay in float, and why.

        Raises ConversionFailed when no convolution can become INT8.
        """
        placement = placement_in(self.view, {**self.rigid, **(keep_float or {})})
        if not placement.weights:
            raise ConversionFailed(
                "not one convolution can become INT8: " + "; ".join(f"{n}: {w}" for n, w in placement.in_float.items()),
                hint="use fp16",
                code="TP3026",
            )
        magnitudes = magnitudes_of(placement, self._tensors)
        return with_pairs(self.model, placement, magnitudes, self.rounded), placement

    def without_steps(self, placement: Placement) -> Any:
        """The graph that cuts data where INT8 does, and steps nothing."""
        return with_cuts(self.model, placement, magnitudes_of(placement, self._tensors))

    def share(self, placement: Placement) -> float:
        """The share 0..1 of all multiply-adds that run in INT8."""
        return sum(self.work[weight.node] for weight in placement.weights) / self.total if self.total else 0.0


def _without_range(view: GraphView, placement: Placement, ranges: Ranges) -> dict[str, str]:
    """Convolutions that read a tensor which was 0 on every calibration photo: no step can be told for it."""
    kept = {}
    for use in placement.inputs:
        if use.tensor not in ranges.tensors:
            raise BadArtefact(
                f"the ranges lack {use.tensor}", hint="calibrate again: trtpoets quantize NAME --force", code="TP3027"
            )
        low, high = ranges.tensors[use.tensor]
        if not (np.isfinite([low, high]).all() and low <= high):
            raise BadArtefact(
                f"the range of {use.tensor} is {low} to {high}",
                hint="calibrate again: trtpoets quantize NAME --force",
                code="TP3028",
            )
        if low == high == 0.0:
            for reader in view.readers[use.tensor]:
                kept[reader.node.name] = f"{use.tensor} is 0 on every calibration photo"
    return kept


def magnitudes_of(placement: Placement, tensors: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The largest magnitude of each tensor of a placement; those that a Concat joins get the largest of theirs."""
    magnitude = {name: max(-tensors[name][0], tensors[name][1]) for name in placement.tensors}
    for group in placement.same_scale:
        widest = max(magnitude[name] for name in group if name in magnitude)
        magnitude.update((name, widest) for name in group if name in magnitude)
    return magnitude
