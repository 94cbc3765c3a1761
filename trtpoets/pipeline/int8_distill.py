"""Distils the network of int8.onnx, and keeps the result where validation photos prove that it is closer to FP32."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.convert.int8.distill.distilled import distilled, require_differentiable
from trtpoets.convert.int8.distill.training import DistillConfig
from trtpoets.convert.int8.fidelity import NetworkOutputs, sqnr_db
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.placement import Placement
from trtpoets.convert.int8.quantize_int8 import Distiller
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.images import photo_batches
from trtpoets.core.network_notes import DistillNotes
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import Photo, Split
from trtpoets.judge.clustered import difference_interval
from trtpoets.judge.statistics import paired_difference
from trtpoets.pipeline.int8_head import too_few_to_fit
from trtpoets.train.dataset import Dataset
from trtpoets.train.near_copies.grouping import groups_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)

MAX_PHOTOS = 1024
"""Maximum number of photos to train on; they are held in memory."""

_MAX_VALIDATION = 1024
"""Maximum number of validation photos for the decision."""

_MIN_GROUPS = 10
"""Minimum number of independent groups of validation photos: with fewer a bootstrap proves nothing."""


def int8_distiller(
    dataset: Dataset,
    evaluator: Int8Evaluator,
    calibration: Sequence[Photo],
    config: DistillConfig,
    progress: Progress = silent,
) -> Distiller:
    """Return the function that distils INT8 versions of a network on its calibration photos, from the `dataset`.

    No other training photos are used, so that the rest can still show how close INT8 is to FP32 (`int8_advice`).

    The result is kept if, on validation photos, the SQNR of the features is significantly higher (paired bootstrap of
    groups of copies, photo by photo), and the agreement with FP32 is not significantly lower. An operator that
    distillation does not support is not an error: the notes give it as the reason why nothing was distilled.
    """
    validation = sorted(dataset.in_split(Split.VALIDATION), key=lambda photo: photo.sha256)[:_MAX_VALIDATION]
    fitted = list(calibration)[:MAX_PHOTOS]

    def distil(version: Any, placement: Placement) -> tuple[Any, DistillNotes]:
        start = time.perf_counter()
        few = too_few_to_fit(len(fitted), len(validation))
        if few:
            return _noted(version, version, DistillNotes(False, few))
        decoded = next(photo_batches(fitted, evaluator.model.spec.preprocess, len(fitted)))
        features = evaluator.outputs_on(fitted).features
        name = evaluator.reference.feature_name
        try:
            require_differentiable(evaluator.proto, name, decoded, features)
            changed, training = distilled(version, placement, name, decoded, features, config, progress)
        except ConversionFailed as error:
            return _noted(version, version, DistillNotes(False, error.message))
        seconds = time.perf_counter() - start
        if not training.steps:
            why = "no step brought held-out training photos closer to FP32"
            return _noted(version, version, DistillNotes(False, why, photos=len(fitted), seconds=seconds))
        outputs = [evaluator.outputs_on(validation, *network) for network in ((), (version,), (changed,))]
        notes = compared(outputs[0], outputs[1], outputs[2], np.array(groups_of(validation, dataset)))
        notes = replace(notes, steps=training.steps, photos=len(fitted), seconds=seconds)
        return _noted(version, changed, notes)

    return distil


def compared(
    reference: NetworkOutputs, before: NetworkOutputs, after: NetworkOutputs, groups: np.ndarray
) -> DistillNotes:
    """Compare an INT8 network before and after distillation with FP32 on the same photos, and decide which to keep.

    `groups` has the group of each photo, int (N,): copies of one photo are not independent evidence.
    """
    decibels = [
        np.array([sqnr_db(*rows) for rows in zip(reference.features, outputs.features, strict=True)])
        for outputs in (before, after)
    ]
    change = paired_difference(decibels[0], decibels[1], groups)
    answers = reference.scores.argmax(axis=1)
    agrees = [outputs.scores.argmax(axis=1) == answers for outputs in (before, after)]
    kept = False
    independent = len(np.unique(groups))
    if independent < _MIN_GROUPS:
        why = f"the validation photos are copies of only {independent} photos, too few to prove an improvement"
    elif change.low <= 0:
        why = "its features are not significantly closer to those of FP32"
    elif difference_interval(agrees[0], agrees[1], groups).high < 0:
        why = "it agrees significantly less often with FP32"
    else:
        why, kept = "its features are closer to those of FP32; the agreement is not significantly lower", True
    return DistillNotes(
        kept=kept,
        why=why,
        validation_photos=len(answers),
        features_db=(float(decibels[0].mean()), float(decibels[1].mean())),
        change_low=change.low,
        change_high=change.high,
        agreement=(float(agrees[0].mean()), float(agrees[1].mean())),
    )


def _noted(version: Any, changed: Any, notes: DistillNotes) -> tuple[Any, DistillNotes]:
    """Log a decision, and return the network that it keeps."""
    if notes.kept:
        _log.info("the distilled network is kept: %s", notes.why)
    else:
        _log.warning("the network was not distilled, and int8.onnx is as without --distill: %s", notes.why)
    return (changed if notes.kept else version), notes
