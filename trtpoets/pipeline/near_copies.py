"""Keeps near-copies of photos in one split, and measures how they would affect the accuracy."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.progress import Progress, silent
from trtpoets.core.training import Accuracy, CopiesDetails
from trtpoets.core.types import Split
from trtpoets.judge.clustered import count_of_groups, share_interval
from trtpoets.judge.gate import photos_in_groups
from trtpoets.pipeline.head_training import head_from_features, indices_of_labels, rows_in
from trtpoets.train.head import head_scores
from trtpoets.train.joint_heads import PATIENCE
from trtpoets.train.near_copies.families import families_of
from trtpoets.train.near_copies.grouping import across_splits, groups_of, with_families
from trtpoets.train.row_file import rows_at

if TYPE_CHECKING:
    from trtpoets.core.training import HeadConfig
    from trtpoets.train.dataset import Dataset
    from trtpoets.train.head import Head

_log = logging.getLogger(__name__)


def copies_together(
    dataset: Dataset, features: np.ndarray, thumbnails: np.ndarray, progress: Progress = silent
) -> Dataset:
    """Return the dataset with its near-copies found and each family of near-copies kept in one split.

    `features` are the bottlenecks of the photos, `thumbnails` their thumbnails, both in the order of the photos.
    """
    return with_families(dataset, families_of(features, thumbnails, dataset.photos.names, progress))


def copies_details(
    as_read: Dataset, dataset: Dataset, features: np.ndarray, head: Head, config: HeadConfig
) -> CopiesDetails:
    """For training.json: how many families there are, and what accuracy would be, or is, without keeping them together.

    `as_read` is the dataset before near-copies were kept together. If that moved photos, a second head is trained on
    `as_read` and its accuracy is "as_it_stands". If the splits are given, "without_copies" is the accuracy on the test
    photos that have no near-copy in another split.
    """
    families = len(dataset.families)
    details = CopiesDetails()
    if families:
        members = {sha256 for family in dataset.families for sha256 in family}
        details = CopiesDetails(
            families=families,
            families_photos=sum(sha256 in members for sha256 in dataset.photos.sha256s),
            together=accuracy_on(dataset, features, head, rows_in(dataset, Split.TEST)),
        )
    if dataset.splits_given:
        groups = across_splits(dataset)
        if groups:
            copied = _with_copy_in_another_split(dataset)
            test = rows_in(dataset, Split.TEST)
            sha256s = dataset.photos.sha256s
            clean = np.array([row for row in test.tolist() if sha256s[row] not in copied], dtype=np.int64)
            without = accuracy_on(dataset, features, head, clean)
            details = replace(details, families_across_splits=len(groups), without_copies=without)
            _log.warning(
                "%d of %d test photos have a near-copy in another split; the given splits were kept. %s",
                len(test) - len(clean),
                len(test),
                accuracy_text(without, "Without them, the accuracy is"),
            )
    elif dataset.photos != as_read.photos:
        quick = replace(config, early_stop=config.early_stop or PATIENCE)  # one number needs no complete curve
        head_as_read, _ = head_from_features(as_read, features, quick)
        copies_known = replace(as_read, families=dataset.families)
        apart = accuracy_on(copies_known, features, head_as_read, rows_in(as_read, Split.TEST))
        details = replace(details, as_it_stands=apart)
        _log.info("%s", accuracy_text(apart, "without keeping near-copies in one split, it would be"))
    return details


def _with_copy_in_another_split(dataset: Dataset) -> set[str]:
    """Return the sha256 of each test photo that has a near-copy in the training or validation split."""
    copied = set()
    for group in across_splits(dataset).values():
        if any(photo.split is not Split.TEST for photo in group):
            copied |= {photo.sha256 for photo in group if photo.split is Split.TEST}
    return copied


def accuracy_on(dataset: Dataset, features: np.ndarray, head: Head, rows: np.ndarray) -> Accuracy:
    """Return the accuracy on the photos `rows` with its 95 % confidence interval; near-copies count as clusters.

    Accuracy and interval are None if `rows` is empty.
    """
    correct = head_scores(head, rows_at(features, rows)).argmax(axis=1) == indices_of_labels(dataset)[rows]
    return accuracy_of_answers(dataset, correct, rows)


def accuracy_of_answers(dataset: Dataset, correct: np.ndarray, rows: np.ndarray) -> Accuracy:
    """Return the same as `accuracy_on` for the right answers, bool (n,), to the photos `rows`."""
    if not len(rows):
        return Accuracy(0, 0, None, None, None)
    groups = groups_of(dataset.photos.at(rows), dataset)
    low, high = share_interval(correct, groups)
    return Accuracy(len(rows), count_of_groups(groups, len(rows)), float(correct.mean()), low, high)


def accuracy_text(accuracy: Accuracy, prefix: str) -> str:
    """Return the result of `accuracy_on` as a sentence that starts with `prefix`."""
    if accuracy.test_accuracy is None or accuracy.low is None or accuracy.high is None:
        return "Every test photo has a near-copy."
    photos = photos_in_groups(accuracy.test_photos, accuracy.test_groups, "test photo")
    interval = f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}"
    return f"{prefix} {100 * accuracy.test_accuracy:.1f} % ({interval}) on {photos}"
