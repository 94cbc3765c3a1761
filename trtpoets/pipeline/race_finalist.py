"""Judges a finalist of a race: it is trained, exported and quantised in a run of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.fine_tuning import Distortions
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import Precision
from trtpoets.core.workspace import Workspace
from trtpoets.judge.race import RaceConfig
from trtpoets.pipeline.cross_fit import CrossFit, calibrated_photos
from trtpoets.pipeline.export import export
from trtpoets.pipeline.int8_advice import fitted_for_choices
from trtpoets.pipeline.quantize import quantize
from trtpoets.pipeline.retrain import RetrainConfig, retrain
from trtpoets.train.backbones import DEFAULT_BACKBONE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def answers_of_finalist(
    photos: Path | str,
    space: Workspace,
    config: RetrainConfig,
    precision: Precision,
    progress: Progress = silent,
) -> Mapping[str, tuple[bool, int]]:
    """Return whether a network answers each photo right in a precision, and the photo's group, by sha256.

    `space` is the run to make. The network is judged on training and validation photos, by cross-fitted heads. Photos
    that INT8 was calibrated with are left out. The heads are trained without distortions and on the frozen backbone.
    Raises BadInput if nothing can be cross-fitted.
    """
    name, engines = space.name, space.engines
    plain = replace(config, race=RaceConfig(), fine_tuning=None, distortions=Distortions(), try_distortions=False)
    retrain(photos, name, plain, engines=engines, progress=progress)
    fp32 = export(name, engines=engines, progress=progress)
    int8 = None
    if precision is Precision.INT8:
        (int8,) = quantize(name, precisions=(precision,), cpu_form=False, engines=engines, progress=progress)
    fitted = fitted_for_choices(space, fp32, progress)
    if not isinstance(fitted, CrossFit):
        raise too_few(fitted.skipped or "")
    folds = fitted.counted.folds
    assert folds is not None  # a network that was trained here
    counted, scores = folds.fold_of >= 0, fitted.reference
    if int8 is not None:
        file = fitted.scored(int8, calibrated_photos(space, fitted.dataset), progress)
        counted, scores = counted & file.measured & ~file.calibration, file.scores
    right = scores.argmax(axis=1) == fitted.counted.truth
    groups = fitted.counted.groups
    rows = zip(fitted.photos, counted.tolist(), right.tolist(), groups.tolist(), strict=True)
    return {photo.sha256: (answer, group) for photo, counts, answer, group in rows if counts}


def too_few(why: str) -> BadInput:
    """Return the error for photos on which networks cannot be compared; `why` is the reason."""
    return BadInput(
        f"a race cannot compare networks on these photos: {why}",
        hint=f"add photos, or name a network: --backbone {DEFAULT_BACKBONE}",
        code="TP8096",
    )
