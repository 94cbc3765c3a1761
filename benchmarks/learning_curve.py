"""Measures the learning curve: does half of the photos predict the accuracy at all of them, how often does its
interval hold, and how long does it take relative to the cross-fitted heads?

Half of the photos are drawn at random, several times. The curve of each half predicts the change of accuracy on the
same photos when its heads are trained on all photos. The goal is an error of at most 2 points.

    python benchmarks/learning_curve.py PHOTOS [--backbone efficientnet_lite0] [--halves 4]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from trtpoets.core.paths import cache_root
from trtpoets.core.training import HeadConfig
from trtpoets.judge.cross_fit import CrossFitConfig, folds_of_photos
from trtpoets.judge.learning_curve import LearningCurve
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


def main() -> None:
    """Run the measurement and print a line for each half."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--halves", type=int, default=4)
    options = parser.parse_args()
    dataset = dataset_from_folder(options.photos, DatasetConfig())
    network = network_from_backbone(backbone_named(options.backbone), None)
    features = bottlenecks_from_photos(
        dataset.photos, extractor_from_network(network, Device.AUTO), cache_root() / "bottlenecks"
    )
    labels, groups = indices_of_labels(dataset), np.array(groups_of(dataset.photos, dataset))
    hashes = [photo.sha256 for photo in dataset.photos]
    everything = np.arange(len(labels))
    right, curve, seconds = _curve(features, labels, groups, hashes, everything)
    print(f"{len(labels):,} photos: the curve takes {seconds[1] / seconds[0]:.1f} times as long as the heads")
    print("  " + ", ".join(f"{point.photos:,}: {100 * point.accuracy:.1f} %" for point in curve.points))
    within, held = 0, 0
    for number in range(options.halves):
        half = np.sort(np.random.default_rng(number).permutation(len(labels))[: len(labels) // 2])
        own, curve, _ = _curve(features, labels, groups, hashes, half)
        (gain, *_), true = curve.gains, right[half].mean() - own.mean()
        within += abs(gain.gain - true) <= _GOAL
        held += gain.low <= true <= gain.high
        print(
            f"  half {number}: expected {100 * gain.gain:+.1f} points ({100 * gain.low:+.1f} to "
            f"{100 * gain.high:+.1f}), measured {100 * true:+.1f}"
        )
    print(f"within 2 points: {within} of {options.halves}; in the interval: {held} of {options.halves}")


def _curve(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, hashes: list[str], rows: np.ndarray
) -> tuple[np.ndarray, LearningCurve, tuple[float, float]]:
    """Return right answers, the curve, and the seconds of the cross-fitted heads and of the curve."""
    x, y, group_of = np.asarray(features)[rows], labels[rows], groups[rows]
    folds = folds_of_photos(y, group_of, [hashes[row] for row in rows], CrossFitConfig())
    if folds is None:
        raise SystemExit("too few photos")
    start = time.perf_counter()
    parts = [folds.rows(number)[:2] for number in range(folds.count)]
    heads = heads_from_parts(x, y, parts, int(labels.max()) + 1, HeadConfig())
    trained = [head for head in heads if head is not None]
    if len(trained) < len(heads):
        raise SystemExit("the training of a head diverged")
    right = scores_by_fold(trained, x, folds.fold_of, int(labels.max()) + 1).argmax(axis=1) == y
    middle = time.perf_counter()
    curve = learning_curve_of(x, y, group_of, folds, right, HeadConfig())
    return right, curve, (middle - start, time.perf_counter() - middle)


if __name__ == "__main__":
    main()
