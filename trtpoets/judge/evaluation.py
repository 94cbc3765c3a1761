"""Accuracy of runners on held-out photos, and their agreement with TensorFlow; the content of evaluation.json."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass, field, fields
from typing import Callable, Generator, Mapping, Sequence

import numpy as np

from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.images import photo_batches
from trtpoets.core.labels import label_indices
from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import RunnerId
from trtpoets.core.serialization import FLAT
from trtpoets.core.types import Photo, Preprocess
from trtpoets.device.runners.base import Runner, check_scores, pipelined
from trtpoets.judge.classes import confusion_of, recall_intervals, recall_of_classes
from trtpoets.judge.clustered import count_of_groups, difference_interval, equality_test, share_interval

_log = logging.getLogger(__name__)

SAMPLES = 200
"""The largest number of photos of a kind (wrong, changed, right) that are listed; the counts include all photos."""


@dataclass(frozen=True)
class EvaluatedPhoto:
    """The answer of a runner to one photo. `score` is that of the answer, `label_score` that of the true label."""

    path: str
    label: str
    predicted: str
    score: float
    label_score: float | None


@dataclass(frozen=True)
class ChangedAnswer:
    """A photo for which the answers of a runner and the reference differ, with both answers and their scores."""

    path: str
    label: str
    reference: str
    reference_score: float
    predicted: str
    score: float


@dataclass(frozen=True)
class ComparisonSummary:
    """The numbers of one runner compared with the reference, photo by photo.

    `only_reference` photos are right with the reference alone, `only_runner` with the runner alone.
    `accuracy_change` is runner minus reference, between `change_low` and `change_high`.
    `p_value` is the exact McNemar test's, over groups. `max_abs` is the largest difference in any score.
    """

    agreed: int
    only_reference: int
    only_runner: int
    accuracy_change: float | None
    change_low: float | None
    change_high: float | None
    p_value: float
    max_abs: float


@dataclass(frozen=True)
class Comparison(ComparisonSummary):
    """One runner compared with the reference, and the photos whose answers differ: at most SAMPLES of them."""

    changed: tuple[ChangedAnswer, ...]

    @property
    def summary(self) -> ComparisonSummary:
        """The numbers alone."""
        return ComparisonSummary(*(getattr(self, entry.name) for entry in fields(ComparisonSummary)))


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one runner on the held-out photos. Shares are 0..1, intervals have a confidence of 95 %.

    `photos` are in `groups` independent groups (copies of a photo, shots of one object), those with a known label in
    `labelled_groups`. All intervals and tests count groups as clusters (`judge.clustered`).

    `labelled` photos have a label that the classifier knows; accuracy, recall, confusion, mistakes and right answers
    include these only. Without such photos (a published network on other photos) only the agreement is not None.
    `confusion` holds (label index, answer index, photos) wherever photos > 0. `recall` and `recall_intervals` have None
    for a label without photos. `mistakes` are sorted by falling score, `right` are taken from all labels in turn; each
    has at most SAMPLES photos. `agreement` and `comparison` are None without a reference.
    """

    runner: RunnerId = field(metadata=FLAT)
    labels: tuple[str, ...]
    photos: int
    groups: int
    labelled: int
    labelled_groups: int
    correct: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    top5_accuracy: float | None
    cross_entropy: float | None
    recall: Mapping[str, float | None]
    recall_intervals: Mapping[str, tuple[float, float] | None]
    confusion: tuple[tuple[int, int, int], ...]
    mistakes: tuple[EvaluatedPhoto, ...]
    right: tuple[EvaluatedPhoto, ...]
    agreement: float | None = None
    agreement_low: float | None = None
    agreement_high: float | None = None
    comparison: Comparison | None = None


class DecodedPhotos:
    """Decodes photos in batches, and keeps the pixels for the next runner: at most `limit` bytes of the first photos.

    Photos beyond the limit are decoded again for each runner. All runners must have the same preprocessing.
    """

    def __init__(self, photos: Sequence[Photo], preprocess: Preprocess, limit: int = 512 << 20) -> None:
        self.photos, self.preprocess = photos, preprocess
        self._pixels: list[np.ndarray] = []
        self._capacity = limit // (preprocess.height * preprocess.width * 3)

    def batches(
        self, batch_size: int, buffer: Callable[[int], np.ndarray] | None = None
    ) -> Generator[np.ndarray, None, None]:
        """Yield the photos in order as uint8 (n, H, W, 3); arguments and exceptions as of `photo_batches`."""
        whole = len(self._pixels) == len(self.photos)
        kept = len(self._pixels) if whole else len(self._pixels) // batch_size * batch_size
        for start in range(0, kept, batch_size):
            pixels = self._pixels[start : start + batch_size]
            yield np.stack(pixels, out=buffer(len(pixels)) if buffer else None)
        done = kept
        with closing(photo_batches(self.photos[kept:], self.preprocess, batch_size, buffer=buffer)) as batches:
            for batch in batches:
                self._pixels += [pixels.copy() for pixels in batch[len(self._pixels) - done : self._capacity - done]]
                done += len(batch)
                yield batch


