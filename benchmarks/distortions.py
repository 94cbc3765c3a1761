"""Measures what distorted training photos bring to a head on a frozen backbone, with few photos of each class.

For each seed a number of photos of each class are drawn for training, and a quarter as many to select the step. All
others are classified by heads with and without distorted variants. Over the seeds a photo counts as a cluster.

    python benchmarks/distortions.py --work /tmp/distortions [--only cells] [--photos 20] [--seeds 5]
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from finetune import BACKBONES, SHARED, shown

from trtpoets.core.fine_tuning import Distortions
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Split
from trtpoets.judge.paired import paired_result
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.pipeline.demo import solar_cells
from trtpoets.pipeline.distorted_head import CANDIDATES, VARIANTS, variants_of_features
from trtpoets.pipeline.extractors import Device, OnnxExtractor, TensorFlowExtractor, extractor_from_network
from trtpoets.pipeline.head_training import head_from_features, indices_of_labels, rows_in
from trtpoets.train.backbones import backbone_named
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.dataset import Dataset, dataset_from_folder
from trtpoets.train.head import head_scores
from trtpoets.train.networks import network_from_backbone
from trtpoets.train.photo_table import table_of

ALL = Distortions(flip_left_right=True, random_crop=10, random_scale=10, random_brightness=20, random_rotation=10)
GOAL = 1.0
"""Points that distortions should bring with 20 photos of each class, or be said not to."""


def few_photos(dataset: Dataset, count: int, seed: int) -> Dataset:
    """Return the dataset with `count` training photos of each class, a quarter as many to choose, the rest to test."""
    labels, order = indices_of_labels(dataset), np.random.default_rng(seed).permutation(len(dataset.photos))
    splits = [Split.TEST] * len(order)
    for label in range(len(dataset.labels)):
        own = order[labels[order] == label].tolist()
        for row in own[: count + count // 4]:
            splits[row] = Split.VALIDATION
        for row in own[:count]:
            splits[row] = Split.TRAIN
    photos = [replace(photo, split=split) for photo, split in zip(dataset.photos, splits, strict=True)]
    return replace(dataset, photos=table_of(photos, dataset.folder))


def answers(
    dataset: Dataset,
    features: np.ndarray,
    extractor: OnnxExtractor | TensorFlowExtractor,
    distortions: Distortions,
    seed: int,
) -> np.ndarray:
    """Return the right answers to the test photos of a head trained with these distortions, bool (n,)."""
    rows, test = rows_in(dataset, Split.TRAIN), rows_in(dataset, Split.TEST)
    variants = None
    if distortions.any:
        variants = variants_of_features(dataset, rows, extractor, distortions, VARIANTS, seed)
    head, _ = head_from_features(dataset, features, HeadConfig(seed=seed, early_stop=500), variants=variants)
    return np.asarray(head_scores(head, features[test]).argmax(axis=1) == indices_of_labels(dataset)[test])


def main() -> None:
    """Run the measurement and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the photos and bottlenecks")
    parser.add_argument("--flowers", type=Path, default=SHARED)
    parser.add_argument("--only", choices=("cells", "flowers"), help="default: both")
    parser.add_argument("--backbone", action="append", choices=BACKBONES, help="repeatable; default: both")
    parser.add_argument("--photos", type=int, default=20, help="training photos of each class")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    os.environ.setdefault("TRTPOETS_CACHE", str(options.work / "cache"))
    folders = {}
    if options.only != "flowers":
        folders["cells"] = solar_cells(options.work / "cells")
    if options.only != "cells":
        folders["flowers"] = options.flowers
    print(f"{options.photos} training photos of each class, {options.seeds} seeds, {VARIANTS} variants of each photo")
    for name, folder in folders.items():
        for backbone in options.backbone or BACKBONES:
            extractor = extractor_from_network(network_from_backbone(backbone_named(backbone)), Device.CPU)
            read = dataset_from_folder(folder)
            features = bottlenecks_from_photos(read.photos, extractor, bottleneck_folder())
            drawn = [few_photos(read, options.photos, seed) for seed in range(options.seeds)]
            tests = np.concatenate([rows_in(dataset, Split.TEST) for dataset in drawn])
            right = {
                distortions: np.concatenate(
                    [answers(own, features, extractor, distortions, seed) for seed, own in enumerate(drawn)]
                )
                for distortions in (Distortions(), *CANDIDATES, ALL)
            }
            best = 0.0
            for distortions in (*CANDIDATES, ALL):
                result = paired_result(right[Distortions()], right[distortions], tests)
                best = max(best, 100 * (result.after - result.before) if result.improves else 0.0)
                print(f"  {name:8}{backbone:20}{distortions!s:60}{shown(result)}", flush=True)
            verdict = "met" if best >= GOAL else "missed: they do not help by so much"
            print(f"  goal: at least +{GOAL:g} point: {verdict} (best proven {best:+.1f})", flush=True)


if __name__ == "__main__":
    main()
