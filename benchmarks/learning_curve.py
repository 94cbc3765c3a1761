"""Measures the learning curve: does half of the photos predict the accuracy at all of them, how often does its
interval hold, and how long does it take relative to the cross-fitted heads?

Half of the photos are drawn at random, several times. The curve of each half predicts the change of accuracy on the
same photos when its heads are trained on all photos. The goal is an error of at most 2 points. For each class, it also
predicts the changes of recall and accuracy when its heads are trained on the other half of the photos of that class
too. These are compared with the error of predicting no change.

    python benchmarks/learning_curve.py PHOTOS [--backbone efficientnet_lite0] [--halves 8]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trtpoets.core.paths import cache_root
from trtpoets.core.training import HeadConfig
from trtpoets.judge.cross_fit import CrossFitConfig, Folds, folds_of_photos
from trtpoets.judge.learning_curve import ExpectedGain, LearningCurve
from trtpoets.pipeline.extractors import Device, extractor_from_network
from trtpoets.pipeline.head_training import indices_of_labels
from trtpoets.pipeline.learning_curve import learning_curve_of
from trtpoets.train.backbones import DEFAULT_BACKBONE, backbone_named
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder
from trtpoets.train.joint_heads import heads_from_parts, scores_by_fold
from trtpoets.train.near_copies.grouping import groups_of
from trtpoets.train.networks import network_from_backbone

_GOAL = 0.02


@dataclass(frozen=True, eq=False)
class _Photos:
    """All photos of a set."""

    features: np.ndarray
    truth: np.ndarray
    groups: np.ndarray
    hashes: list[str]
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Half:
    """A part of the photos, the folds of it, its right answers, and its curve."""

    rows: np.ndarray
    folds: Folds
    right: np.ndarray
    curve: LearningCurve


@dataclass(frozen=True)
class _Compared:
    """An expected and a measured change."""

    gain: ExpectedGain
    measured: float

    @property
    def error(self) -> float:
        return self.gain.gain - self.measured

    @property
    def held(self) -> bool:
        return self.gain.low <= self.measured <= self.gain.high

    def __str__(self) -> str:
        gain = self.gain
        return (
            f"expected {100 * gain.gain:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f}), "
            f"measured {100 * self.measured:+.1f}"
        )


def main() -> None:
    """Run the measurement and print a line for each half and class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--halves", type=int, default=8)
    options = parser.parse_args()
    dataset = dataset_from_folder(options.photos, DatasetConfig())
    network = network_from_backbone(backbone_named(options.backbone), None)
    features = bottlenecks_from_photos(
        dataset.photos, extractor_from_network(network, Device.AUTO), cache_root() / "bottlenecks"
    )
    photos = _Photos(
        np.asarray(features),
        indices_of_labels(dataset),
        np.array(groups_of(dataset.photos, dataset)),
        [photo.sha256 for photo in dataset.photos],
        dataset.labels,
    )
    whole, seconds = _measured(photos, np.arange(len(photos.truth)))
    print(
        f"{len(photos.truth):,} photos: the heads take {seconds[0]:.1f} s of processor time, the curves "
        f"{seconds[1]:.1f} s, of which those of single classes {seconds[2]:.1f} s"
    )
    print("  " + ", ".join(f"{point.photos:,}: {100 * point.accuracy:.1f} %" for point in whole.curve.points))
    everything: list[_Compared] = []
    recalls: list[_Compared] = []
    accuracies: list[_Compared] = []
    for number in range(options.halves):
        rows = np.sort(np.random.default_rng(number).permutation(len(photos.truth))[: len(photos.truth) // 2])
        half, _ = _measured(photos, rows)
        everything.append(_Compared(half.curve.gains[0], whole.right[rows].mean() - half.right.mean()))
        print(f"  half {number}: {everything[-1]}")
        for label, of_class in enumerate(half.curve.classes):
            if of_class.recall_gain is None or of_class.accuracy_gain is None:
                print(f"    {of_class.label}: {of_class.skipped}")
                continue
            right, own = _with_more_of(photos, half, label, number), photos.truth[rows] == label
            recalls.append(_Compared(of_class.recall_gain, right[own].mean() - half.right[own].mean()))
            accuracies.append(_Compared(of_class.accuracy_gain, right.mean() - half.right.mean()))
            print(f"    {of_class.label}: recall {recalls[-1]}; accuracy {accuracies[-1]}")
    for name, compared in (("all classes", everything), ("recall", recalls), ("accuracy", accuracies)):
        _print_summary(name, compared)


def _print_summary(name: str, compared: list[_Compared]) -> None:
    if not compared:
        return
    errors = np.array([result.error for result in compared])
    changes = np.array([result.measured for result in compared])
    widths = np.array([result.gain.high - result.gain.low for result in compared])
    within = int((np.abs(errors) <= _GOAL).sum())
    print(
        f"{name}: within 2 points {within} of {len(compared)}, in the interval "
        f"{sum(result.held for result in compared)} of {len(compared)}; mean error {100 * np.abs(errors).mean():.1f} "
        f"points ({100 * errors.mean():+.1f} on average), of no change {100 * np.abs(changes).mean():.1f}; "
        f"mean width {100 * widths.mean():.1f}"
    )


def _measured(photos: _Photos, rows: np.ndarray) -> tuple[_Half, tuple[float, float, float]]:
    """Return the folds, answers and curve of some photos, and processor seconds: heads, curve, that of the classes."""
    x, y, group_of = photos.features[rows], photos.truth[rows], photos.groups[rows]
    folds = folds_of_photos(y, group_of, [photos.hashes[row] for row in rows], CrossFitConfig())
    if folds is None:
        raise SystemExit("too few photos")
    start = time.process_time()
    right = _right(x, y, [folds.rows(number)[:2] for number in range(folds.count)], folds.fold_of, len(photos.labels))
    middle = time.process_time()
    begun: list[float] = []

    def note_start(what: str, count: int, total: int) -> None:
        if what.startswith("learning curve at 50") and count == total:
            begun.append(time.process_time())

    curve = learning_curve_of(x, y, group_of, folds, right, photos.labels, HeadConfig(), note_start)
    end = time.process_time()
    of_classes = end - begun[-1] if begun else 0.0
    return _Half(rows, folds, right, curve), (middle - start, end - middle, of_classes)


def _with_more_of(photos: _Photos, half: _Half, label: int, seed: int) -> np.ndarray:
    """Return the right answers for a half by heads that are trained on all photos of a class: bool (n,).

    The other photos of the class are in the folds of their groups, and are not counted.
    """
    fold_of = np.full(len(photos.truth), -2)
    fold_of[half.rows] = half.folds.fold_of
    of_group = dict(zip(photos.groups[half.rows].tolist(), half.folds.fold_of.tolist(), strict=True))
    more = np.setdiff1d(np.flatnonzero(photos.truth == label), half.rows)
    for place, row in enumerate(np.random.default_rng(seed).permutation(more).tolist()):
        fold_of[row] = of_group.setdefault(int(photos.groups[row]), place % half.folds.count)
    parts = []
    for fold in range(half.folds.count):
        selecting = (fold + 1) % half.folds.count
        trained = (fold_of > -2) & (fold_of != fold) & (fold_of != selecting)
        parts.append((np.flatnonzero(trained), half.rows[half.folds.fold_of == selecting]))
    answered = np.full(len(photos.truth), -1)
    answered[half.rows] = half.folds.fold_of
    return _right(photos.features, photos.truth, parts, answered, len(photos.labels))[half.rows]


def _right(
    features: np.ndarray,
    truth: np.ndarray,
    parts: list[tuple[np.ndarray, np.ndarray]],
    fold_of: np.ndarray,
    classes: int,
) -> np.ndarray:
    """Return the right answers of heads that are trained on `parts`: bool (N,)."""
    heads = heads_from_parts(features, truth, parts, classes, HeadConfig())
    trained = [head for head in heads if head is not None]
    if len(trained) < len(heads):
        raise SystemExit("the training of a head diverged")
    return np.asarray(scores_by_fold(trained, features, fold_of, classes).argmax(axis=1) == truth)


if __name__ == "__main__":
    main()
