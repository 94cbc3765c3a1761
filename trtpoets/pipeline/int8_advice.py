"""Decides whether INT8 is recommended, by comparing it with FP32 on validation photos. Test photos are not used."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import OnnxModel, Precision, Split, TfliteModel
from trtpoets.core.workspace import Workspace, card_of, open_card
from trtpoets.device.runners import open_runner
from trtpoets.judge.evaluation import evaluation_from_scores, scores_from_runner
from trtpoets.judge.gate import GateConfig, Outcome, gate_from_evaluations, missed, sentence, too_few
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.pipeline.int8_head import refitted_head
from trtpoets.train.near_copies.grouping import groups_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_log = logging.getLogger(__name__)

Judged = OnnxModel | TfliteModel

TARGET = GateConfig(max_drop=0.5, min_agreement=98.0)
"""The gate that INT8 must pass on validation photos. As with every gate, few photos leave it undecided."""

_PHOTOS = 1000
"""Maximum number of validation photos to evaluate; it is enough to decide the target."""


def advice(
    space: Workspace, fp32: OnnxModel, int8: OnnxModel, refit_head: bool, progress: Progress = silent
) -> dict[str, Any]:
    """Run the last steps of quantize and return their notes for the card: {"head", "recommended"}.

    With `refit_head` the last layer of int8.onnx may be replaced; the recommendation refers to the resulting file. Call
    this before the card of int8.onnx is sealed.
    """
    head = {"head": refitted_head(space, fp32, int8, progress)} if refit_head else {}
    return {**head, "recommended": recommendation(space, fp32, int8, progress=progress)}


def recommendation(
    space: Workspace, fp32: OnnxModel, int8: OnnxModel, target: GateConfig = TARGET, progress: Progress = silent
) -> dict[str, Any]:
    """Return the recommended precision, the reason and the gate: {"precision", "why", "photos", "gate"}.

    FP16 is recommended, with a warning, if INT8 misses `target` on the validation photos: either its confidence
    interval is outside the target, or the measured value is, and there are enough photos for a lossless INT8 to pass.
    Otherwise INT8 is recommended; `why` says so if there are too few photos to decide.
    """
    photos, gate = judged_on_validation(space, fp32, int8, target, progress)
    if gate is None:
        return {
            "precision": Precision.INT8.value,
            "why": "there are no validation photos to evaluate it on",
            "photos": 0,
            "gate": None,
        }
    return {**_decision(space, gate, photos), "photos": photos, "gate": gate}


def judged_on_validation(
    space: Workspace, wide: Judged, narrow: Judged, target: GateConfig = TARGET, progress: Progress = silent
) -> tuple[int, dict[str, Any] | None]:
    """Compare `narrow` with `wide` on validation photos.

    Returns the number of photos and the gate as JSON; the gate is None if there are no validation photos.
    """
    dataset = dataset_in(space)
    photos = sorted(dataset.in_split(Split.VALIDATION), key=lambda photo: photo.sha256)[:_PHOTOS]
    if not photos:
        return 0, None
    groups = groups_of(photos, dataset)
    scores = {}
    for model in (wide, narrow):
        with open_runner(model) as runner:
            scores[runner.identity] = scores_from_runner(runner, photos, progress=progress)
    (wide_id, reference), (narrow_id, narrow_scores) = scores.items()
    evaluations = (
        evaluation_from_scores(wide_id, reference, photos, wide.spec.labels, groups=groups),
        evaluation_from_scores(narrow_id, narrow_scores, photos, wide.spec.labels, reference, groups),
    )
    return len(photos), gate_from_evaluations([evaluation.to_dict() for evaluation in evaluations], target).to_dict()


def recommended_precision(space: Workspace) -> Precision | None:
    """Return the precision that quantize recommended; None if it has not run."""
    card: Mapping[str, Any] = open_card(card_of(space.onnx(Precision.INT8))) or {}
    recommended = (card.get("notes") or {}).get("recommended")
    return Precision(recommended["precision"]) if recommended else None


def missed_on_validation(gate: Mapping[str, Any], photos: int) -> str:
    """Describe by how much a gate on `photos` validation photos was missed; "" if it was not missed."""
    missed_checks = [check for check in gate["runners"][0]["checks"] if missed(check)]
    return _on_validation(missed_checks, photos) if missed_checks else ""


def _on_validation(checks: Sequence[Mapping[str, Any]], photos: int) -> str:
    return f"on {photos:,} validation photos it {', and '.join(sentence(check) for check in checks)}"


def _decision(space: Workspace, gate: Mapping[str, Any], photos: int) -> dict[str, str]:
    """Return {"precision", "why"} and log it."""
    why = missed_on_validation(gate, photos)
    if why:
        _log.warning("INT8 misses its target: %s; use FP16: trtpoets build %s --precision fp16", why, space.name)
        return {"precision": Precision.FP16.value, "why": why}
    checks = gate["runners"][0]["checks"]
    doubts = [too_few(check) for check in checks if check["outcome"] == Outcome.UNKNOWN]
    why = "; ".join([_on_validation(checks, photos), *doubts])
    _log.info("INT8: %s", why)
    return {"precision": Precision.INT8.value, "why": why}
