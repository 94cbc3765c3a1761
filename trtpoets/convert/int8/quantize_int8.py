"""Converts fp32.onnx and ranges to int8.onnx: corrects biases, rounds weights and keeps sensitive layers in FP32.

The INT8 file has opset 17 and an FP32 remainder, the form that every TensorRT reads. Below opset 19, Q/DQ pairs accept
FP32 only; TensorRT 8.x reads no later opset; and FP16 cannot represent the scales (those of folded weights are as small
as 1e-6). A builder flag makes TensorRT 8 to 10 run the remainder in FP16: the preprocessing, pooling, the last layer
and the layers kept in FP32. The metadata of the file names the nodes that must stay FP32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import CONVOLUTIONS
from trtpoets.convert.graph.naming import finished
from trtpoets.convert.int8.accuracy_target import PairedAnswers, excess, is_met
from trtpoets.convert.int8.bias_correction import layer_sqnr, with_shifted_biases
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, Ranges, calibration_from_photos
from trtpoets.convert.int8.forms import TENSORRT, Arithmetic
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.other_form import searched_for_form, tensors_of_form
from trtpoets.convert.int8.placement import Placement
from trtpoets.convert.int8.range_search import search_ranges
from trtpoets.convert.int8.sensitivity import SearchLimits, SensitivitySearch
from trtpoets.convert.onnx_export import metadata_of_spec
from trtpoets.convert.precision import require_fp32
from trtpoets.core.network_notes import DistillNotes, Fidelity, FrontierPoint, KeptLayer
from trtpoets.core.onnx_file import CALIBRATION_KEY, check_onnx, write_onnx
from trtpoets.core.onnx_graph import marked_fp32
from trtpoets.core.progress import Progress, silent
from trtpoets.core.serialization import OPTIONAL
from trtpoets.core.types import OnnxModel, Photo, Precision

_FINALISTS = 2
"""At most this many methods are compared on all judged photos."""

_NEAR_DB = 3.5
"""A method whose features have an SQNR that is lower than the best by more than this is not compared on all photos."""

_JUDGEMENTS = 2
"""At most this many versions of a search are judged on all photos; then the last result is extrapolated."""

Judge = Callable[[Any], PairedAnswers | None]
"""Compares the file of an INT8 version, a ModelProto, with FP32 on all photos that may be used for a choice.

