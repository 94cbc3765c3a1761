"""Uses the ranges of one form of INT8 for another form of the same network: they are measured and searched once.

The forms differ in their grids and in a few tensors, but the lowest and highest values of a tensor are the same, and a
range that is narrower because the features do not need the rest serves both. Measured on the solar cells with
EfficientNet-Lite0, before rounding: the CPU form has 23.2 dB (scores) with the ranges of int8.onnx and 23.6 dB with the
best of the rules applied to its own histograms. Tensors that only the other form quantises, the summands of residual
connections, are searched for it. This raises the SQNR of the features, after GPTQ, of MobileNetV2's CPU form by 1.5 dB
(solar cells) and 1.0 dB (flowers), and that of EfficientNet-Lite0 by -0.1 and 0.2 dB.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.activation_stats import activation_ranges
from trtpoets.convert.int8.calibration import MeasuredRanges, Ranges
from trtpoets.convert.int8.calibration_checks import zero_tiny_ranges
from trtpoets.convert.int8.equalisation import pairs_of
from trtpoets.convert.int8.forms import TENSORRT, Arithmetic
from trtpoets.convert.int8.range_search import search_ranges
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import OnnxModel, Photo, Preprocess

_BATCH = 4


def tensors_of_form(model: Any, arithmetic: Arithmetic) -> tuple[str, ...]:
    """Return the tensors of an FP32 ModelProto that become INT8 in a form, for `also` of `calibration_from_photos`.

    They are () where no layer can become INT8 in that form.
    """
    computed = {name for node in model.graph.node for name in node.output}
    prepared = GraphView(arithmetic.prepared_from_onnx(model))
    try:
        placement = arithmetic.place(prepared, {}, ())
    except ConversionFailed:
        return ()
    return tuple(name for name in placement.tensors if name in computed)


def searched_for_form(
    model: OnnxModel,
    arithmetic: Arithmetic,
    tensors: Collection[str],
    ranges: Ranges,
    photos: Sequence[Photo],
    progress: Progress = silent,
) -> Ranges:
    """Return `ranges` of TensorRT's form, with searched ranges of the tensors that only another form quantises.

    `tensors` are the `tensors_of_form` of that form; `ranges` must have their lowest and highest values. Raises what
    `search_ranges` raises.
    """
    others = set(tensors).difference(tensors_of_form(check_onnx(model.path), TENSORRT))
    if not others:
        return ranges
    result = search_ranges(model, MeasuredRanges((ranges,), {}), photos, progress, arithmetic, others)[0]
    return replace(ranges, tensors=result.tensors)


def ranges_for_form(
    model: Any,
    arithmetic: Arithmetic,
    ranges: Ranges,
    photos: Sequence[Photo],
    preprocess: Preprocess,
    progress: Progress = silent,
) -> Ranges:
    """Return `ranges`, of an FP32 ModelProto in another form, with what this form needs.

    Tensors that have no range yet get their lowest and highest values on `photos`. Factors of equalisation are kept
    where the graph of this form can be equalised. Raises what `activation_ranges` raises.
    """
    prepared = arithmetic.prepared_from_onnx(model)
    view = GraphView(prepared)
    names = arithmetic.place(view, {}, ()).tensors
    missing = [name for name in names if name not in ranges.tensors]
    measured: dict[str, tuple[float, float]] = {}
    if missing:
        observed = activation_ranges(
            prepared, missing, photos, preprocess, _BATCH, lambda done: progress("calibration", done, len(photos))
        )
        measured = zero_tiny_ranges(observed, len(photos), logging.DEBUG)
    fit = {pair.tensor for pair in pairs_of(view, names)}
    equalised = {name: entry for name, entry in ranges.equalised.items() if name in fit}
    return replace(ranges, tensors={**ranges.tensors, **measured}, equalised=equalised)
