"""fp32.onnx + ranges -> int8.onnx, as near to FP32 as can be: biases corrected, the worst layers left in float.

The INT8 file keeps opset 17 and an FP32 remainder. That is the form every TensorRT reads: below opset 19 the pairs take
FP32 only, TensorRT 8.x reads no later opset, and scales in FP16 ruin the network (folded weights have steps down to
1e-6). TensorRT 8 to 10 turn the remainder to FP16 by a builder flag, which for these networks is the preprocessing,
pooling, the last layer and the layers left in float; the file names the nodes that must stay FP32 then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import CONVOLUTIONS
from trtpoets.convert.graph.naming import finished
from trtpoets.convert.int8.bias_correction import layer_fidelity, with_biases
from trtpoets.convert.int8.calibration import Ranges
from trtpoets.convert.int8.fidelity import Fidelity
from trtpoets.convert.int8.int8_evaluator import Comparer
from trtpoets.convert.int8.int8_graph import Int8Maker
from trtpoets.convert.int8.placement import Placement
from trtpoets.convert.int8.sensitivity import Limits, Search, Step
from trtpoets.convert.onnx_export import metadata_of_spec
from trtpoets.convert.precision import expect_fp32
from trtpoets.core.onnx_file import CALIBRATION_KEY, check_onnx, write_onnx
from trtpoets.core.onnx_graph import marked_fp32
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import OnnxModel, Precision


@dataclass(frozen=True)
class Int8Notes:
    """What became of a network in INT8. `in_float` tells for each convolution and matrix product left in float why.

    `share` is the share 0..1 of all multiply-adds (`multiply_adds`, for one photo) that run in INT8. Fidelity is held
    against FP32 on the validation photos: `plain` with pairs alone, `corrected` with biases corrected too, `together`
    with weights rounded together as well (each kept when better), `final` as written. `before_head` is what `final` was
    before the last layer was replaced, None where it was not. `equalised` is the number of
    tensors with scaled channels, `rounded` that of the layers whose weights were rounded together. `steps` are the
    layers that the search left in float; `layers_db` is each layer's own signal to noise. `kept_fp32` tells for each
    node that must not compute in FP16 either why.
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
    steps: tuple[Step, ...]
    layers_db: Mapping[str, float]
    before_head: Fidelity | None = None
    kept_fp32: Mapping[str, str] = field(default_factory=dict)


def best_ranges(
    comparer: Comparer, candidates: Sequence[Ranges], progress: Progress = silent
) -> tuple[Ranges, dict[str, Fidelity]]:
    """The ranges whose INT8 network, biases corrected, answers most like FP32 on the judging photos; and all trials.

    The nearest by `Fidelity.rank`. Raises as `int8_from_onnx` does.
    """
    trials = {}
    for number, ranges in enumerate(candidates):
        progress("methods", number, len(candidates))
        made = _made(comparer, comparer.maker(ranges), correct=comparer.config.correct_bias)
        trials[ranges.method.value] = made.fidelity
    progress("methods", len(candidates), len(candidates))
    return max(candidates, key=lambda ranges: trials[ranges.method.value].rank), trials


def int8_from_onnx(
    comparer: Comparer, ranges: Ranges, out: Path, progress: Progress = silent
) -> tuple[OnnxModel, Int8Notes]:
    """Write the INT8 file of an FP32 one: Q/DQ pairs with the steps that `ranges` give, made as good as can be.

    Raises BadArtefact when the ranges are another file's or not finite, BadPhoto, ConversionFailed, StorageFailed.
    """
    expect_fp32(comparer.model)
    config, spec = comparer.config, comparer.model.spec
    maker = comparer.maker(ranges)
    form, stages = _corrected(comparer, maker, progress)
    start = form

    def tried(keep: Mapping[str, str]) -> Fidelity:
        nonlocal form
        form = _made(comparer, maker, keep, correct=bool(start.shifts))
        return form.fidelity

    limits = Limits(config.target_db, config.target_agreement, config.int8_share, config.max_float_layers)
    search = Search(maker, comparer.reference, comparer.searched, start.shifts)
    steps = tuple(search.steps(start.fidelity, limits, tried, progress))
    kept = comparer.kept_fp32(form.proto, progress)
    metadata = {**metadata_of_spec(spec, Precision.INT8), CALIBRATION_KEY: ranges.hash, **marked_fp32(list(kept))}
    write_onnx(finished(form.proto.graph, maker.view.opset, metadata), out)
    layers = layer_fidelity(maker.model, form.proto, comparer.searched, comparer.sessions)
    notes = _notes(maker, ranges, form, stages, steps, layers)
    return OnnxModel(out, Precision.INT8, spec), replace(notes, kept_fp32=kept)


