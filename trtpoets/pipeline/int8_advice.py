"""Decides whether INT8 is recommended, by comparing it with FP32 on all photos that may be used for a choice.

These are the training and validation photos outside calibration, classified by cross-fitted heads
(`pipeline.cross_fit`); only the validation photos where that is not possible, and the result contains the reason. Test
photos are not used, not even their pixels, so that they have no influence on what is chosen here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.convert.int8.accuracy_target import PairedAnswers, answers_from_indices
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.files import temporary_folder
from trtpoets.core.formatting import many
from trtpoets.core.network_notes import FrontierPoint
from trtpoets.core.onnx_file import write_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Int8Form, OnnxModel, Precision, Split
from trtpoets.core.workspace import Workspace, card_of, open_details
from trtpoets.judge.advice import Advice, Recommended
from trtpoets.judge.cross_fit import CrossFitConfig
from trtpoets.judge.evaluation import evaluation_from_scores, scores_from_runner
from trtpoets.judge.gate import (
    Check,
    Gate,
    GateConfig,
    GateOutcome,
    gate_from_all_photos,
    gate_from_evaluations,
    missed,
    sentence,
    too_few,
)
from trtpoets.judge.head_notes import HeadNotes
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.pipeline.card_details import TfliteInt8Details
from trtpoets.pipeline.cross_fit import ComparedFile, CrossFit, calibrated_photos, cross_fit
from trtpoets.pipeline.int8_head import refitted_head
from trtpoets.pipeline.runner_access import judged_runner
from trtpoets.train.near_copies.grouping import groups_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from trtpoets.convert.int8.quantize_int8 import Judge
    from trtpoets.judge.all_photos import AllPhotos

_log = logging.getLogger(__name__)

TARGET = GateConfig(max_drop=0.5, min_agreement=98.0)
"""The limits for INT8. The interval of the agreement must be within its limit, and the measured loss within the other.

The interval of the loss cannot be asked to be: where 2 % of the answers change, that takes 6,280 photos.
"""

CHOOSING = (Split.TRAIN, Split.VALIDATION)
"""The splits that may be used for a choice."""

_PHOTOS = 1000
"""Maximum number of validation photos to evaluate; it is enough to decide the target."""


_FEW_CALIBRATION = 64
"""A number of calibration photos that is still enough for usable ranges."""

_MIN_SHARE = 0.8
"""Share of the multiply-adds that must run in INT8: with less, INT8 saves little, and conversions between types cost
some of it."""


_REMEDIES = {
    Precision.FP16: "use FP16: trtpoets build {} --precision fp16",
    Precision.FP32: "on a CPU use fp32.onnx",
}
"""What a warning about INT8 recommends instead."""


def advice(
    space: Workspace,
    fp32: OnnxModel,
    int8: OnnxModel,
    refit_head: bool,
    progress: Progress = silent,
    share: float = 1.0,
    time: float | None = None,
    instead: Precision = Precision.FP16,
    quiet: bool = False,
    fitted: CrossFit | AllPhotos | None = None,
) -> tuple[HeadNotes | None, Recommended]:
    """Refit the head of an INT8 file if `refit_head` is set; return notes on it (or None) and the recommendation.

    The options after `progress` are those of `recommendation`. Refitting may replace the last layer of the file; the
    recommendation refers to the resulting file. Call this before the card of the file is sealed.
    """
    head = refitted_head(space, fp32, int8, progress) if refit_head else None
    return head, recommendation(
        space,
        fp32,
        int8,
        progress=progress,
        share=share,
        time=time,
        instead=instead,
        quiet=quiet,
        fitted=fitted,
    )


def recommendation(
    space: Workspace,
    fp32: OnnxModel,
    int8: OnnxModel,
    target: GateConfig = TARGET,
    progress: Progress = silent,
    share: float = 1.0,
    time: float | None = None,
    instead: Precision = Precision.FP16,
    quiet: bool = False,
    fitted: CrossFit | AllPhotos | None = None,
) -> Recommended:
    """Return the precision to ship, the reason, and the gate that it is based on.

    INT8 is recommended if the agreement is shown to be within `target` and the measured loss of accuracy is too. FP16
    is recommended, with a warning, if INT8 misses `target`, if the photos are too few to tell (`why` says how many
    would be enough), if less than 80 % of the multiply-adds run in INT8 (`share`, 0..1), or if the estimated `time`
    relative to FP16 is at least 1. For int8.cpu.onnx, FP32 is what is recommended `instead`: most CPUs have no FP16.
    The recommendation is logged, unless `quiet` is set. `fitted` is the result of `fitted_for_choices`, if several
    files are compared.
    """
    fitted = fitted or fitted_for_choices(space, fp32, progress)
    calibrated = calibrated_photos(space, dataset_in(space))
    comparison = compared(space, (fp32, int8), fitted, calibrated, target, progress)
    why = little_gain(share, time)
    if why:
        recommended = Recommended(instead, why, comparison.photos, comparison.gate)
    else:
        recommended = recommended_by_comparison(space, comparison, calibrated, instead)
    if not quiet:
        log_recommendation(space, recommended, int8.path.name)
    return recommended


def log_recommendation(space: Workspace, recommended: Recommended, file: str) -> None:
    """Log the recommendation on the ONNX file `file`; as a warning, with what to use instead, if it is not INT8."""
    if recommended.precision is Precision.INT8:
        _log.info("%s: %s", file, recommended.why)
    else:
        remedy = _REMEDIES[recommended.precision].format(space.name)
        _log.warning("%s is not recommended: %s; %s", file, recommended.why, remedy)


@dataclass(frozen=True)
class ComparedWithFp32:
    """The gate of an INT8 file on so many `photos`; None without photos.

    `refit_photos` is the number of further photos, which would count if the last layer had not been refitted on them.
    """

    photos: int
    gate: Gate | None
    refit_photos: int = 0


def recommended_by_comparison(
    space: Workspace, comparison: ComparedWithFp32, calibrated: Collection[str], instead: Precision
) -> Recommended:
    """Return the recommendation that follows from the comparison of an INT8 file with FP32, without logging it.

    INT8 is recommended if the agreement is shown to be within its limit and the measured loss is too; else `instead`.
    `calibrated` are the photos that the file was calibrated with.
    """
    gate, photos = comparison.gate, comparison.photos
    if gate is None:
        return Recommended(instead, "there are no photos outside calibration to compare INT8 with FP32")
    checks = gate.runners[0].checks
    beyond = [check for check in checks if missed(check)]
    if beyond:
        return Recommended(instead, _on_photos(beyond, photos), photos, gate)
    doubts = [too_few(check) for check in checks if _leaves_doubt(check)]
    why = "; ".join([_on_photos(checks, photos), *doubts])
    if doubts:
        return Recommended(instead, why + _more_that_count(space, checks, comparison, calibrated), photos, gate)
    return Recommended(Precision.INT8, why, photos, gate)


def fitted_for_choices(space: Workspace, fp32: OnnxModel, progress: Progress = silent) -> CrossFit | AllPhotos:
    """Return FP32's cross-fitted heads and answers on the photos that may be used for a choice, as `cross_fit` does."""
    return cross_fit(space, fp32, CrossFitConfig(), CHOOSING, progress)


