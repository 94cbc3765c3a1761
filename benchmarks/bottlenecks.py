"""Measures the bottleneck throughput of MobileNetV2 on the CPU, including JPEG decoding, against two references.

1. keras.Model.predict, fed by tf.keras.utils.image_dataset_from_directory, on the same photos and the same network.
2. The upper bound, if decoding and network shared the cores without loss: 1 / (1/decode + 1/network), where both rates
   are measured separately.

Every round measures all of them in turn, so that other load on the machine affects all. The medians are compared.

    python benchmarks/bottlenecks.py [--photos FOLDER] [--count 600] [--rounds 5]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trtpoets.core.images import photo_batches, photo_to_array, usable_cores
from trtpoets.core.optional import tensorflow
from trtpoets.core.threads import map_ahead
from trtpoets.pipeline.extractors import Device, extractor_from_network
from trtpoets.train.backbones import backbone_named
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.dataset import Dataset, DatasetConfig, dataset_from_folder
from trtpoets.train.networks import network_from_backbone

SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "flowers5"


def sample(folder: Path, count: int, out: Path) -> Dataset:
    """Copy about `count` evenly spaced photos of a folder to `out`, so that they are in the disk cache."""
    photos = dataset_from_folder(folder, DatasetConfig(20, 20)).photos
    for photo in photos[:: max(1, len(photos) // count)]:
        (out / photo.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(photo.path, out / photo.label / f"{photo.sha256[:16]}{photo.path.suffix}")
    return dataset_from_folder(out, DatasetConfig(20, 20))


def rate(count: int, work: Callable[[], object]) -> float:
    """Run `work` and return photos per second."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def main() -> None:
    """Run the measurement and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=SHARED)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=4)
    options = parser.parse_args()
    tf = tensorflow()
    network = network_from_backbone(backbone_named(options.backbone))
    extractor = extractor_from_network(network, Device.CPU)
    preprocess, cores, batch = extractor.preprocess, usable_cores(), options.batch_size
    with tempfile.TemporaryDirectory() as name:
        dataset = sample(options.photos, options.count, Path(name) / "photos")
        photos, paths = dataset.photos, [photo.path for photo in dataset.photos]
        count = len(photos)
        decoded = np.concatenate(list(photo_batches(paths, preprocess, batch)))
        stores = iter(range(10**6))

        def keras() -> None:
            fed = tf.keras.utils.image_dataset_from_directory(
                str(dataset.folder),
                labels=None,
                image_size=(preprocess.height, preprocess.width),
                shuffle=False,
                verbose=False,
            )
            network.model.predict(fed.map(lambda pixels: tf.cast(pixels, tf.uint8)), verbose=0)

        def ours() -> None:
            store = Path(name) / f"store{next(stores)}"
            bottlenecks_from_photos(photos, extractor, store, batch)

        def decode_alone() -> None:
            for _ in map_ahead(lambda path: photo_to_array(path, preprocess), paths, cores, 4 * cores):
                pass

        def network_alone() -> None:
            starts = range(0, count, batch)
            for _ in map_ahead(lambda at: extractor(decoded[at : at + batch]), starts, extractor.parallel, 2 * cores):
                pass

        works = {"keras": keras, "ours": ours, "decode": decode_alone, "network": network_alone}
        rates: dict[str, list[float]] = {name: [] for name in works}
        for number in range(options.rounds + 1):
            for which, work in works.items():
                value = rate(count, work)
                if number:  # the first round warms up
                    rates[which].append(value)
    middle = {which: statistics.median(values) for which, values in rates.items()}
    bounds = [1 / (1 / d + 1 / n) for d, n in zip(rates["decode"], rates["network"], strict=True)]
    print(f"{options.backbone}, {count} photos, {cores} cores, batches of {batch}, median (range) of {options.rounds}")
    for which, values in rates.items():
        print(f"  {which:8} {middle[which]:7.1f} photos/s ({min(values):.1f} to {max(values):.1f})")
    print(f"  {'bound':8} {statistics.median(bounds):7.1f} photos/s")
    print(f"times keras.Model.predict: {middle['ours'] / middle['keras']:.2f} (goal: at least 2)")
    share = statistics.median(o / b for o, b in zip(rates["ours"], bounds, strict=True))
    print(f"share of the bound: {100 * share:.0f} % (goal: at least 85 %)")


if __name__ == "__main__":
    main()
