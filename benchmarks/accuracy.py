"""Measures the accuracy of retrained heads on flowers and on the solar cells of the demo, with two backbones.

Each seed determines a random split of the photos (10 % validation, 10 % test) and the training of the head, so the
range over seeds shows the effect of chance on both. Bottlenecks are computed once per backbone and cached, so that a
second run takes seconds. For comparison, the share of the most common class in the test photos is printed.

    python benchmarks/accuracy.py [--flowers FOLDER] [--cells FOLDER] [--seeds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trtpoets.core.paths import cache_root
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Photo, Split
from trtpoets.pipeline.demo import solar_cells
from trtpoets.pipeline.extractors import Device, extractor_from_network
from trtpoets.train.backbones import backbone_named
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder
from trtpoets.train.head import head_from_bottlenecks, head_scores
from trtpoets.train.near_copies.grouping import positions_of_groups
from trtpoets.train.networks import network_from_backbone
from trtpoets.train.split import split_at

SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "flowers5"

BACKBONES = ("efficientnet_lite0", "mobilenet_v2")

GOALS = {"flowers": 85.0}
"""Required test accuracy in percent. There is none for the solar cells."""


def random_split(photos: Sequence[Photo], seed: int) -> list[Photo]:
    """Return the photos with random splits; photos with equal bytes are in the same split."""
    positions = positions_of_groups(np.arange(len(photos)), [photo.sha256 for photo in photos], f"{seed}:").tolist()
    return [
        replace(photo, split=split_at(position, DatasetConfig()))
        for photo, position in zip(photos, positions, strict=True)
    ]


def accuracy(
    photos: Sequence[Photo], labels: Sequence[str], features: np.ndarray, seed: int
) -> tuple[float, float, float]:
    """Return for one seed: test accuracy, share of the most common class, seconds of training."""
    shuffled = random_split(photos, seed)
    rows = {s: np.array([i for i, photo in enumerate(shuffled) if photo.split is s], dtype=np.int64) for s in Split}
    truth = np.array([labels.index(photo.label) for photo in shuffled])
    arrays = [array[rows[split]] for split in (Split.TRAIN, Split.VALIDATION) for array in (features, truth)]
    start = time.perf_counter()
    head, _ = head_from_bottlenecks(*arrays, len(labels), HeadConfig(seed=seed))
    seconds = time.perf_counter() - start
    test = truth[rows[Split.TEST]]
    correct = head_scores(head, features[rows[Split.TEST]]).argmax(axis=1) == test
    return float(correct.mean()), float(np.bincount(test).max() / len(test)), seconds


def main() -> None:
    """Run the measurement and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flowers", type=Path, default=SHARED)
    parser.add_argument(
        "--cells", type=Path, help="folder with the solar cells; default: written to a temporary folder"
    )
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"flowers": options.flowers, "solar cells": solar_cells(options.cells or Path(scratch) / "cells")}
        datasets = {name: dataset_from_folder(folder) for name, folder in folders.items()}
        print(
            f"test accuracy, mean (range) of {options.seeds} random splits (80 % training, 10 % validation, 10 % test)"
        )
        print(f"  {'':12}{'':20}{'photos':>8}{'accuracy %':>20}{'most common %':>13}{'goal %':>8}{'head s':>8}")
        for backbone in BACKBONES:
            extractor = extractor_from_network(network_from_backbone(backbone_named(backbone)), Device.CPU)
            for name, dataset in datasets.items():
                features = bottlenecks_from_photos(dataset.photos, extractor, cache_root() / "bottlenecks")
                results = [accuracy(dataset.photos, dataset.labels, features, seed) for seed in range(options.seeds)]
                accuracies, common, seconds = zip(*results, strict=True)
                shown = (
                    f"{100 * statistics.mean(accuracies):.1f} ({100 * min(accuracies):.1f}–{100 * max(accuracies):.1f})"
                )
                goal = f"{GOALS[name]:.0f}" if name in GOALS else "–"
                print(
                    f"  {name:12}{backbone:20}{len(dataset.photos):>8}{shown:>20}"
                    f"{100 * statistics.mean(common):>13.1f}{goal:>8}{statistics.median(seconds):>8.1f}"
                )


if __name__ == "__main__":
    main()
