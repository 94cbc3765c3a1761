"""Builds the INT8 versions of an FP32 graph for given ranges, with any set of layers kept in FP32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView, multiply_adds
from trtpoets.convert.int8.calibration import Ranges
from trtpoets.convert.int8.equalisation import equalised
from trtpoets.convert.int8.forms import TENSORRT, Arithmetic
from trtpoets.convert.int8.grid import Quantiser
from trtpoets.convert.int8.placement import Placement
from trtpoets.convert.int8.qdq import with_clips, with_qdq
from trtpoets.core.errors import BadArtefact, ConversionFailed

_WIDE = 1e30
"""A limit that no activation of a usable network reaches."""


class Int8GraphBuilder:
    """Builds INT8 versions of one FP32 ModelProto with one set of ranges, in one form.

    `model` is the FP32 model, prepared for the form, after cross-layer equalisation. `rounded` are weights that replace
    the model's own in layers that become INT8; empty at first. The versions have FP32 constants:
    `arithmetic.lowered` turns one into the file. Raises BadArtefact when a range is missing or not finite.
    """

    def __init__(self, model: Any, ranges: Ranges, arithmetic: Arithmetic = TENSORRT) -> None:
        self.arithmetic = arithmetic
        model = arithmetic.prepared_from_onnx(model)
        factors = {name: np.array(entry.factors, np.float32) for name, entry in ranges.equalised.items()}
        self.model = equalised(model, factors) if factors else model
        self.rounded: Mapping[str, np.ndarray] = {}
        self.view = GraphView(self.model)
        self._without_range: tuple[str, ...] = ()
        limits = {name: _equalised_span(ranges, name) for name in ranges.equalised}
        self._tensors = {**ranges.tensors, **limits}
        self.always_fp32: Mapping[str, str] = {}
        everything = self.arithmetic.place(self.view, {}, ())
        self.always_fp32, self._without_range = _layers_without_range(self.view, everything, ranges)
        self.work = {node.name: multiply_adds(self.view, node) for node in self.view.weighted()}
        self.total = sum(self.work.values()) + sum(multiply_adds(self.view, node) for node in self.view.products())

    def build(self, keep_float: Mapping[str, str] | None = None) -> tuple[Any, Placement]:
        """Return the graph with Q/DQ pairs, and their placement. `keep_float` maps layers kept in FP32 to the reason.

        Raises ConversionFailed when no layer can become INT8.
        """
        placement = self.placement(keep_float or {})
        return with_qdq(self.model, placement, self._quantisers(placement), self.rounded), placement

    def placement(self, keep_float: Mapping[str, str]) -> Placement:
        """Return the placement alone, much faster than `build`. Raises ConversionFailed as `build` does."""
        placement = self._place(keep_float)
        if not placement.weights:
            raise ConversionFailed(
                "no layer of the network can become INT8: "
                + "; ".join(f"{name}: {reason}" for name, reason in placement.in_float.items()),
                hint="use FP16: trtpoets quantize NAME --precision fp16",
                code="TP3026",
            )
        return placement

    def build_clipped(self, placement: Placement, *, unlimited: bool = False) -> Any:
        """Return the graph that clips activations where INT8 does, but quantises nothing.

        With `unlimited` the limits are so wide that nothing is clipped.
        """
        quantisers = self._quantisers(placement)
        if unlimited:
            quantisers = {name: self.arithmetic.activations.quantiser(-_WIDE, _WIDE) for name in quantisers}
        return with_clips(self.model, placement, quantisers)

    def _place(self, keep_float: Mapping[str, str]) -> Placement:
        """Return the placement. Where layers in FP32 lead to a pair on a tensor that calibration did not measure, as
        between a convolution and an Add that are one operator in INT8, the operators that read it stay in FP32 too.
        """
        keep, without = {**self.always_fp32, **keep_float}, self._without_range
        placement = self.arithmetic.place(self.view, keep, without)
        while not self._tensors.keys() >= set(placement.tensors):
            unmeasured = [name for name in placement.tensors if name not in self._tensors]
            readers = {reader.node.name: name for name in unmeasured for reader in self.view.readers[name]}
            keep = {**{node: f"the range of {name} was not measured" for node, name in readers.items()}, **keep}
            without = (*without, *unmeasured)
            placement = self.arithmetic.place(self.view, keep, without)
        return placement

    def _quantisers(self, placement: Placement) -> dict[str, Quantiser]:
        spans = self.arithmetic.spans(placement, self._tensors)
        return {name: self.arithmetic.activations.quantiser(*span) for name, span in spans.items()}

    def share(self, placement: Placement) -> float:
        """Return the share 0..1 of all multiply-adds that run in INT8."""
        return sum(self.work[weight.node] for weight in placement.weights) / self.total if self.total else 0.0


def _equalised_span(ranges: Ranges, tensor: str) -> tuple[float, float]:
    """Return the range of a tensor with equalised channels. That of a tensor after a ReLU starts at 0."""
    limit = ranges.equalised[tensor].limit
    return (0.0 if ranges.tensors[tensor][0] >= 0 else -limit), limit


def _layers_without_range(
    view: GraphView, placement: Placement, ranges: Ranges
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the tensors that are 0 for every calibration photo, and so have no scale.

    The first result are the operators that read one of them, and why they stay in FP32; the second the tensors.
    """
    kept: dict[str, str] = {}
    without: dict[str, None] = {}
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
            without[use.tensor] = None
            for reader in view.readers[use.tensor]:
                kept[reader.node.name] = f"{use.tensor} is 0 for every calibration photo"
    return kept, tuple(without)


def magnitudes_of(placement: Placement, tensors: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Return the largest magnitude of each tensor of TensorRT's placement. Tensors joined by a Concat share theirs."""
    return {name: max(-low, high) for name, (low, high) in TENSORRT.spans(placement, tensors).items()}
