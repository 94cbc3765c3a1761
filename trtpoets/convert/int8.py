"""fp32.onnx + ranges -> int8.onnx, as near to FP32 as can be: biases corrected, the worst layers left in float.

The INT8 file keeps opset 17 and an FP32 remainder. That is the form every TensorRT reads: below opset 19 the pairs take
FP32 only, TensorRT 8.x reads no later opset, and scales in FP16 ruin the network (folded weights have steps down to
1e-6). TensorRT 8.x turns the remainder to FP16 by its builder flag; strongly typed builders (10 and later, RTX) run it
in FP32, which for these networks is the preprocessing, pooling, the last layer and the layers left in float.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.convert.bias_correction import corrections, layer_fidelity, reference_from_onnx, with_biases
from trtpoets.convert.calibration import Ranges
from trtpoets.convert.fidelity import Fidelity, answers_from_onnx, fidelity_from_answers
from trtpoets.convert.graph import CONVOLUTIONS
from trtpoets.convert.int8_graph import Int8Maker
from trtpoets.convert.naming import finished
from trtpoets.convert.onnx_export import metadata_of_spec
from trtpoets.convert.pieces import Sessions
from trtpoets.convert.placement import Placement
from trtpoets.convert.precision import expect_fp32
from trtpoets.convert.sensitivity import Limits, Search, Step
from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.files import sha256_of_file
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import CALIBRATION_KEY, check_onnx, write_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.spec import OnnxModel, Photo, Precision


@dataclass(frozen=True)
class Int8Config:
    """How INT8 is made better. Shares and agreement are 0..1.

    Biases are corrected on `correction_photos` training photos. When the features miss `target_db`, or the answers
    `target_agreement`, on `judged_photos` validation photos, the worst layers stay in float: as few as meet both, no
    more than `max_float_layers` (None: any number), and so that `int8_share` of all multiply-adds stays INT8. They are
    found on the first `search_photos` of the validation photos.
    """

    correct_bias: bool = True
    correction_photos: int = 16
    judged_photos: int = 128
    search_photos: int = 8
    target_db: float = 26.0
    target_agreement: float = 0.99
    int8_share: float = 0.95
    max_float_layers: int | None = None

    def __post_init__(self) -> None:
        if min(self.correction_photos, self.judged_photos, self.search_photos) < 1:
            raise BadInput("INT8 is corrected and judged on at least 1 photo each", hint="leave the defaults")
        if not (0 <= self.int8_share <= 1 and 0 <= self.target_agreement <= 1):
            raise BadInput(f"a share of {self.int8_share:g} is not 0 to 1", hint="0.95 is usual")
        if self.max_float_layers is not None and self.max_float_layers < 0:
            raise BadInput(f"{self.max_float_layers} layers in float", hint="give 0 for none")


@dataclass(frozen=True)
class Int8Notes:
    """What became of a network in INT8. `in_float` tells for each convolution and matrix product left in float why.

    `share` is the share 0..1 of all multiply-adds (`multiply_adds`, for one photo) that run in INT8. Fidelity is held
    against FP32 on the validation photos: `plain` with pairs alone, `corrected` with biases corrected too (kept when
    better), `final` as written. `steps` are the layers that the search left in float; `layers_db` is each layer's own
    signal to noise.
    """

    convolutions: int
    convolutions_int8: int
    products: int
    products_int8: int
    pairs: int
    multiply_adds: int
    share: float
    in_float: Mapping[str, str]
    plain: Fidelity
    corrected: Fidelity
    final: Fidelity
    steps: tuple[Step, ...]
    layers_db: Mapping[str, float]


class _Bench:
    """FP32 and its photos, ready to hold any INT8 form of it against."""

    def __init__(
        self, proto: Any, model: OnnxModel, photos: Sequence[Photo], judged: Sequence[Photo], config: Int8Config
    ) -> None:
        self.preprocess = model.spec.preprocess
        self.config = config
        self.sessions = Sessions()
        mixed = sorted(judged or photos, key=lambda photo: photo.sha256)[: config.judged_photos]
        self.paths = [photo.path for photo in mixed]
        self.few = self._decoded([photo.path for photo in photos[: config.correction_photos]])
        self.searched = self._decoded(self.paths[: config.search_photos])
        self.reference = reference_from_onnx(proto, self.searched)
        self.answers = answers_from_onnx(proto, self.reference.feature_name, self.paths, self.preprocess)

    def _decoded(self, paths: Sequence[Path]) -> np.ndarray:
        return next(photo_batches(paths, self.preprocess, len(paths)))

    def shifts(self, maker: Int8Maker, quantised: Any, placement: Placement) -> dict[str, np.ndarray]:
        """How far each bias has to move; nothing when biases shall not be corrected."""
        if not self.config.correct_bias:
            return {}
        exact = maker.with_exact_weights(placement)
        return corrections(quantised, exact, self.reference, self.few, self.sessions)

    def judge(self, quantised: Any) -> Fidelity:
        """How near a graph is to FP32."""
        other = answers_from_onnx(quantised, self.reference.feature_name, self.paths, self.preprocess)
        return fidelity_from_answers(self.answers, other)


def best_ranges(
    model: OnnxModel,
    candidates: Sequence[Ranges],
    photos: Sequence[Photo],
    validation: Sequence[Photo],
    config: Int8Config | None = None,
    progress: Progress = silent,
) -> tuple[Ranges, dict[str, Fidelity]]:
    """The ranges whose INT8 network, biases corrected, answers most like FP32 on validation photos; and all trials.

    Agreement decides, then the distance of the scores. `photos` are those of the calibration; without `validation`
    they serve for both. Raises as `int8_from_onnx` does.
    """
    proto = _checked(model, candidates)
    bench = _Bench(proto, model, photos, validation, config or Int8Config())
    trials = {}
    for number, ranges in enumerate(candidates):
        progress("methods", number, len(candidates))
        maker = Int8Maker(proto, ranges)
        quantised, placement = maker.make()
        best = with_biases(quantised, bench.shifts(maker, quantised, placement))
        trials[ranges.method.value] = bench.judge(best)
    progress("methods", len(candidates), len(candidates))
    return max(candidates, key=lambda ranges: trials[ranges.method.value].rank), trials


def int8_from_onnx(
    model: OnnxModel,
    ranges: Ranges,
    photos: Sequence[Photo],
    out: Path,
    config: Int8Config | None = None,
    progress: Progress = silent,
    validation: Sequence[Photo] = (),
) -> tuple[OnnxModel, Int8Notes]:
    """Write the INT8 file of an FP32 one: Q/DQ pairs with the steps that `ranges` give, and biases corrected.

    `photos` are those of the calibration, mixed; without `validation` they also judge. Raises BadInput without photos,
    BadArtefact when the ranges are another file's or not finite, BadPhoto, ConversionFailed, StorageFailed.
    """
    config = config or Int8Config()
    proto = _checked(model, [ranges])
    if not photos:
        raise BadInput("there are no photos to correct INT8 with", hint="trtpoets quantize NAME --precision fp16")
    maker = Int8Maker(proto, ranges)
    quantised, placement = maker.make()
    bench = _Bench(proto, model, photos, validation, config)
    plain = bench.judge(quantised)
    shifts = bench.shifts(maker, quantised, placement)
    best = with_biases(quantised, shifts)
    corrected = final = bench.judge(best) if shifts else plain
    if corrected.features_db < plain.features_db:
        # On few photos, or where ranges cut much, a shift can miss: then biases stay as they are.
        bench.config = replace(config, correct_bias=False)
        best, shifts, final = quantised, {}, plain
    steps: list[Step] = []

    def tried(keep: Mapping[str, str]) -> Fidelity:
        nonlocal best, placement
        form, placement = maker.make(keep)
        best = with_biases(form, bench.shifts(maker, form, placement))
        return bench.judge(best)

    limits = Limits(config.target_db, config.target_agreement, config.int8_share, config.max_float_layers)
    for step in Search(maker, bench.reference, bench.searched, shifts).steps(final, limits, tried, progress):
        steps.append(step)
        final = step.fidelity
    metadata = {**metadata_of_spec(model.spec, Precision.INT8), CALIBRATION_KEY: ranges.hash}
    write_onnx(finished(best.graph, maker.view.opset, metadata), out)
    layers = layer_fidelity(proto, best, bench.searched, bench.sessions)
    reasons = {**placement.in_float, **{step.layer: step.why for step in steps}}
    notes = _notes(maker, replace(placement, in_float=reasons), (plain, corrected, final), tuple(steps), layers)
    return OnnxModel(out, Precision.INT8, model.spec), notes


def _checked(model: OnnxModel, candidates: Sequence[Ranges]) -> Any:
    expect_fp32(model)
    sha256 = sha256_of_file(model.path)
    if any(ranges.onnx_sha256 != sha256 for ranges in candidates):
        raise BadArtefact(
            f"the ranges were measured on another network than {model.path}",
            hint="calibrate again: trtpoets quantize NAME --force",
        )
    return check_onnx(model.path)


def _notes(
    maker: Int8Maker,
    placement: Placement,
    fidelity: tuple[Fidelity, Fidelity, Fidelity],
    steps: tuple[Step, ...],
    layers_db: Mapping[str, float],
) -> Int8Notes:
    quantised = {weight.node for weight in placement.weights}
    weighted = maker.view.weighted()
    convolutions = [node.name for node in weighted if node.op_type in CONVOLUTIONS]
    products = [node.name for node in weighted if node.op_type not in CONVOLUTIONS]
    plain, corrected, final = fidelity
    return Int8Notes(
        convolutions=len(convolutions),
        convolutions_int8=len(quantised.intersection(convolutions)),
        products=len(products),
        products_int8=len(quantised.intersection(products)),
        pairs=len(placement.tensors) + len(placement.weights),
        multiply_adds=maker.total,
        share=maker.share(placement),
        in_float=dict(placement.in_float),
        plain=plain,
        corrected=corrected,
        final=final,
        steps=steps,
        layers_db=dict(layers_db),
    )