def scores_from_runner(
    runner: Runner,
    photos: Sequence[Photo],
    batch_size: int = 16,
    progress: Progress = silent,
    decoded: DecodedPhotos | None = None,
) -> np.ndarray:
    """Run an entered runner on all photos and return the scores, float32 (N, C), in the order of the photos.

    `decoded` are the same photos, for use by several runners. Raises BadInput for no photos, BadPhoto for one that
    can't be decoded, PhotoChanged for one whose bytes differ from the dataset's, RunFailed when the runner fails or
    returns scores of another shape, or that are not numbers.
    """
    if not photos:
        raise BadInput("there are no photos to evaluate", hint="hold some back with --test-percent 10", code="TP5032")
    task = f"evaluate {runner.name}"
    parts: list[np.ndarray] = []
    done = 0
    progress(task, done, len(photos))
    # Closed before an exception leaves this function: threads write into memory of the runner.
    if decoded is None or decoded.preprocess != runner.spec.preprocess:
        decoded = DecodedPhotos(photos, runner.spec.preprocess, limit=0)
    with closing(decoded.batches(batch_size, runner.input_buffer)) as batches:
        for scores in pipelined(runner, batches):
            count = min(batch_size, len(photos) - done)
            parts.append(check_scores(scores, count, runner.spec, runner.name))
            done += count
            progress(task, done, len(photos))
    return np.concatenate(parts)


def evaluation_from_scores(
    runner: RunnerId,
    scores: np.ndarray,
    photos: Sequence[Photo],
    labels: Sequence[str],
    reference: np.ndarray | None = None,
    groups: Sequence[int] | None = None,
    *,
    warn: bool = True,
) -> Evaluation:
    """Evaluate `scores` (N, C), row i for photos[i]; `reference` are TensorFlow's scores for the same photos.

    `groups` has a number for each photo, equal for photos that are not independent of each other: copies of one photo,
    shots of one object. None means that all are independent. `warn` logs that photos have labels which the classifier
    does not have: once is enough for several runners. Raises BadInput when shapes, photos, groups and labels
    don't match, RunFailed when a score is not a number.
    """
    truth = _truth(photos, labels, warn=warn)
    _check(runner.name, scores, len(photos), len(labels))
    labelled = np.flatnonzero(truth >= 0)
    answers = scores.argmax(axis=1)
    right = answers == truth
    correct, total = int(right.sum()), len(labelled)
    group_of = np.arange(len(truth)) if groups is None else np.asarray(groups)
    count = count_of_groups(group_of, len(truth))
    interval = share_interval(right[labelled], group_of[labelled]) if total else None
    wrong = labelled[~right[labelled]]
    surest = wrong[np.argsort(-scores[wrong].max(axis=1), kind="stable")]
    comparison, agreement = None, None
    if reference is not None:
        _check("the reference", reference, len(photos), len(labels))
        comparison = _comparison(scores, reference, truth, photos, labels, group_of)
        agreement = share_interval(answers == reference.argmax(axis=1), group_of)
    return Evaluation(
        runner=runner,
        labels=tuple(labels),
        photos=len(truth),
        groups=count,
        labelled=total,
        labelled_groups=count_of_groups(group_of[labelled], total),
        correct=correct,
        accuracy=correct / total if total else None,
        accuracy_low=interval.low if interval else None,
        accuracy_high=interval.high if interval else None,
        top5_accuracy=_top5(scores[labelled], truth[labelled]),
        cross_entropy=_cross_entropy(scores[labelled, truth[labelled]]),
        recall=recall_of_classes(right[labelled], truth[labelled], labels),
        recall_intervals=recall_intervals(right[labelled], truth[labelled], group_of[labelled], labels),
        confusion=confusion_of(truth[labelled], answers[labelled], len(labels)),
        mistakes=tuple(_answer(i, scores, photos, truth, labels) for i in surest[:SAMPLES]),
        right=tuple(_answer(i, scores, photos, truth, labels) for i in _in_turn(truth, right)[:SAMPLES]),
        agreement=comparison.agreed / len(truth) if comparison else None,
        agreement_low=agreement.low if agreement else None,
        agreement_high=agreement.high if agreement else None,
        comparison=comparison,
    )