None where that is not possible for this file.
"""

Distiller = Callable[[Any, Placement], tuple[Any, DistillNotes]]
"""Distils an INT8 version, a ModelProto with these places of pairs; returns it unchanged if the result is not kept."""


@dataclass(frozen=True)
class Int8Notes:
    """How INT8 quantisation went. `in_float` maps each convolution, MatMul and Gemm kept in FP32 to the reason.

    `share` is the share 0..1 of all multiply-adds (`multiply_adds`, for one photo) that run in INT8. Fidelity compares
    with FP32 on the validation photos: `plain` with Q/DQ pairs only, `corrected` after bias correction, `together`
    after GPTQ as well (each is kept if it is better), `final` of the written file. `before_head` is `final` before the
    last layer was replaced, None if it was not. `equalised` is the number of equalised tensors, `rounded` the number of
    layers rounded by GPTQ. `steps` are the layers kept in FP32 by the sensitivity analysis; `layers_db` is the SQNR in
    dB of each layer's output. `kept_fp32` maps each node that must not be converted to FP16 to the reason. `frontier`
    has a point for each number of layers that the search kept in FP32, from 0 on; the written file keeps `steps`.
    `before_distillation` is the fidelity before the network was distilled; None if it was not distilled, or if the
    distilled network was not kept.
    """

    convolutions: int
    convolutions_int8: int
    products: int
    products_int8: int
    pairs: int
    multiply_adds: int
    share: float
    in_float: Mapping[str, str]
    equalised: int
    rounded: int
    plain: Fidelity
    corrected: Fidelity
    together: Fidelity
    final: Fidelity
    steps: tuple[KeptLayer, ...]
    layers_db: Mapping[str, float]
    before_head: Fidelity | None = None
    kept_fp32: Mapping[str, str] = field(default_factory=dict)
    frontier: tuple[FrontierPoint, ...] = ()
    distilled: DistillNotes | None = field(default=None, metadata=OPTIONAL)
    before_distillation: Fidelity | None = field(default=None, metadata=OPTIONAL)


def chosen_ranges(
    evaluator: Int8Evaluator,
    photos: Sequence[Photo],
    calibration: CalibrationConfig,
    progress: Progress = silent,
    other_form: Arithmetic | None = None,
) -> Ranges:
    """Return the ranges of the chosen method; with AUTO the best of all methods, and each one's validation result.

    Includes tensors that only `other_form` quantises; they are searched unless `calibration` asks for a method without
    a search. Raises what `calibration_from_photos` and `int8_from_onnx` raise.
    """
    also = tensors_of_form(check_onnx(evaluator.model.path), other_form) if other_form else ()
    measured = calibration_from_photos(evaluator.model, photos, calibration, progress, evaluator.arithmetic, also)
    by_method = measured.by_method
    if calibration.method in calibration.method.base_methods:
        return by_method[0]

    def completed(chosen: Ranges) -> Ranges:
        if other_form is None:
            return chosen
        return searched_for_form(evaluator.model, other_form, also, chosen, photos, progress)

    refined = search_ranges(evaluator.model, measured, photos, progress, evaluator.arithmetic)
    if calibration.method is Method.AUTO:
        chosen, trials = best_ranges(evaluator, (*by_method, *refined), progress)
        return completed(replace(chosen, trials=trials))
    # If equalisation improves no tensor, `refined` contains only the ranges of the method "features".
    return completed(refined[0] if calibration.method is Method.FEATURES else refined[-1])


def best_ranges(
    evaluator: Int8Evaluator, candidates: Sequence[Ranges], progress: Progress = silent
) -> tuple[Ranges, dict[str, Fidelity]]:
    """Return the candidate whose INT8 network, with bias correction, is closest to FP32; and the fidelity of each.

    The closest has the features with the highest SQNR, because all later steps raise that; the distance of the scores
    is better for ranges with larger errors whose effects on one head cancel out by chance. All are compared on a few
    photos, with the bias correction of the first one with the same equalisation; the best two of them, unless one is
    much better, on all photos that are judged, each with its own. Raises the same errors as `int8_from_onnx`.
    """

    def closeness(ranges: Ranges) -> tuple[float, tuple[float, float]]:
        fidelity = trials[ranges.method.value]
        return fidelity.features_db, fidelity.rank

    finalists = list(candidates)
    steps = len(candidates) + _FINALISTS
    own: Mapping[str, np.ndarray] | None = None if evaluator.config.correct_bias else {}
    trials: dict[str, Fidelity] = {}
    if len(candidates) > _FINALISTS:
        shifts: dict[bool, Mapping[str, np.ndarray]] = {}
        for number, ranges in enumerate(candidates):
            progress("methods", number, steps)
            known = own if own is not None else shifts.get(bool(ranges.equalised))
            builder = evaluator.builder(ranges)
            version = _build(evaluator, builder, shifts=known, photos=evaluator.few_judged)
            shifts.setdefault(bool(ranges.equalised), version.shifts)
            trials[ranges.method.value] = version.fidelity
        ordered = sorted(candidates, key=closeness, reverse=True)
        least_db = closeness(ordered[0])[0] - _NEAR_DB
        finalists = [ranges for ranges in ordered[:_FINALISTS] if closeness(ranges)[0] >= least_db]
    for number, ranges in enumerate(finalists):
        progress("methods", steps - len(finalists) + number, steps)
        trials[ranges.method.value] = _build(evaluator, evaluator.builder(ranges), shifts=own).fidelity
    progress("methods", steps, steps)
    return max(finalists, key=closeness), trials


def int8_from_onnx(
    evaluator: Int8Evaluator,
    ranges: Ranges,
    out: Path,
    progress: Progress = silent,
    distiller: Distiller | None = None,
    judge: Judge | None = None,
) -> tuple[OnnxModel, Int8Notes]:
    """Write the INT8 file of an FP32 one: Q/DQ pairs with scales from `ranges`, corrected according to the config.

    `judge` decides whether the target of accuracy_target.py is met; without it, the evaluator's validation photos do.

    With a `distiller` the network is distilled, after 95 % or `int8_share` of the multiply-adds were left in INT8; more
    layers are kept in FP32, and the network is distilled again, only if the target is not met then.

    Raises BadArtefact if the ranges belong to another file or are not finite, BadPhoto, ConversionFailed,
    StorageFailed.
    """
    require_fp32(evaluator.model)
    config, spec = evaluator.config, evaluator.model.spec
    builder = evaluator.builder(ranges)
    start, stages = _corrected(evaluator, builder, progress)
    version = start

    def evaluate(keep: Mapping[str, str]) -> Fidelity:
        nonlocal version
        version = _build(evaluator, builder, keep, shifts=start.shifts)
        return version.fidelity

    distillation, target = _Distillation(evaluator, distiller), _AccuracyTarget(evaluator, judge)

    def is_target_met() -> bool:
        # Only the first network is distilled here: later ones differ by a layer, and training takes minutes.
        return target.is_met(version if distillation.notes else distillation.of(version))

    limits = SearchLimits(config.target_db, config.target_agreement, config.int8_share, config.max_float_layers)
    search = SensitivitySearch(evaluator, builder, start.shifts)
    frontier = [_point(search, builder, version, 0)]
    kept_layers: list[KeptLayer] = []
    for kept in search.kept_layers(start.fidelity, limits, evaluate, is_target_met, progress):
        kept_layers.append(kept)
        frontier.append(_point(search, builder, version, len(kept_layers)))
    searched, version = version, distillation.of(version)
    if version is not searched:
        frontier[-1] = replace(frontier[-1], fidelity=version.fidelity)
    metadata = {**metadata_of_spec(spec, Precision.INT8), CALIBRATION_KEY: ranges.hash}
    kept_nodes: dict[str, str] = {}
    if evaluator.arithmetic is TENSORRT:  # no runtime computes the float part of the CPU form in FP16
        kept_nodes = evaluator.kept_fp32(version.proto, progress, builder.model)
        metadata.update(marked_fp32(list(kept_nodes)))
    metadata.update(evaluator.arithmetic.metadata)
    write_onnx(finished(evaluator.as_file(version.proto).graph, builder.view.opset, metadata), out)
    layers_db = layer_sqnr(builder.model, version.proto, evaluator.search_photos)
    notes = _notes(builder, ranges, version, stages, tuple(kept_layers), layers_db)
    notes = replace(notes, kept_fp32=kept_nodes, frontier=tuple(frontier), distilled=distillation.notes)
    if version is not searched:
        notes = replace(notes, before_distillation=searched.fidelity)
    return OnnxModel(out, Precision.INT8, spec, evaluator.arithmetic.form), notes


def notes_of_new_head(evaluator: Int8Evaluator, notes: Int8Notes, model: OnnxModel) -> Int8Notes:
    """Return the notes of an INT8 file whose last layer was replaced after `notes` were measured.

    Raises BadArtefact if the file is not an ONNX file.
    """
    proto = check_onnx(model.path)
    final = evaluator.fidelity_of_file(proto)
    if evaluator.arithmetic is not TENSORRT:  # the file has no float layers to compare; their outputs are as before
        return replace(notes, final=final, before_head=notes.final)
    layers_db = layer_sqnr(evaluator.proto, proto, evaluator.search_photos)
    return replace(notes, final=final, layers_db=layers_db, before_head=notes.final)


@dataclass(frozen=True)
class _Int8Version:
    """An INT8 version of the network, the shifts of its biases (empty if uncorrected), and its fidelity."""

    proto: Any
    placement: Placement
    shifts: Mapping[str, np.ndarray]
    fidelity: Fidelity


class _Distillation:
    """Distils INT8 versions, each once. `notes` are those of the latest; None if none was distilled."""

    def __init__(self, evaluator: Int8Evaluator, distiller: Distiller | None) -> None:
        self.notes: DistillNotes | None = None
        self._evaluator = evaluator
        self._distiller = distiller
        self._source: _Int8Version | None = None
        self._result: _Int8Version | None = None

    def of(self, version: _Int8Version) -> _Int8Version:
        """Return the distilled version; the version itself without a distiller, or if the result is not kept."""
        if self._distiller is None:
            return version
        if self._result is None or self._source is not version:
            proto, self.notes = self._distiller(version.proto, version.placement)
            self._source = self._result = version
            if self.notes.kept:
                self._result = replace(version, proto=proto, fidelity=self._evaluator.fidelity(proto))
        return self._result


class _AccuracyTarget:
    """Decides whether INT8 versions meet the accuracy target, each closer to FP32 than the one before.

    A judgement on all photos takes seconds. After one that fails, the next version is judged when its SQNR has risen by
    what the excess of different answers asks for.
    """

    def __init__(self, evaluator: Int8Evaluator, judge: Judge | None) -> None:
        self._evaluator = evaluator
        self._judge = judge
        self._left = _JUDGEMENTS
        self._needed_db = -math.inf

    def is_met(self, version: _Int8Version) -> bool:
        if self._judge is None:
            return self._evaluator.is_target_met(version.proto)
        if version.fidelity.features_db < self._needed_db:
            return False
        if self._left == 0:
            return True
        self._left -= 1
        answers = self._judge(self._evaluator.as_file(version.proto))
        if answers is None:
            self._judge = None
            return self._evaluator.is_target_met(version.proto)
        self._needed_db = version.fidelity.features_db + 20 * math.log10(excess(answers))
        return is_met(answers)


_Stages = tuple[Fidelity, Fidelity, Fidelity]
"""The fidelity with Q/DQ pairs only, after bias correction, and after GPTQ, whether or not the change was kept."""


def _corrected(evaluator: Int8Evaluator, builder: Int8GraphBuilder, progress: Progress) -> tuple[_Int8Version, _Stages]:
    """Apply bias correction, then GPTQ; keep each only if the SQNR of the features improves.

    Either can fail with few photos or strong clipping. GPTQ without bias correction would shift the means.
    """
    config = evaluator.config
    plain = _build(evaluator, builder, shifts={})
    if not config.correct_bias:
        return plain, (plain.fidelity, plain.fidelity, plain.fidelity)
    corrected = _build(evaluator, builder)
    stages = (plain.fidelity, corrected.fidelity, corrected.fidelity)
    if corrected.fidelity.features_db < plain.fidelity.features_db:
        return plain, stages
    if not config.round_weights:
        return corrected, stages
    builder.rounded = evaluator.gptq_weights(plain.proto, plain.placement, progress)
    rounded = _build(evaluator, builder)
    stages = (plain.fidelity, corrected.fidelity, rounded.fidelity)
    if rounded.fidelity.features_db < corrected.fidelity.features_db:
        builder.rounded = {}
        return corrected, stages
    return rounded, stages


def _build(
    evaluator: Int8Evaluator,
    builder: Int8GraphBuilder,
    keep: Mapping[str, str] | None = None,
    *,
    shifts: Mapping[str, np.ndarray] | None = None,
    photos: int | None = None,
) -> _Int8Version:
    """Build the INT8 version with the layers of `keep` in FP32, and evaluate it on `photos` photos (None: all).

    `shifts` are those of another version with the same weights; None measures them. They hardly depend on which other
    layers are INT8, or on the ranges.
    """
    proto, placement = builder.build(keep)
    if shifts is None:
        shifts = evaluator.bias_shifts(builder, proto, placement)
    quantised = {weight.node for weight in placement.weights}
    shifts = {name: shift for name, shift in shifts.items() if name in quantised}
    corrected = with_shifted_biases(proto, shifts)
    return _Int8Version(corrected, placement, shifts, evaluator.fidelity(corrected, photos))


def _point(search: SensitivitySearch, builder: Int8GraphBuilder, version: _Int8Version, layers: int) -> FrontierPoint:
    """Return the point of the frontier for a version with so many layers kept in FP32 by the search."""
    share, time = builder.share(version.placement), search.costs.relative(version.placement)
    return FrontierPoint(layers, share, time, version.fidelity)


def _notes(
    builder: Int8GraphBuilder,
    ranges: Ranges,
    version: _Int8Version,
    stages: _Stages,
    kept_layers: tuple[KeptLayer, ...],
    layers_db: Mapping[str, float],
) -> Int8Notes:
    quantised = {weight.node for weight in version.placement.weights}
    weighted = builder.view.weighted()
    convolutions = [node.name for node in weighted if node.op_type in CONVOLUTIONS]
    matmuls = [node.name for node in weighted if node.op_type not in CONVOLUTIONS]
    plain, corrected, rounded = stages
    return Int8Notes(
        convolutions=len(convolutions),
        convolutions_int8=len(quantised.intersection(convolutions)),
        products=len(matmuls),
        products_int8=len(quantised.intersection(matmuls)),
        pairs=len(version.placement.tensors) + len(version.placement.weights),
        multiply_adds=builder.total,
        share=builder.share(version.placement),
        in_float={**version.placement.in_float, **{kept.layer: kept.why for kept in kept_layers}},
        equalised=len(ranges.equalised),
        rounded=len(builder.rounded),
        plain=plain,
        corrected=corrected,
        together=rounded,
        final=version.fidelity,
        steps=kept_layers,
        layers_db=dict(layers_db),
    )
