"""Creates and evaluates the TFLite files of a run, and prepares them for a bundle."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trtpoets.bundles.precision_order import why_not_tflite
from trtpoets.convert.int8.calibration import CalibrationConfig, calibration_photos
from trtpoets.convert.tflite_export import PRECISIONS, tflite_from_classifier
from trtpoets.convert.tflite_int8 import int8_from_fp32
from trtpoets.core.errors import BadInput, ConversionFailed, MissingArtefact
from trtpoets.core.files import sha256_of_file
from trtpoets.core.original import Format
from trtpoets.core.progress import Progress, silent
from trtpoets.core.tflite_file import read_tflite
from trtpoets.core.types import Precision, Split, TfliteModel, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.device.runners import open_runner
from trtpoets.device.runners.tflite import TfliteRunner
from trtpoets.judge.golden import Golden, check_scores_against, golden_from_runners
from trtpoets.pipeline.artefacts import classifier_identity, classifier_in, dataset_in
from trtpoets.pipeline.card_details import TfliteCalibration, TfliteFp32Details, TfliteInt8Details
from trtpoets.pipeline.export import parity_of, parity_photos_in
from trtpoets.pipeline.golden_photos import golden_in
from trtpoets.pipeline.int8_advice import (
    CHOOSING,
    compared,
    fitted_for_choices,
    recommended_by_comparison,
    tflite_recommendation,
)
from trtpoets.pipeline.int8_head import refitted_head
from trtpoets.pipeline.lineage import onnx_in, onnx_models_in
from trtpoets.pipeline.photos import verified_photos
from trtpoets.pipeline.result_status import evaluation_of, int8_ranges

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from trtpoets.bundles.bundle_inputs import BundleInputs
    from trtpoets.convert.int8.calibration import Ranges
    from trtpoets.convert.tflite_int8 import TfliteNotes
    from trtpoets.core.types import Classifier, OnnxModel, Photo
    from trtpoets.judge.advice import Recommended

_log = logging.getLogger(__name__)

_VERSION = 8
"""Increase it when the same classifier and photos may give another TFLite file."""

_MIN_CALIBRATION_PHOTOS = 64
"""Number of calibration photos; the number of labels if that is larger. With 256 photos the scores of
EfficientNet-Lite0 and MobileNetV2 on 240 flower photos were no closer to FP32, and the converter took twice as long."""

NOT_EVALUATED = "the present files were not evaluated: {}"
"""The warning about a bundle whose files were not evaluated as they are now; {} is the command that does that."""

_MAX_TOLERANCE = 0.25
"""The largest tolerance of golden scores without a warning. It is larger if builds of the interpreter differ much."""


def tflite_wanted(precisions: Sequence[Precision]) -> tuple[Precision, ...]:
    """Return the requested precisions, by default all that TFLite supports. Raises BadInput for any other precision."""
    for precision in precisions:
        if precision not in PRECISIONS:
            raise BadInput(
                f"TFLite bundles support fp32 and int8, not {precision.value}",
                hint="give --precision fp32 --precision int8",
                code="TP8042",
            )
    return tuple(precision for precision in PRECISIONS if precision in (precisions or PRECISIONS))


@dataclass(frozen=True)
class TfliteParts:
    """The inputs of a TFLite bundle, its files, the recommendation about int8.tflite (or None), and warnings."""

    inputs: BundleInputs
    models: tuple[TfliteModel, ...]
    recommended: Recommended | None
    warnings: tuple[str, ...]


def tflite_parts(
    space: Workspace, parts: BundleInputs, wanted: Sequence[Precision], progress: Progress = silent
) -> TfliteParts:
    """Return the content of a TFLite bundle with the precisions `wanted`. Its files are written if not up to date.

    `parts` are the inputs of a bundle with ONNX files; in the returned inputs the golden scores are those of the TFLite
    interpreter, and there are no ONNX files and engines. INT8 comes first if it is recommended by the same comparison
    with FP32 as int8.onnx, and has not failed the gate; else last. Raises what `tflite_from_classifier` raises, and
    ConversionFailed if the golden scores of fp32.tflite differ from those of fp32.onnx.
    """
    models = tflite_models(space, wanted, progress)
    golden = golden_of(models, golden_in(space, onnx_models_in(space)))
    packed = tuple(model for model in models if model.precision in wanted)
    evaluation = evaluation_of(space, packed)
    against, recommended = "", None
    if Precision.INT8 in wanted:
        recommended = tflite_recommendation(space)
        against = why_not_tflite(recommended.against_int8 if recommended else "", evaluation)
    order = [precision for precision in (Precision.INT8, Precision.FP32) if precision in wanted]
    if against:
        order.reverse()
    inputs = replace(
        parts,
        models=(),
        engines=(),
        golden=replace(golden, expected={precision.value: golden.expected[precision.value] for precision in wanted}),
        order=tuple(order),
    )
    warnings: tuple[str, ...] = (f"int8.tflite comes last: {against}",) if against else ()
    int8_scores = inputs.golden.expected.get(Precision.INT8.value)
    if int8_scores is not None and int8_scores.tolerance > _MAX_TOLERANCE:
        warnings += (f"the scores of int8.tflite vary between builds of the interpreter: {int8_scores.reason}",)
    if evaluation is None:
        warnings += (NOT_EVALUATED.format(space.command("evaluate")),)
    return TfliteParts(inputs, packed, recommended, warnings)


def tflite_models(
    space: Workspace, precisions: Sequence[Precision], progress: Progress = silent
) -> tuple[TfliteModel, ...]:
    """Return fp32.tflite, with which INT8 is compared, and int8.tflite if `precisions` contains INT8.

    Files that are not up to date are written to engines/<name>/. The caller must hold the lock of the workspace.
    Raises BadInput for a classifier that was adopted from a file of another framework than TensorFlow.
    """
    classifier = classifier_in(space)
    original = classifier.spec.original
    if original is not None and not original.format.is_tensorflow:
        raise BadInput(
            f"TensorFlow's converter writes TFLite files, and {space.name} was adopted from {original.file}",
            hint="use the original TFLite file"
            if original.format is Format.TFLITE
            else space.command("bundle", "--for", "onnxruntime"),
            code="TP8049",
        )
    fp32 = _fp32(space, classifier, progress)
    return (fp32, _int8(space, classifier, fp32, progress)) if Precision.INT8 in precisions else (fp32,)


def golden_of(models: Sequence[TfliteModel], onnx: Golden) -> Golden:
    """Return the golden photos of `onnx` with the scores of the TFLite files.

    The tolerance is derived from the difference between the XNNPACK kernels and TFLite's own kernels, because other
    builds of the interpreter may use either. Raises ConversionFailed if FP32 scores differ from those of fp32.onnx.
    """
    xnnpack = {model.precision: open_runner(model) for model in models}
    own_kernels = {model.precision: TfliteRunner(model, own_kernels=True) for model in models}
    golden = golden_from_runners(onnx.photos, xnnpack, own_kernels)
    verdict = check_scores_against(onnx, Precision.FP32, golden.expected[Precision.FP32.value].scores)
    if not verdict.passed:
        raise ConversionFailed(
            f"the scores of fp32.tflite and fp32.onnx differ by {verdict.max_difference:.2g} on the golden photo "
            f"{verdict.worst}; the tolerance is {verdict.tolerance:g}",
            hint="use another version of TensorFlow",
            code="TP8043",
        )
    return golden


def _fp32(space: Workspace, classifier: Classifier, progress: Progress) -> TfliteModel:
    """Return fp32.tflite, written if it is not up to date."""
    out, made_from = space.tflite(Precision.FP32), classifier_identity(space)
    key = hash_of([_VERSION, made_from, Precision.FP32])
    if open_card(card_of(out), key, own=True) is None:
        model = tflite_from_classifier(classifier, Precision.FP32, (), out, progress)
        photos = parity_photos_in(space)
        with verified_photos(space, photos):
            parity = parity_of(classifier, model, photos)
        seal_card(card_of(out), key=key, files=[out], details=TfliteFp32Details(made_from, parity))
    return read_tflite(out)


def _int8(space: Workspace, classifier: Classifier, fp32: TfliteModel, progress: Progress) -> TfliteModel:
    """Return int8.tflite, written and compared with FP32 if it is not up to date."""
    out, made_from = space.tflite(Precision.INT8), classifier_identity(space)
    config = CalibrationConfig(photos=max(_MIN_CALIBRATION_PHOTOS, len(classifier.spec.labels)))
    dataset = dataset_in(space)
    photos = calibration_photos(dataset.photos, config)
    sources = _sources(space)
    hashes = [sha256_of_file(model.path) for model in sources[:2] if model is not None]
    key = hash_of([_VERSION, made_from, Precision.INT8, [photo.sha256 for photo in photos], hashes])
    if open_card(card_of(out), key, own=True) is None:
        ranges = sources[2]
        calibrated = {photo.sha256 for photo in photos} | set(ranges.photos if ranges else ())
        with verified_photos(space, dataset.in_split(*CHOOSING)):
            validation = dataset.in_split(Split.VALIDATION)
            model, notes = _quantised(classifier, fp32, sources, (photos, validation), out, progress)
            head = refitted_head(space, sources[0], model, progress)
            recommended = _recommendation(space, (sources[0], fp32, model), calibrated, progress)
        details = TfliteInt8Details(
            made_from,
            dataset.hash,
            TfliteCalibration(len(photos), config.seed),
            notes,
            tuple(sorted(calibrated)),
            recommended,
            head,
        )
        seal_card(card_of(out), key=key, files=[out], details=details)
    return read_tflite(out)


def _sources(space: Workspace) -> tuple[OnnxModel, OnnxModel | None, Ranges | None]:
    """Return fp32.onnx, int8.onnx and its ranges.

    int8.onnx and the ranges are None if quantize has not written them for the present classifier.
    """
    fp32 = onnx_in(space, Precision.FP32)
    try:
        ranges = int8_ranges(space)
        return fp32, onnx_in(space, Precision.INT8) if ranges else None, ranges
    except MissingArtefact:  # they belong to another classifier
        return fp32, None, None


def _quantised(
    classifier: Classifier,
    fp32: TfliteModel,
    sources: tuple[OnnxModel, OnnxModel | None, Ranges | None],
    photos: tuple[Sequence[Photo], Sequence[Photo]],
    out: Path,
    progress: Progress,
) -> tuple[TfliteModel, TfliteNotes | None]:
    """Write int8.tflite with the parameters of int8.onnx; where that fails, with those of TensorFlow's converter."""
    try:
        return int8_from_fp32(fp32, sources, *photos, out, progress)
    except ConversionFailed as error:
        if classifier.spec.original is not None:
            raise
        _log.warning("int8.tflite gets the ranges of TensorFlow's converter: %s", error.message)
    return tflite_from_classifier(classifier, Precision.INT8, photos[0], out, progress), None


def _recommendation(
    space: Workspace,
    files: tuple[OnnxModel, TfliteModel, TfliteModel],
    calibrated: Collection[str],
    progress: Progress,
) -> Recommended:
    """Return whether int8.tflite is recommended; `files` are fp32.onnx, fp32.tflite and int8.tflite.

    It is compared with FP32 as int8.onnx is, by the same heads.
    """
    onnx, fp32, int8 = files
    fitted = fitted_for_choices(space, onnx, progress)
    comparison = compared(space, (fp32, int8), fitted, calibrated, progress=progress)
    return recommended_by_comparison(space, comparison, calibrated, Precision.FP32)