def _truth(photos: Sequence[Photo], labels: Sequence[str], *, warn: bool) -> np.ndarray:
    """Return the index of each photo's label: int64 (N,); -1 for a label that the classifier does not have."""
    if not photos:
        raise BadInput("there are no photos to evaluate", hint="hold some back with --test-percent 10", code="TP5033")
    unknown = sorted({photo.label for photo in photos} - set(labels))
    if unknown and warn:
        _log.warning(
            "%d labels of the photos are not among the classifier's %d, for example %r: only the agreement of these "
            "photos is measured",
            len(unknown),
            len(labels),
            unknown[0],
        )
    return np.array(label_indices((photo.label for photo in photos), labels), dtype=np.int64)


def _check(runner: str, scores: np.ndarray, count: int, classes: int) -> None:
    if scores.shape != (count, classes):
        raise BadInput(
            f"scores of {runner} must have the shape {(count, classes)} (photos, labels), not {scores.shape}",
            code="TP5034",
        )
    if not np.isfinite(scores).all():
        worst = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
        raise RunFailed(
            f"{runner} returned a score that is not a number, for photo {worst}",
            hint="use a wider precision",
            code="TP5035",
        )


def _answer(
    i: int, scores: np.ndarray, photos: Sequence[Photo], truth: np.ndarray, labels: Sequence[str]
) -> EvaluatedPhoto:
    best = int(scores[i].argmax())
    return EvaluatedPhoto(
        path=str(photos[i].path),
        label=photos[i].label,
        predicted=labels[best],
        score=float(scores[i, best]),
        label_score=float(scores[i, truth[i]]) if truth[i] >= 0 else None,
    )


def _top5(scores: np.ndarray, truth: np.ndarray) -> float | None:
    """Return the top-5 accuracy; None with at most ten labels."""
    if scores.shape[1] <= 10 or not len(truth):
        return None
    best = np.argpartition(-scores, 5, axis=1)[:, :5]
    return float((best == truth[:, None]).any(axis=1).mean())


def _cross_entropy(scores: np.ndarray) -> float | None:
    """Return the mean of -log of the labels' scores (N,), in nats; a score of 0 counts as 1e-12."""
    return float(-np.log(np.maximum(scores.astype(np.float64), 1e-12)).mean()) if len(scores) else None


def _in_turn(truth: np.ndarray, right: np.ndarray) -> list[int]:
    """Return the indices of correctly classified photos, one per label in turn."""
    rank: dict[int, int] = {}
    order = []
    for i in np.flatnonzero(right):
        label = int(truth[i])
        rank[label] = rank.get(label, -1) + 1
        order.append((rank[label], label, int(i)))
    return [i for _, _, i in sorted(order)]


def _comparison(
    scores: np.ndarray,
    reference: np.ndarray,
    truth: np.ndarray,
    photos: Sequence[Photo],
    labels: Sequence[str],
    group_of: np.ndarray,
) -> Comparison:
    answers, reference_answers = scores.argmax(axis=1), reference.argmax(axis=1)
    has_label = truth >= 0
    right, reference_right = (answers == truth)[has_label], (reference_answers == truth)[has_label]
    only_reference = int((reference_right & ~right).sum())
    only_runner = int((right & ~reference_right).sum())
    labelled = int(has_label.sum())
    interval = difference_interval(reference_right, right, group_of[has_label]) if labelled else None
    return Comparison(
        agreed=int((answers == reference_answers).sum()),
        only_reference=only_reference,
        only_runner=only_runner,
        accuracy_change=(only_runner - only_reference) / labelled if interval else None,
        change_low=interval.low if interval else None,
        change_high=interval.high if interval else None,
        p_value=equality_test(reference_right, right, group_of[has_label]),
        max_abs=float(np.abs(scores.astype(np.float64) - reference).max()),
        changed=tuple(
            ChangedAnswer(
                path=str(photos[i].path),
                label=photos[i].label,
                reference=labels[int(reference_answers[i])],
                reference_score=float(reference[i, reference_answers[i]]),
                predicted=labels[int(answers[i])],
                score=float(scores[i, answers[i]]),
            )
            for i in np.flatnonzero(answers != reference_answers)[:SAMPLES]
        ),
    )
