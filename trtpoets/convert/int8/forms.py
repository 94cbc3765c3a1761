"""Defines the forms of INT8: which tensors become integers, their quantisation grid, and the form of the file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8 import cpu_form
from trtpoets.convert.int8.cpu_placement import cpu_placement_in
from trtpoets.convert.int8.grid import SYMMETRIC, UNSIGNED, Grid
from trtpoets.convert.int8.placement import LEVELS, Placement, check_unquantised, placement_in
from trtpoets.core.onnx_file import FORM_KEY
from trtpoets.core.types import Int8Form

_Place = Callable[[GraphView, Mapping[str, str], Collection[str]], Placement]


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic of a form of INT8.

    `activations` is the grid of computed tensors. `prepared` returns the FP32 graph, rewritten if the form needs it;
    `place` places the Q/DQ pairs in that graph and has the arguments of `cpu_placement_in`; `lowered` returns the
    corrected Q/DQ graph, with integer constants if the form has them. The tensors of a group have a common scale: with
    `by_source` it is that of the first tensor, otherwise it covers the ranges of all.
    """

    form: Int8Form
    activations: Grid
    place: _Place
    prepared: Callable[[Any], Any]
    lowered: Callable[[Any], Any]
    by_source: bool

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata by which files of this form are recognised."""
        return {} if self.form is Int8Form.TENSORRT else {FORM_KEY: self.form.value}

    def prepared_from_onnx(self, model: Any) -> Any:
        """Return the FP32 ModelProto in which this form places its pairs.

        Raises BadArtefact if it has pairs already or unnamed nodes.
        """
        check_unquantised(model)
        return self.prepared(model)

    def searched(self, placement: Placement) -> tuple[str, ...]:
        """Return the tensors of a placement whose ranges are searched; the others have the scale of one of these."""
        others = {name for group in placement.same_scale for name in group[1:]} if self.by_source else set()
        return tuple(name for name in placement.tensors if name not in others)

    def spans(self, placement: Placement, tensors: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Return the range that each tensor represents in INT8, from the ranges measured for `tensors`.

        Tensors of a group with a common scale get the same range.
        """
        spans = {name: tensors[name] for name in placement.tensors}
        for group in placement.same_scale:
            members = [name for name in group if name in spans]
            sources = members[:1] if self.by_source else members
            common = min(spans[name][0] for name in sources), max(spans[name][1] for name in sources)
            spans.update((name, common) for name in members)
        return spans


def _unchanged(model: Any) -> Any:
    return model


TENSORRT = Arithmetic(
    Int8Form.TENSORRT,
    SYMMETRIC,
    lambda view, keep, without: placement_in(view, keep),
    _unchanged,
    _unchanged,
    by_source=False,
)
"""int8.onnx: symmetric Q/DQ pairs where TensorRT fuses."""

CPU = Arithmetic(Int8Form.CPU, UNSIGNED, cpu_placement_in, cpu_form.prepared, cpu_form.lowered, by_source=True)
"""int8.cpu.onnx: integers between all layers, for ONNX Runtime."""


def _tflite_placement(view: GraphView, keep: Mapping[str, str], without: Collection[str]) -> Placement:
    """Return the placement of the CPU form with 8-bit weights. The arguments are those of `cpu_placement_in`."""
    placement = cpu_placement_in(view, keep, without)
    return replace(placement, weights=tuple(replace(weight, levels=LEVELS) for weight in placement.weights))


TFLITE = Arithmetic(Int8Form.TENSORRT, UNSIGNED, _tflite_placement, _unchanged, _unchanged, by_source=True)
"""The arithmetic of int8.tflite: that of CPU, but with 8-bit weights. GPTQ rounds for it; no ONNX file has it."""
