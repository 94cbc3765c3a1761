"""Accuracy, agreement and change of accuracy over all photos of a run: the second part of evaluation.json.

Where the head was trained here, each photo is classified by a cross-fitted head (`cross_fit` says what that estimates).
Otherwise, as for an adopted classifier, the network is not trained on these photos and answers all of them as it is.
The photos that a file was made with (calibrated, or its last layer refitted, in a network that answers as it is) do not
count for that file; how often it agrees on them is listed apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Sequence

import numpy as np

from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.formatting import many
from trtpoets.core.runner_id import RunnerId, runner_of_file
from trtpoets.core.serialization import OPTIONAL
from trtpoets.core.types import Precision
from trtpoets.judge.classes import recall_intervals, recall_of_classes
from trtpoets.judge.clustered import count_of_groups, difference_interval, equality_test, share_interval
from trtpoets.judge.cross_fit import (
    ACCURACY_PART,
    AGREEMENT_PART,
    CrossFitConfig,
    Folds,
    affordable_folds,
    variance_factor,
)
from trtpoets.judge.evaluation import ComparisonSummary
from trtpoets.judge.learning_curve import LearningCurve

_FEW_GROUPS = "there are no more independent groups to divide"

CALIBRATION = "calibration"
"""The use of the photos that do not count for a file because it was calibrated with them."""

REFIT = "refit"
"""The use of the photos that do not count for a file because its last layer was refitted on them, after calibration
on others."""


@dataclass(frozen=True)
class Excluded:
    """A number of photos that do not count, and the reason."""

    photos: int
    why: str


@dataclass(frozen=True)
class AgreedOn:
    """The photos of one use, and for how many of them a file gives the same label as FP32."""

    photos: int
    agreed: int


@dataclass(frozen=True)
class NotCompared:
    """A file that could not be compared with FP32, by its name, and the reason."""

    file: str
    why: str


@dataclass(frozen=True)
class FileOnAllPhotos:
    """A file of a reduced precision, compared with FP32 on all photos but those in `excluded`. Shares are 0..1.

    `head` says which last layer follows the file's base. `recall_change` is the recall of each label minus FP32's,
    where they differ. `by_use` has the agreement by what the photos were used for, also for those of calibration and of
    the refit. The other fields are those of `Evaluation`; intervals respect groups and folds.
    """

    file: str
    sha256: str
    precision: Precision
    head: str
    photos: int
    groups: int
    labelled: int
    labelled_groups: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    agreement: float
    agreement_low: float
    agreement_high: float
    comparison: ComparisonSummary
    recall: Mapping[str, float | None]
    recall_intervals: Mapping[str, tuple[float, float] | None]
    recall_change: Mapping[str, float]
    excluded: tuple[Excluded, ...]
    by_use: Mapping[str, AgreedOn]

    @property
    def runner(self) -> RunnerId:
        """The runner of the file itself, on a CPU."""
        return runner_of_file(self.file, self.precision)

    @property
    def fp32_accuracy(self) -> float | None:
        """The accuracy of FP32 on the same photos: that of the file minus its change."""
        if self.accuracy is None:
            return None
        right = round(self.accuracy * self.labelled) + self.comparison.only_reference - self.comparison.only_runner
        return right / self.labelled

    @property
    def refit_photos(self) -> int:
        """The number of photos that do not count only because the last layer was refitted on them."""
        of_refit = self.by_use.get(REFIT)
        return of_refit.photos if of_refit else 0

    @property
    def counted_photos(self) -> str:
        """Which photos count, as sentences say it: "outside calibration"."""
        return "outside calibration and the refit of its last layer" if self.refit_photos else "outside calibration"


@dataclass(frozen=True)
class AllPhotos:
    """The evaluation over all photos. Shares are 0..1, intervals have a confidence of 95 %.

    `config` are the settings, `dataset` the hash of the photos and their splits. `folds` are those that were used; 0
    means that the shipped network classified the photos, without any training. `photos`, `accuracy` and `recall` are
    those of FP32. `excluded` counts photos that nothing was measured on. `notes` are sentences about the folds.
    `not_compared` are the files that could not be compared; earlier versions named them in `notes`.
    `skipped` is the reason why nothing was measured; all other numbers are then 0 or None. `learning_curve` is None
    where the network was not trained on these photos.
    """

    config: CrossFitConfig
    dataset: str
    folds: int = 0
    photos: int = 0
    groups: int = 0
    labelled: int = 0
    labelled_groups: int = 0
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    recall: Mapping[str, float | None] = field(default_factory=dict)
    recall_intervals: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)
    excluded: tuple[Excluded, ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[FileOnAllPhotos, ...] = ()
    not_compared: tuple[NotCompared, ...] = ()
    skipped: str | None = field(default=None, metadata=OPTIONAL)
    learning_curve: LearningCurve | None = field(default=None, metadata=OPTIONAL)

    @property
    def agreement_factor(self) -> float:
        """The factor by which shared training photos enlarge the variance of an agreement."""
        return variance_factor(self.folds, AGREEMENT_PART)

    def of_runner(self, runner: RunnerId) -> FileOnAllPhotos | None:
        """Return the result of the file that a runner runs, as it is or built into an engine; None without one."""
        return next((item for item in self.files if item.file == runner.file and item.photos), None)


@dataclass(frozen=True, eq=False)
class ScoredFile:
    """The scores of a file for all photos, float32 (N, C); where `measured`, bool (N,), is false, they do not count.

    `calibration`, bool (N,), are the photos that it was calibrated with, `refit` those that its last layer was refitted
    on; None if these count, because each head is refitted without the photos of its fold, or if nothing was refitted.
    `head` says what the last layer is.
    """

    file: str
    sha256: str
    precision: Precision
    head: str
    scores: np.ndarray
    calibration: np.ndarray
    measured: np.ndarray
    refit: np.ndarray | None = None

    @property
    def made_with(self) -> np.ndarray:
        """The photos that do not count because the file was made with them, bool (N,)."""
        return self.calibration if self.refit is None else self.calibration | self.refit


@dataclass(frozen=True, eq=False)
class PhotosToCount:
    """All photos of a run: the index of each label (-1: the classifier lacks it), the independent group, the use.

    `folds` are None where the shipped network answers.
    """

    truth: np.ndarray
    groups: np.ndarray
    uses: Sequence[str]
    labels: tuple[str, ...]
    folds: Folds | None


def all_photos_from_scores(
    reference: np.ndarray, files: Sequence[ScoredFile], photos: PhotosToCount, config: CrossFitConfig, dataset: str
) -> AllPhotos:
    """Return the evaluation from FP32's scores, float32 (N, C), and those of the files; rows are photos.

    Raises BadInput for scores of another shape, RunFailed for scores that are not numbers.
    """
    shape = (len(photos.truth), len(photos.labels))
    for name, scores in (("fp32.onnx", reference), *((item.file, item.scores) for item in files)):
        _check(name, scores, shape)
    folds = photos.folds
    counted = np.ones(shape[0], bool) if folds is None else folds.fold_of >= 0
    labelled = counted & (photos.truth >= 0)
    right = reference.argmax(axis=1) == photos.truth
    accuracy, low, high = _accuracy(right[labelled], photos.groups[labelled], folds)
    return AllPhotos(
        config=config,
        dataset=dataset,
        folds=folds.count if folds else 0,
        photos=int(counted.sum()),
        groups=_groups(photos.groups[counted]),
        labelled=int(labelled.sum()),
        labelled_groups=_groups(photos.groups[labelled]),
        accuracy=accuracy,
        accuracy_low=low,
        accuracy_high=high,
        recall=recall_of_classes(right[labelled], photos.truth[labelled], photos.labels),
        recall_intervals=_recall_intervals(right, labelled, photos),
        excluded=_excluded(counted),
        notes=_notes(photos, config),
        files=tuple(_file(item, reference, counted, photos) for item in files),
    )


def _file(item: ScoredFile, reference: np.ndarray, counted: np.ndarray, photos: PhotosToCount) -> FileOnAllPhotos:
    run = counted & item.measured
    chosen = run & ~item.made_with
    labelled = chosen & (photos.truth >= 0)
    answers, reference_answers = item.scores.argmax(axis=1), reference.argmax(axis=1)
    agrees, right, reference_right = (
        answers == reference_answers,
        answers == photos.truth,
        reference_answers == photos.truth,
    )
    lost, won = reference_right & ~right & labelled, right & ~reference_right & labelled
    group_of, folds, total = photos.groups, photos.folds, int(labelled.sum())
    accuracy, low, high = _accuracy(right[labelled], group_of[labelled], folds)
    agreement = share_interval(
        agrees[chosen], group_of[chosen], variance_factor=variance_factor(folds.count if folds else 0, AGREEMENT_PART)
    )
    change = difference_interval(reference_right[labelled], right[labelled], group_of[labelled]) if total else None
    recall = recall_of_classes(right[labelled], photos.truth[labelled], photos.labels)
    before = recall_of_classes(reference_right[labelled], photos.truth[labelled], photos.labels)
    moved = {label: (after or 0.0) - (before[label] or 0.0) for label, after in recall.items()}
    difference = np.abs(item.scores[chosen].astype(np.float64) - reference[chosen])
    uses = np.where(item.made_with, REFIT, np.asarray(photos.uses))
    uses = np.where(item.calibration, CALIBRATION, uses)
    calibrated = int((run & item.calibration).sum())
    refitted = int((run & item.made_with).sum()) - calibrated
    beyond = int((counted & ~item.measured).sum())
    return FileOnAllPhotos(
        file=item.file,
        sha256=item.sha256,
        precision=item.precision,
        head=item.head,
        photos=int(chosen.sum()),
        groups=_groups(group_of[chosen]),
        labelled=total,
        labelled_groups=_groups(group_of[labelled]),
        accuracy=accuracy,
        accuracy_low=low,
        accuracy_high=high,
        agreement=float(agrees[chosen].mean()) if chosen.any() else 0.0,
        agreement_low=agreement.low,
        agreement_high=agreement.high,
        comparison=ComparisonSummary(
            agreed=int(agrees[chosen].sum()),
            only_reference=int(lost.sum()),
            only_runner=int(won.sum()),
            accuracy_change=(int(won.sum()) - int(lost.sum())) / total if total else None,
            change_low=change.low if change else None,
            change_high=change.high if change else None,
            p_value=equality_test(reference_right[labelled], right[labelled], group_of[labelled]),
            max_abs=float(difference.max()) if difference.size else 0.0,
        ),
        recall=recall,
        recall_intervals=_recall_intervals(right, labelled, photos),
        recall_change=dict(sorted(((k, v) for k, v in moved.items() if v), key=lambda item: item[1])),
        excluded=(
            *([Excluded(calibrated, f"{item.file} was calibrated with them")] if calibrated else []),
            *([Excluded(refitted, f"the last layer of {item.file} was refitted on them")] if refitted else []),
            *([Excluded(beyond, "the others are enough")] if beyond else []),
        ),
        by_use={
            use: AgreedOn(int((run & (uses == use)).sum()), int(agrees[run & (uses == use)].sum()))
            for use in sorted(set(uses[run].tolist()))
        },
    )


def _accuracy(
    right: np.ndarray, groups: np.ndarray, folds: Folds | None
) -> tuple[float | None, float | None, float | None]:
    """Return the share of `right` and its interval; None without photos."""
    if not len(right):
        return None, None, None
    factor = variance_factor(folds.count if folds else 0, ACCURACY_PART)
    interval = share_interval(right, groups, variance_factor=factor)
    return float(right.mean()), interval.low, interval.high


def _recall_intervals(
    right: np.ndarray, chosen: np.ndarray, photos: PhotosToCount
) -> dict[str, tuple[float, float] | None]:
    factor = variance_factor(photos.folds.count if photos.folds else 0, ACCURACY_PART)
    return recall_intervals(right[chosen], photos.truth[chosen], photos.groups[chosen], photos.labels, factor)


def _groups(groups: np.ndarray) -> int:
    return count_of_groups(groups, len(groups))


def _excluded(counted: np.ndarray) -> tuple[Excluded, ...]:
    out = int((~counted).sum())
    why = "all heads are trained on them, as their classes have fewer than three independent groups"
    return (Excluded(out, why),) if out else ()


def _notes(photos: PhotosToCount, config: CrossFitConfig) -> tuple[str, ...]:
    """Return sentences about fewer folds than were asked for, and classes that are not in all folds."""
    folds = photos.folds
    if folds is None:
        return ()
    notes = []
    if folds.count < config.folds:
        classes = len(np.unique(photos.truth))
        affordable = affordable_folds(config.folds, classes)
        why = f"more heads of {classes:,} classes would take long" if folds.count == affordable else _FEW_GROUPS
        notes.append(f"{folds.count} folds instead of {config.folds}: {why}.")
    if folds.always_trained:
        names = ", ".join(repr(photos.labels[label]) for label in folds.always_trained)
        notes.append(f"Nothing is known about {names}: a class needs three independent groups.")
    if folds.partial:
        label, count = min(folds.partial, key=lambda item: item[1])
        others = many(len(folds.partial) - 1, "more class has", "more classes have")
        more = f", and {others} photos in less than all" if len(folds.partial) > 1 else ""
        notes.append(f"{photos.labels[label]!r} has photos in {count} of {folds.count} folds{more}.")
    return tuple(notes)


def _check(name: str, scores: np.ndarray, shape: tuple[int, int]) -> None:
    if scores.shape != shape:
        raise BadInput(
            f"scores of {name} must have the shape {shape} (photos, labels), not {scores.shape}", code="TP5152"
        )
    if not np.isfinite(scores).all():
        raise RunFailed(
            f"{name} returned a score that is not a number, for photo "
            f"{int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])}",
            hint="use a wider precision",
            code="TP5153",
        )
