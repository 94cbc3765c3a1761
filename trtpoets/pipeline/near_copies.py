"""Near-copies of photos: kept in one split, and what they make of the measured accuracy."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import Split
from trtpoets.judge.clustered import count_of_groups, share_interval
from trtpoets.judge.gate import photos_in_groups
from trtpoets.pipeline.card_details import Accuracy, CopiesDetails
from trtpoets.pipeline.head_training import head_from_features, indices_of_labels, rows_in
from trtpoets.train.head import head_scores
from trtpoets.train.near_copies.families import families_of
from trtpoets.train.near_copies.grouping import across_splits, groups_of, with_families

if TYPE_CHECKING:
    from trtpoets.train.dataset import Dataset
    from trtpoets.train.head import Head, HeadConfig

_log = logging.getLogger(__name__)


def copies_together(
    dataset: Dataset, features: np.ndarray, thumbnails: np.ndarray, progress: Progress = silent
) -> Dataset:
    """The dataset with its near-copies found, by bottlenecks and thumbnails of its photos, and kept in one split."""
    names = [(str(photo.path.parent), photo.path.name) for photo in dataset.photos]
    return with_families(dataset, families_of(features, thumbnails, names, progress))


def copies_details(
    as_read: Dataset, dataset: Dataset, features: np.ndarray, head: Head, config: HeadConfig
) -> CopiesDetails:
    """For training.json: how many families there are, and what accuracy would be, or is, without keeping them together.

    `as_read` is the dataset before copies were kept together. Where that moved photos, a second head is trained on
    `as_read`: `as_it_stands`. Where splits are given, the test photos without a copy in training are judged alone:
    `without_copies`.
    """
    families = len(dataset.families)
    details = CopiesDetails()
    if families:
        members = {sha256 for family in dataset.families for sha256 in family}
        details = CopiesDetails(
            families=families,
            families_photos=sum(photo.sha256 in members for photo in dataset.photos),
            together=accuracy_on(dataset, features, head, rows_in(dataset, Split.TEST)),
        )
    if dataset.splits_given:
        groups = across_splits(dataset)
        if groups:
            copied = _with_copy_in_training(dataset)
            test = rows_in(dataset, Split.TEST)
            clean = np.array([row for row in test.tolist() if dataset.photos[row].sha256 not in copied], dtype=np.int64)
            without = accuracy_on(dataset, features, head, clean)
            details = replace(details, families_across_splits=len(groups), without_copies=without)
            _log.warning(
                "%d of %d test photos have a near-copy among the training photos; the given splits were kept. %s",
                len(test) - len(clean),
                len(test),
                accuracy_text(without, "Without these, accuracy is"),
            )
    elif dataset.photos != as_read.photos:
        other, _ = head_from_features(as_read, features, config)
        copies_known = replace(as_read, families=dataset.families)
        apart = accuracy_on(copies_known, features, other, rows_in(as_read, Split.TEST))
        details = replace(details, as_it_stands=apart)
        _log.info("%s", accuracy_text(apart, "with copies on both sides, as the folder stands, it would be"))
    return details


def _with_copy_in_training(dataset: Dataset) -> set[str]:
    """sha256s of the test photos a copy of which is among the photos that train or choose the step."""
    copied = set()
    for group in across_splits(dataset).values():
        if any(photo.split is not Split.TEST for photo in group):
            copied |= {photo.sha256 for photo in group if photo.split is Split.TEST}
    return copied


def accuracy_on(dataset: Dataset, features: np.ndarray, head: Head, rows: np.ndarray) -> Accuracy:
    """Accuracy on the photos `rows` with its 95 % interval, copies counted as groups; None where there are none."""
    if not len(rows):
        return Accuracy(0, 0, None, None, None)
    right = head_scores(head, features[rows]).argmax(axis=1) == indices_of_labels(dataset)[rows]
    groups = groups_of([dataset.photos[row] for row in rows.tolist()], dataset)
    low, high = share_interval(right, groups)
    return Accuracy(len(rows), count_of_groups(groups, len(rows)), float(right.mean()), low, high)


def accuracy_text(judged: Accuracy, words: str) -> str:
    """What `accuracy_on` found, in a sentence that begins with `words`."""
    if judged.test_accuracy is None or judged.low is None or judged.high is None:
        return "No test photo is without one."
    photos = photos_in_groups(judged.test_photos, judged.test_groups, "test photo")
    interval = f"{100 * judged.low:.1f} to {100 * judged.high:.1f}"
    return f"{words} {100 * judged.test_accuracy:.1f} % ({interval}) on {photos}"
