"""The INT8 form of a graph for given ranges, some layers left in float, and how much of its work is INT8 then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from trtpoets.convert.calibration import Ranges
from trtpoets.convert.graph import GraphView, multiply_adds
from trtpoets.convert.placement import Placement, placement_from_onnx
from trtpoets.convert.qdq import LEVELS, with_pairs
from trtpoets.core.errors import BadArtefact, ConversionFailed


class Int8Maker:
    """Makes the INT8 forms of one FP32 ModelProto with one set of ranges.

    Raises BadArtefact when the ranges lack a tensor or are not finite.
    """

    def __init__(self, model: Any, ranges: Ranges) -> None:
        self.model = model
        self.ranges = ranges
        self.view = GraphView(model)
        self.rigid = _without_range(self.view, placement_from_onnx(model), ranges)
        self.work = {node.name: multiply_adds(self.view, node) for node in self.view.weighted()}
        self.total = sum(self.work.values())

    def make(self, keep_float: Mapping[str, str] | None = None) -> tuple[Any, Placement]:
        """The graph with Q/DQ pairs. `keep_float` names layers that stay in float, and why.

        Raises ConversionFailed when no convolution can become INT8.
        """
        placement = placement_from_onnx(self.model, {**self.rigid, **(keep_float or {})})
        if not placement.weights:
            raise ConversionFailed(
                "not one convolution can become INT8: " + "; ".join(f"{n}: {w}" for n, w in placement.in_float.items()),
                hint="use fp16",
            )
        return with_pairs(self.model, placement, scales_of(placement, self.ranges)), placement

    def with_exact_weights(self, placement: Placement) -> Any:
        """The graph with the pairs of the data, but not those of the weights."""
        return with_pairs(self.model, replace(placement, weights=()), scales_of(placement, self.ranges))

    def share(self, placement: Placement) -> float:
        """The share 0..1 of all multiply-adds that run in INT8."""
        return sum(self.work[weight.node] for weight in placement.weights) / self.total if self.total else 0.0


def _without_range(view: GraphView, placement: Placement, ranges: Ranges) -> dict[str, str]:
    """Convolutions that read a tensor which was 0 on every calibration photo: no step can be told for it."""
    kept = {}
    for use in placement.inputs:
        if use.tensor not in ranges.tensors:
            raise BadArtefact(f"the ranges lack {use.tensor}", hint="calibrate again: trtpoets quantize NAME --force")
        low, high = ranges.tensors[use.tensor]
        if not (np.isfinite([low, high]).all() and low <= high):
            raise BadArtefact(
                f"the range of {use.tensor} is {low} to {high}", hint="calibrate again: trtpoets quantize NAME --force"
            )
        if low == high == 0.0:
            for reader in view.readers[use.tensor]:
                kept[reader.node.name] = f"{use.tensor} is 0 on every calibration photo"
    return kept


def scales_of(placement: Placement, ranges: Ranges) -> dict[str, float]:
    """The step of each tensor; tensors that a Concat joins get the widest of theirs."""
    magnitude = {name: max(-ranges.tensors[name][0], ranges.tensors[name][1]) for name in placement.tensors}
    for group in placement.same_scale:
        widest = max(magnitude[name] for name in group if name in magnitude)
        magnitude.update((name, widest) for name in group if name in magnitude)
    return {name: value / LEVELS for name, value in magnitude.items()}