def notes_of_new_head(comparer: Comparer, notes: Int8Notes, model: OnnxModel) -> Int8Notes:
    """The notes of an INT8 file whose last layer was replaced since `notes` were taken: what is measured, anew.

    Raises BadArtefact where the file is no ONNX file.
    """
    proto = check_onnx(model.path)
    layers = layer_fidelity(comparer.proto, proto, comparer.searched, comparer.sessions)
    return replace(notes, final=comparer.fidelity(proto), layers_db=layers, before_head=notes.final)


@dataclass(frozen=True)
class _Form:
    """An INT8 form of the whole network, how far its biases were moved (nowhere: nothing), and how near it is."""

    proto: Any
    placement: Placement
    shifts: Mapping[str, np.ndarray]
    fidelity: Fidelity


_Stages = tuple[Fidelity, Fidelity, Fidelity]
"""How near a network came with pairs alone, biases corrected, and weights rounded: kept or not."""


def _corrected(comparer: Comparer, maker: Int8Maker, progress: Progress) -> tuple[_Form, _Stages]:
    """Biases corrected, then weights rounded together: each kept if the features gain by it.

    On few photos, or where ranges cut much, either can miss. Rounding without correction would move the means.
    """
    config = comparer.config
    plain = _made(comparer, maker, correct=False)
    if not config.correct_bias:
        return plain, (plain.fidelity, plain.fidelity, plain.fidelity)
    corrected = _made(comparer, maker)
    stages = (plain.fidelity, corrected.fidelity, corrected.fidelity)
    if corrected.fidelity.features_db < plain.fidelity.features_db:
        return plain, stages
    if not config.round_weights:
        return corrected, stages
    maker.rounded = comparer.rounded(plain.proto, plain.placement, progress)
    rounded = _made(comparer, maker)
    stages = (plain.fidelity, corrected.fidelity, rounded.fidelity)
    if rounded.fidelity.features_db < corrected.fidelity.features_db:
        maker.rounded = {}
        return corrected, stages
    return rounded, stages


def _made(
    comparer: Comparer, maker: Int8Maker, keep: Mapping[str, str] | None = None, *, correct: bool = True
) -> _Form:
    """What the maker makes now, with `keep` in float."""
    proto, placement = maker.make(keep)
    shifts = comparer.shifts(maker, proto, placement) if correct else {}
    moved = with_biases(proto, shifts)
    return _Form(moved, placement, shifts, comparer.fidelity(moved))


def _notes(
    maker: Int8Maker,
    ranges: Ranges,
    form: _Form,
    stages: _Stages,
    steps: tuple[Step, ...],
    layers_db: Mapping[str, float],
) -> Int8Notes:
    quantised = {weight.node for weight in form.placement.weights}
    weighted = maker.view.weighted()
    convolutions = [node.name for node in weighted if node.op_type in CONVOLUTIONS]
    products = [node.name for node in weighted if node.op_type not in CONVOLUTIONS]
    plain, corrected, rounded = stages
    return Int8Notes(
        convolutions=len(convolutions),
        convolutions_int8=len(quantised.intersection(convolutions)),
        products=len(products),
        products_int8=len(quantised.intersection(products)),
        pairs=len(form.placement.tensors) + len(form.placement.weights),
        multiply_adds=maker.total,
        share=maker.share(form.placement),
        in_float={**form.placement.in_float, **{step.layer: step.why for step in steps}},
        equalised=len(ranges.equalised),
        rounded=len(maker.rounded),
        plain=plain,
        corrected=corrected,
        together=rounded,
        final=form.fidelity,
        steps=steps,
        layers_db=dict(layers_db),
    )
