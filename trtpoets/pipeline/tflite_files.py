"""TFLite files of a run: made once and kept beside the ONNX files, judged, and what goes into a bundle of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trtpoets.convert.int8.calibration import CalibrationConfig, calibration_photos
from trtpoets.convert.tflite_export import PRECISIONS, tflite_from_classifier
from trtpoets.core.errors import BadInput, ConversionFailed
from trtpoets.core.progress import Progress, silent
from trtpoets.core.tflite_file import read_tflite
from trtpoets.core.types import Precision, Split, TfliteModel, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_card, open_details, seal_card
from trtpoets.device.runners import open_runner
from trtpoets.device.runners.tflite import TfliteRunner
from trtpoets.judge.gate import Outcome, missed, too_few
from trtpoets.judge.golden import Golden, check_scores_against, golden_from_runners
from trtpoets.pipeline.artefacts import classifier_identity, classifier_in, dataset_in
from trtpoets.pipeline.card_details import Judged, TfliteCalibration, TfliteFp32Details, TfliteInt8Details
from trtpoets.pipeline.export import parity_of
from trtpoets.pipeline.golden_photos import golden_in
from trtpoets.pipeline.int8_advice import judged_on_validation, missed_on_validation
from trtpoets.pipeline.lineage import onnx_models_in
from trtpoets.pipeline.photos import verified_photos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.bundles.bundle_inputs import Parts
    from trtpoets.core.types import Classifier

_VERSION = 2
"""Raise it when the same classifier and photos may give another TFLite file."""

_CALIBRATION = 64
"""So many photos calibrate, or one for each label. With 256 the scores of EfficientNet-Lite0 and MobileNetV2 on 240
photos of flowers came no nearer to FP32's, and the converter took twice as long."""

_FRAGILE = 0.25
"""Where scores may differ by more from one build of the interpreter to the next, they decide little."""


def tflite_wanted(precisions: Sequence[Precision]) -> tuple[Precision, ...]:
    """Those asked for, or all that TFLite computes in. Raises BadInput for another."""
    for precision in precisions:
        if precision not in PRECISIONS:
            raise BadInput(
                f"TFLite does not compute in {precision.value}", hint="--precision fp32 --precision int8", code="TP8042"
            )
    return tuple(each for each in PRECISIONS if each in (precisions or PRECISIONS))


def tflite_parts(
    space: Workspace, parts: Parts, wanted: Sequence[Precision], progress: Progress = silent
) -> tuple[Parts, tuple[TfliteModel, ...], tuple[str, ...]]:
    """The parts of a bundle for TFLite: its files instead of ONNX, golden scores by its interpreter, and warnings.

    INT8 comes first where it reaches on validation photos what is asked of any INT8, and last where it does not.
    Raises what `tflite_from_classifier` raises, and ConversionFailed where the golden photos' scores are not FP32's.
    """
    models = tflite_models(space, wanted, progress)
    golden = golden_of(models, golden_in(space, onnx_models_in(space)))
    missed, doubts = _judgement(space) if Precision.INT8 in wanted else ("", ())
    order = [each for each in (Precision.INT8, Precision.FP32) if each in wanted]
    if missed:
        order.reverse()
    shipped = replace(
        parts,
        models=(),
        engines=(),
        golden=replace(golden, expected={each.value: golden.expected[each.value] for each in wanted}),
        order=tuple(order),
    )
    warnings = (f"TFLite's int8 misses its target, and comes last: {missed}",) if missed else doubts
    narrow = shipped.golden.expected.get(Precision.INT8.value)
    if narrow is not None and narrow.tolerance > _FRAGILE:
        warnings += (f"TFLite's int8 is fragile: {narrow.reason}",)
    return shipped, tuple(each for each in models if each.precision in wanted), warnings


def tflite_models(
    space: Workspace, precisions: Sequence[Precision], progress: Progress = silent
) -> tuple[TfliteModel, ...]:
    """engines/<name>/fp32.tflite, which INT8 is held against, and int8.tflite where it is among `precisions`.

    Those that are up to date stay. Call it while holding the workspace.
    """
    classifier = classifier_in(space)
    fp32 = _fp32(space, classifier, progress)
    return (fp32, _int8(space, classifier, fp32, progress)) if Precision.INT8 in precisions else (fp32,)


def golden_of(models: Sequence[TfliteModel], onnx: Golden) -> Golden:
    """The golden photos with TFLite's scores; FP32's are held against those of the ONNX file. Raises ConversionFailed.

    The kernels of the interpreter's own, without XNNPACK, tell how far another build of it may be.
    """
    runners = {model.precision: open_runner(model) for model in models}
    plain = {model.precision: TfliteRunner(model, own_kernels=True) for model in models}
    golden = golden_from_runners(onnx.photos, runners, plain)
    verdict = check_scores_against(onnx, Precision.FP32, golden.expected[Precision.FP32.value].scores)
    if not verdict.passed:
        raise ConversionFailed(
            f"fp32.tflite answers otherwise than fp32.onnx: on the golden photo {verdict.worst} a score differs by "
            f"{verdict.max_difference:.2g} where {verdict.tolerance:g} is allowed",
            hint="use another version of TensorFlow",
            code="TP8043",
        )
    return golden


def _fp32(space: Workspace, classifier: Classifier, progress: Progress) -> TfliteModel:
    out, made_from = space.tflite(Precision.FP32), classifier_identity(space)
    key = hash_of([_VERSION, made_from, Precision.FP32])
    if open_card(card_of(out), key, own=True) is None:
        model = tflite_from_classifier(classifier, Precision.FP32, (), out, progress)
        parity = parity_of(classifier, model, space)
        seal_card(card_of(out), key=key, files=[out], details=TfliteFp32Details(made_from, parity))
    return read_tflite(out)


def _int8(space: Workspace, classifier: Classifier, fp32: TfliteModel, progress: Progress) -> TfliteModel:
    out, made_from = space.tflite(Precision.INT8), classifier_identity(space)
    config = CalibrationConfig(photos=max(_CALIBRATION, len(classifier.spec.labels)))
    dataset = dataset_in(space)
    photos = calibration_photos(dataset.photos, config)
    key = hash_of([_VERSION, made_from, Precision.INT8, [photo.sha256 for photo in photos]])
    if open_card(card_of(out), key, own=True) is None:
        with verified_photos(space, (*photos, *dataset_in(space).in_split(Split.VALIDATION))):
            model = tflite_from_classifier(classifier, Precision.INT8, photos, out, progress)
            judged, gate = judged_on_validation(space, fp32, model, progress=progress)
        details = TfliteInt8Details(
            made_from, dataset.hash, TfliteCalibration(len(photos), config.seed), Judged(judged, gate)
        )
        seal_card(card_of(out), key=key, files=[out], details=details)
    return read_tflite(out)


def _judgement(space: Workspace) -> tuple[str, tuple[str, ...]]:
    """What INT8 misses of its target, in words, and what the validation photos are too few to say."""
    details = open_details(card_of(space.tflite(Precision.INT8)), TfliteInt8Details)
    if details is None or details.judged.gate is None:
        return "", ("there are no validation photos to judge TFLite's int8 by",)
    return missed_on_validation(details.judged.gate, details.judged.photos), tuple(
        f"whether TFLite's int8 is good enough is not sure: {too_few(check)}"
        for check in details.judged.gate.runners[0].checks
        if check.outcome is Outcome.UNKNOWN and not missed(check)
    )
