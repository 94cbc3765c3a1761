"""The accuracy target of INT8: it gives the same answers as FP32, and loses hardly any right answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trtpoets.core.labels import label_indices
from trtpoets.core.proportions import wilson_bounds

MIN_AGREEMENT = 0.98
"""At least this share of the photos has the same first label as in FP32."""

MAX_LOST = 0.005
"""At most this share of the labelled photos is lost: right in FP32 and wrong in INT8, less those that are gained."""

_Z = 1.959964
"""The bounds of the agreement are those of a 95 % interval by Wilson (1927), as in the gate of evaluate."""


@dataclass(frozen=True)
class PairedAnswers:
    """A comparison of answers: of `photos`, `different` have another first label; of `labelled`, `lost` are lost."""

    photos: int
    different: int
    labelled: int = 0
    lost: int = 0


def answers_from_scores(
    reference: np.ndarray, other: np.ndarray, labels: Sequence[str], truth: Sequence[str]
) -> PairedAnswers:
    """Compare scores (N, C) of FP32 and of INT8. `labels` names the columns, `truth` is the label of each photo."""
    return answers_from_indices(reference, other, np.array(label_indices(truth, labels)))


def answers_from_indices(reference: np.ndarray, other: np.ndarray, truth: np.ndarray) -> PairedAnswers:
    """Compare scores (N, C) like `answers_from_scores`; `truth`, int (N,), has the right column, -1 without a label."""
    before, after = reference.argmax(axis=1), other.argmax(axis=1)
    labelled = truth >= 0
    lost = int(((before == truth) & labelled).sum()) - int(((after == truth) & labelled).sum())
    return PairedAnswers(len(before), int((before != after).sum()), int(labelled.sum()), lost)


def can_tell(photos: int) -> bool:
    """Return whether so many photos, all with the same answer, show that the agreement is high enough."""
    return _is_shown(photos, 0)


def is_met(answers: PairedAnswers) -> bool:
    """Return whether the accuracy target is met on these photos.

    The lower bound of the agreement counts where the photos are enough to show it (from 189). With fewer, FP16 is
    recommended in any case, and the target is missed only if the upper bound is below it: layers in FP32 cost time,
    and a few different answers do not justify it. The loss counts where one photo is no more than the allowed loss
    (from 200).
    """
    if answers.labelled * MAX_LOST >= 1 and answers.lost > MAX_LOST * answers.labelled:
        return False
    if can_tell(answers.photos):
        return _is_shown(answers.photos, answers.different)
    return _bounds(answers.photos, answers.different)[1] >= MIN_AGREEMENT


def excess(answers: PairedAnswers) -> float:
    """Return the share of different answers, or of lost ones, relative to what the target allows; 1 if it is met.

    Where noise changes few answers, their number is proportional to its amplitude, so this is the factor by which the
    amplitude is too large.
    """
    if is_met(answers):
        return 1.0
    beyond = answers.different / max(_most_different(answers.photos), 1)
    if answers.labelled * MAX_LOST >= 1:
        beyond = max(beyond, answers.lost / (MAX_LOST * answers.labelled))
    return max(beyond, 1.0)


def _most_different(photos: int) -> int:
    """Return how many photos may have another answer."""
    return next((count - 1 for count in range(1, photos + 1) if not is_met(PairedAnswers(photos, count))), photos)


def _is_shown(photos: int, different: int) -> bool:
    """Return whether the lower bound of the agreement is high enough."""
    return _bounds(photos, different)[0] >= MIN_AGREEMENT


def _bounds(photos: int, different: int) -> tuple[float, float]:
    return wilson_bounds(photos - different, photos, _Z)