def judge_of_choices(
    space: Workspace, fp32: OnnxModel, form: Int8Form, fitted: CrossFit | AllPhotos, progress: Progress = silent
) -> Judge | None:
    """Return the function that compares an INT8 version with FP32 on the photos that may be used for a choice.

    None if these are the validation photos only, because nothing could be cross-fitted. `form` is that of the versions.
    The features that it computes are stored, and read again for the advice on the version that is written.
    """
    if not isinstance(fitted, CrossFit) or fitted.layer is None:
        return None
    calibrated = calibrated_photos(space, fitted.dataset)

    def judge(version: Any) -> PairedAnswers | None:
        with temporary_folder() as folder:
            model = OnnxModel(folder / "int8.onnx", Precision.INT8, fp32.spec, form)
            write_onnx(version, model.path)
            try:
                file = fitted.scored(model, calibrated, progress)
            except ConversionFailed:  # the advice says why
                return None
        rows = file.measured & ~file.made_with
        return answers_from_indices(fitted.reference[rows], file.scores[rows], fitted.counted.truth[rows])

    return judge


def compared(
    space: Workspace,
    files: tuple[ComparedFile, ComparedFile],
    fitted: CrossFit | AllPhotos,
    calibrated: Collection[str],
    target: GateConfig = TARGET,
    progress: Progress = silent,
) -> ComparedWithFp32:
    """Compare an INT8 file with FP32 on the photos that may be used for a choice.

    `files` are the FP32 file of the same format and the INT8 file; `fitted` is the result of `fitted_for_choices`,
    `calibrated` are the sha256 of the photos that the INT8 file was calibrated with.
    """
    if not isinstance(fitted, CrossFit):
        _log.info("INT8 is compared with FP32 on validation photos only: %s", fitted.skipped)
        return _gate_on_validation(space, *files, target, progress)
    try:
        file = fitted.scored(files[1], calibrated, progress)
    except ConversionFailed as error:
        _log.info("INT8 is compared with FP32 on validation photos only: %s", error.message)
        return _gate_on_validation(space, *files, target, progress)
    result = fitted.result([file])
    (on_choices,) = result.files
    return ComparedWithFp32(on_choices.photos, gate_from_all_photos(result, target), on_choices.refit_photos)


def little_gain(share: float, time: float | None) -> str:
    """Return why INT8 is hardly faster than FP16; "" if it is faster, as far as is known.

    The arguments are those of `recommendation`.
    """
    if share < _MIN_SHARE:
        return (
            f"only {share:.0%} of its multiply-adds run in INT8, and with less than {_MIN_SHARE:.0%} the conversions "
            "between types cost much of what INT8 saves"
        )
    if time is not None and time >= 1:
        return f"by an estimate its layers take {time:.2f} times as long as in FP16, with the conversions between types"
    return ""


