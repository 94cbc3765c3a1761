"""Accuracy of retrained heads on flowers and on the demonstration's solar cells, with both embedded backbones.

Each seed divides the photos anew (10 % to validate, 10 % to test, by lot) and seeds the head, so that the range over
seeds tells what chance does to both. Bottlenecks are computed once a backbone and kept in the cache, so that a second
run takes seconds. Beside it: the share of the test photos that the commonest class would get right.

    python benchmarks/accuracy.py [--flowers FOLDER] [--cells FOLDER] [--seeds 3]
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trtpoets.core.types import Photo, Split
from trtpoets.core.workspace import cache_root
from trtpoets.pipeline.demo import solar_cells
from trtpoets.pipeline.extractors import Device, extractor_from_network
from trtpoets.train.backbones import backbone_named
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder
from trtpoets.train.head import HeadConfig, head_from_bottlenecks, head_scores
from trtpoets.train.networks import network_from_backbone
from trtpoets.train.split import split_at

SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "flowers5"

BACKBONES = ("efficientnet_lite0", "mobilenet_v2")

GOALS = {"flowers": 85.0}
"""Percent right on test photos. None was set for the cells."""


def divided(photos: Sequence[Photo], seed: int) -> list[Photo]:
    """The photos with splits drawn by lot; equal photos share a lot."""

    def position(photo: Photo) -> float:
        return int(hashlib.sha256(f"{seed}:{photo.sha256}".encode()).hexdigest()[:12], 16) / 16**12 * 100

    return [replace(photo, split=split_at(position(photo), DatasetConfig())) for photo in photos]


def accuracy(
    photos: Sequence[Photo], labels: Sequence[str], features: np.ndarray, seed: int
) -> tuple[float, float, float]:
    """Of one seed: the share of test photos right, the share that the commonest class has, seconds of training."""
    shuffled = divided(photos, seed)
    rows = {s: np.array([i for i, photo in enumerate(shuffled) if photo.split is s], dtype=np.int64) for s in Split}
    truth = np.array([labels.index(photo.label) for photo in shuffled])
    arrays = [array[rows[split]] for split in (Split.TRAIN, Split.VALIDATION) for array in (features, truth)]
    start = time.perf_counter()
    head, _ = head_from_bottlenecks(*arrays, len(labels), HeadConfig(seed=seed))
    seconds = time.perf_counter() - start
    test = truth[rows[Split.TEST]]
    right = head_scores(head, features[rows[Split.TEST]]).argmax(axis=1) == test
    return float(right.mean()), float(np.bincount(test).max() / len(test)), seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flowers", type=Path, default=SHARED)
    parser.add_argument("--cells", type=Path, help="where the cells are; written to a temporary folder if not given")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = {"flowers": options.flowers, "solar cells": solar_cells(options.cells or Path(name) / "cells")}
        datasets = {what: dataset_from_folder(folder) for what, folder in folders.items()}
        print(f"test accuracy, mean (range) of {options.seeds} divisions of the photos into 80, 10 and 10 %")
        print(f"  {'':12}{'':20}{'photos':>8}{'accuracy %':>20}{'commonest %':>13}{'goal %':>8}{'head s':>8}")
        for backbone in BACKBONES:
            extractor = extractor_from_network(network_from_backbone(backbone_named(backbone)), Device.CPU)
            for what, dataset in datasets.items():
                features = bottlenecks_from_photos(dataset.photos, extractor, cache_root() / "bottlenecks")
                found = [accuracy(dataset.photos, dataset.labels, features, seed) for seed in range(options.seeds)]
                right, common, seconds = zip(*found, strict=True)
                shown = f"{100 * statistics.mean(right):.1f} ({100 * min(right):.1f}–{100 * max(right):.1f})"
                goal = f"{GOALS[what]:.0f}" if what in GOALS else "–"
                print(
                    f"  {what:12}{backbone:20}{len(dataset.photos):>8}{shown:>20}"
                    f"{100 * statistics.mean(common):>13.1f}{goal:>8}{statistics.median(seconds):>8.1f}"
                )


if __name__ == "__main__":
    main()
