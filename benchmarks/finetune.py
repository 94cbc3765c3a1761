"""Measures what fine-tuning brings on the demo's solar cells and on flowers, with the two embedded networks.

Each seed determines a random split of the photos, in which near-copies stay together, and the training. The frozen head
and the fine-tuned network answer the same test photos, so that the change has a paired interval; over several seeds a
photo counts as a cluster. "shipped" is what `retrain --unfreeze` would ship: the fine-tuned network only where the
validation photos prove that it is better. Bottlenecks and unfinished trainings are kept in --work, so that a killed run
continues.

    python benchmarks/finetune.py --work /tmp/finetune [--only cells] [--backbone mobilenet_v2] [--seeds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trtpoets.core.fine_tuning import FineTuneConfig, PairedResult
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Split
from trtpoets.judge.paired import paired_result
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.pipeline.demo import solar_cells
from trtpoets.pipeline.extractors import Device, extractor_from_network
from trtpoets.pipeline.finetuning import FrozenRun, Tuned, fine_tune
from trtpoets.pipeline.head_training import head_from_features
from trtpoets.pipeline.near_copies import copies_together
from trtpoets.train.backbones import backbone_named
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.dataset import Dataset, DatasetConfig, dataset_from_folder
from trtpoets.train.near_copies.grouping import groups_of, positions_of_groups
from trtpoets.train.near_copies.thumbnails import ThumbnailCache
from trtpoets.train.networks import network_from_backbone
from trtpoets.train.photo_table import table_of
from trtpoets.train.split import split_at

SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "flowers5"
BACKBONES = ("efficientnet_lite0", "mobilenet_v2")
GOAL = 2.0
"""Points that fine-tuning must bring on the solar cells, with an interval above 0. It must never ship a loss."""


def split_by(dataset: Dataset, config: DatasetConfig, seed: int) -> Dataset:
    """Return the dataset with a random split, in which groups of near-copies stay together."""
    groups = np.asarray(groups_of(dataset.photos, dataset))
    positions = positions_of_groups(groups, [photo.sha256 for photo in dataset.photos], f"{seed}:").tolist()
    photos = [
        replace(photo, split=split_at(position, config))
        for photo, position in zip(dataset.photos, positions, strict=True)
    ]
    return replace(dataset, photos=table_of(photos, dataset.folder))


def tuned(folder: Path, backbone: str, options: argparse.Namespace, seed: int) -> tuple[Tuned, np.ndarray]:
    """Fine-tune for one seed; return the result and the group of each test photo."""
    config = DatasetConfig(options.validation_percent, options.test_percent)
    network = network_from_backbone(backbone_named(backbone))
    extractor = extractor_from_network(network, Device.CPU)
    thumbnails = ThumbnailCache(bottleneck_folder(), extractor.preprocess)
    read = dataset_from_folder(folder, config)
    features = bottlenecks_from_photos(read.photos, extractor, bottleneck_folder(), pixel_rows=thumbnails)
    together = copies_together(read, features, thumbnails.of(read.photos))
    dataset = split_by(together, config, seed)
    head_config = HeadConfig(seed=seed)
    head, _ = head_from_features(dataset, features, head_config)
    run = FrozenRun(network, head, head_config, dataset, features, Device.CPU)
    settings = FineTuneConfig(
        unfreeze=options.unfreeze, epochs=options.epochs, learning_rate=options.learning_rate, seed=seed
    )
    checkpoint = options.work / f"{folder.name}-{backbone}-{seed}"
    result = fine_tune(run, settings, checkpoint, progress=_progress if options.verbose else lambda *_: None)
    groups = np.asarray(groups_of([photo for photo in dataset.photos if photo.split is Split.TEST], together))
    return result, groups


def _progress(task: str, done: int, total: int) -> None:
    if done % 20 == 0 or done == total:
        print(f"    {time.strftime('%H:%M:%S')} {task} {done}/{total}", flush=True)


def shown(result: PairedResult) -> str:
    """Return frozen and fine-tuned accuracy with the change and its interval."""
    change = 100 * (result.after - result.before)
    return (
        f"{100 * result.before:5.1f} -> {100 * result.after:5.1f} %  {change:+.1f} points "
        f"({100 * result.low:+.1f} to {100 * result.high:+.1f}), p = {result.p_value:.2g}"
    )


def report(name: str, backbone: str, results: Sequence[tuple[Tuned, np.ndarray]]) -> None:
    """Print the change over all seeds, fine-tuned and shipped, against the goals."""
    groups = np.concatenate([own for _, own in results])
    before = np.concatenate([result.right[0] for result, _ in results])
    after = np.concatenate([result.right[1] for result, _ in results])
    ships = np.concatenate([result.right[int(result.details.kept)] for result, _ in results])
    fine, shipped = paired_result(before, after, groups), paired_result(before, ships, groups)
    print(f"{name}, {backbone}, {len(results)} seeds, {len(before)} test answers")
    print(f"  fine-tuned  {shown(fine)}")
    print(f"  shipped     {shown(shipped)}")
    if name == "cells":
        met = fine.after - fine.before >= GOAL / 100 and fine.low > 0
        print(f"  goal: at least +{GOAL:g} points, interval above 0: {'met' if met else 'missed'}")
    worst = min(result.right[int(result.details.kept)].mean() - result.right[0].mean() for result, _ in results)
    print(f"  goal: shipped never below frozen: {'met' if worst >= 0 else 'missed'} (worst {100 * worst:+.1f} points)")


def main() -> None:
    """Run the measurement and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the photos, bottlenecks and checkpoints")
    parser.add_argument("--flowers", type=Path, default=SHARED)
    parser.add_argument("--only", choices=("cells", "flowers"), help="default: both")
    parser.add_argument("--quick", action="store_true", help="60 solar cells of each class")
    parser.add_argument("--backbone", action="append", choices=BACKBONES, help="repeatable; default: both")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="the seeds to run; default: 0")
    parser.add_argument("--unfreeze", default=FineTuneConfig.unfreeze)
    parser.add_argument("--epochs", type=float, default=FineTuneConfig.epochs)
    parser.add_argument("--learning-rate", type=float, default=FineTuneConfig.learning_rate)
    parser.add_argument("--validation-percent", type=float, default=15)
    parser.add_argument("--test-percent", type=float, default=25)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TRTPOETS_CACHE", str(options.work / "cache"))
    folders = {}
    if options.only != "flowers":
        folders["cells"] = solar_cells(
            options.work / ("cells-quick" if options.quick else "cells"), quick=options.quick
        )
    if options.only != "cells":
        folders["flowers"] = options.flowers
    for name, folder in folders.items():
        for backbone in options.backbone or BACKBONES:
            results = []
            for seed in options.seeds:
                start, processor = time.perf_counter(), time.process_time()
                results.append(tuned(folder, backbone, options, seed))
                details = results[-1][0].details
                spent = f"{time.perf_counter() - start:.0f} s, {time.process_time() - processor:.0f} processor s"
                depth = f"{details.layers} of {details.total} layers"
                assert details.test is not None
                print(f"  {name} {backbone} seed {seed}: {depth}, best step {details.best_step}, {spent}", flush=True)
                print(f"    validation {shown(details.validation)}; kept: {details.kept}")
                print(f"    test       {shown(details.test)}")
                print(f"    curve {json.dumps([round(100 * value, 1) for value in details.validation_accuracy])}")
                print(f"    nats  {json.dumps([round(value, 3) for value in details.validation_cross_entropy])}")
            report(name, backbone, results)


if __name__ == "__main__":
    main()
