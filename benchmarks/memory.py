"""Measures the peak memory of computing the bottlenecks of 100,000 photos, including TensorFlow.

A few photos are repeated as files that differ in their last bytes, so that every file is read, hashed, decoded and
stored. The real network runs on every 50th batch; features of the other batches are taken from their pixels, because
the values do not affect the memory. Then all features are read back from the store.

    python benchmarks/memory.py [--photos 100000]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from trtpoets.core.types import Photo, Split
from trtpoets.pipeline.extractors import Device, extractor_from_network
from trtpoets.train.backbones import DEFAULT_BACKBONE, backbone_named
from trtpoets.train.bottlenecks import Extractor, bottlenecks_from_photos
from trtpoets.train.networks import network_from_backbone


class SampledExtractor:
    """An extractor that runs the real network on every 50th batch."""

    def __init__(self, real: Extractor) -> None:
        self._real = real
        self._calls = 0
        self.key, self.width, self.parallel = real.key, real.width, real.parallel
        self.preprocess = real.preprocess

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """Return features, float32 (N, width)."""
        self._calls += 1
        if self._calls % 50 == 1:
            return self._real(photos)
        flat = photos.reshape(len(photos), -1)[:, : self.width]
        return np.ascontiguousarray(flat, dtype=np.float32)


def synthetic(folder: Path, count: int) -> list[Photo]:
    """Write `count` tiny photos with different bytes and return them."""
    random = np.random.default_rng(0)
    contents = []
    for _ in range(10):
        stream = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(stream, "JPEG")
        contents.append(stream.getvalue())
    photos = []
    for number in range(count):
        content = contents[number % 10] + number.to_bytes(4, "little")
        path = folder / f"{number // 1000:04}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        photos.append(Photo(path, "a", Split.TRAIN, hashlib.sha256(content).hexdigest()))
    return photos


def peak_mib() -> float:
    """Return the peak resident memory of this process since `reset_peak`, in MiB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def reset_peak() -> None:
    """Reset the peak, to exclude the memory of exporting the base."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Run the measurement and print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=100_000)
    options = parser.parse_args()
    real = extractor_from_network(network_from_backbone(backbone_named(DEFAULT_BACKBONE)), Device.CPU)
    with tempfile.TemporaryDirectory() as name:
        photos = synthetic(Path(name), options.photos)
        exporting = peak_mib()
        reset_peak()
        before = peak_mib()
        start = time.perf_counter()
        rows = bottlenecks_from_photos(photos, SampledExtractor(real), Path(name) / "store")
        computed = time.perf_counter() - start
        first, total = peak_mib(), float(rows.sum(dtype=np.float64))
        size = rows.nbytes / 2**20
        del rows
        start = time.perf_counter()
        again = bottlenecks_from_photos(photos, SampledExtractor(real), Path(name) / "store")
        read = time.perf_counter() - start
        assert float(again.sum(dtype=np.float64)) == total
    print(f"{len(photos)} photos, {size:.0f} MiB of features; before: {before:.0f} MiB for TensorFlow and the network")
    print(f"  (peak while loading and exporting the network: {exporting:.0f} MiB)")
    print(f"  computed in {computed:.0f} s, peak {first:.0f} MiB; read back in {read:.1f} s, peak {peak_mib():.0f} MiB")
    print(f"share of 1.5 GB: {peak_mib() * 2**20 / 1.5e9:.2f} (goal: at most 1)")


if __name__ == "__main__":
    main()