def _gate_on_validation(
    space: Workspace, wide: ComparedFile, narrow: ComparedFile, target: GateConfig, progress: Progress
) -> ComparedWithFp32:
    """Compare `narrow` with `wide` on validation photos."""
    dataset = dataset_in(space)
    photos = sorted(dataset.in_split(Split.VALIDATION), key=lambda photo: photo.sha256)[:_PHOTOS]
    if not photos:
        return ComparedWithFp32(0, None)
    groups = groups_of(photos, dataset)
    scores = {}
    for model in (wide, narrow):
        with judged_runner(model) as runner:
            scores[runner.identity] = scores_from_runner(runner, photos, progress=progress)
    (wide_id, reference), (narrow_id, narrow_scores) = scores.items()
    evaluations = (
        evaluation_from_scores(wide_id, reference, photos, wide.spec.labels, groups=groups),
        evaluation_from_scores(narrow_id, narrow_scores, photos, wide.spec.labels, reference, groups, warn=False),
    )
    return ComparedWithFp32(len(photos), gate_from_evaluations(evaluations, target))


def recommended_precision(space: Workspace) -> Precision | None:
    """Return the precision that quantize recommended; None if it has not run."""
    recommended = int8_notes(space).recommended
    return recommended.precision if recommended else None


@dataclass(frozen=True)
class KnownNotes:
    """The notes on int8.onnx that later stages need; defaults where an older version did not record them."""

    recommended: Advice | None = None
    in_float: Mapping[str, str] = field(default_factory=dict)
    frontier: tuple[FrontierPoint, ...] = ()

    @property
    def advised_against(self) -> str:
        """The reason why INT8 is not recommended; empty if it is, or without a recommendation."""
        return self.recommended.against_int8 if self.recommended else ""


@dataclass(frozen=True)
class _NotesOnly:
    notes: KnownNotes | None = None


def int8_notes(space: Workspace, form: Int8Form = Int8Form.TENSORRT) -> KnownNotes:
    """Return the notes of quantize on the INT8 file of a form; defaults if there is none. Raises BadArtefact."""
    card = open_details(card_of(space.onnx(Precision.INT8, form)), _NotesOnly)
    return (card and card.notes) or KnownNotes()


def tflite_recommendation(space: Workspace) -> Recommended | None:
    """Return the recommendation of `bundle` about int8.tflite; None if there is no file. Raises BadArtefact."""
    details = open_details(card_of(space.tflite(Precision.INT8)), TfliteInt8Details)
    return details.recommended if details else None


def with_frontier(name: str, models: Sequence[OnnxModel], engines: Path | str) -> list[dict[str, object]]:
    """Return the files that quantize wrote as JSON documents; those of INT8 have the `frontier` of their search."""
    space = Workspace(Path(engines), name)
    documents = []
    for model in models:
        is_int8 = model.precision is Precision.INT8
        frontier = {"frontier": to_json(int8_notes(space, model.form).frontier)} if is_int8 else {}
        documents.append({**to_json(model), **frontier})
    return documents


def _on_photos(checks: Sequence[Check], photos: int) -> str:
    kind = "training and validation photos outside calibration" if checks and checks[0].file else "validation photos"
    return f"on {photos:,} {kind} it {', and '.join(sentence(check, with_photos=False) for check in checks)}"


def _more_that_count(
    space: Workspace, checks: Sequence[Check], comparison: ComparedWithFp32, calibrated: Collection[str]
) -> str:
    """Return the command with which enough photos count to decide; "" if none does.

    Where photos do not count because of the refit only, it names the option against it even if they are not enough.
    """
    in_doubt = [check for check in checks if check.file and _leaves_doubt(check)]
    needed = [math.inf if check.photos_needed is None else check.photos_needed for check in in_doubt]
    if not needed:
        return ""
    refit = comparison.refit_photos
    lacking = max(needed) - comparison.photos - refit
    freed = len(calibrated) - _FEW_CALIBRATION
    fewer = ("--photos", _FEW_CALIBRATION) if lacking <= freed and (lacking > 0 or not refit) else ()
    if not refit:
        command = space.command("quantize", *fewer)
        return f"; calibrating with fewer photos leaves enough of them: {command}" if fewer else ""
    text = f"; {many(refit, 'photo does', 'photos do')} not count because the last layer was refitted on them"
    command = space.command("quantize", "--no-refit-head", *fewer)
    if lacking > max(freed, 0):
        return f"{text}; with them there are more, but still too few: {command}"
    return f"{text}; with them{' and fewer photos for calibration' if fewer else ''} there are enough: {command}"


def _leaves_doubt(check: Check) -> bool:
    """Return whether an undecided check speaks against INT8: always for the agreement, otherwise beyond the limit."""
    if check.outcome is not GateOutcome.UNKNOWN:
        return False
    return check.what == "agreement" or (check.measured is not None and check.measured > check.limit)
