"""Measures memory and processor time of a training by the number of photos, from 1,000 to 1,000,000 (synthetic).

Photos exist only as entries of a dataset, with features of 1,280 values: groups of classes that overlap a little. All
that follows the computation of bottlenecks runs as in `retrain` and `evaluate`: the dataset is written and read, the
features are stored and read from the cache into a mapped array, a head is trained, ten heads are cross-fitted with
their learning curve, and a page is written. Each number of photos is measured in a process of its own. The result is
benchmarks/results/scale.json and scale.png.

    python benchmarks/scale.py [--photos 1000 10000 100000 1000000] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from memory import peak_mib, reset_peak

from trtpoets.core.long_lists import LongList
from trtpoets.core.serialization import from_json
from trtpoets.core.training import HeadConfig, TrainingDetails
from trtpoets.core.types import ModelSpec, Preprocess, Split
from trtpoets.core.workspace import Workspace, open_card
from trtpoets.judge.all_photos import PhotosToCount, all_photos_from_scores
from trtpoets.judge.cross_fit import CrossFitConfig, folds_of_photos
from trtpoets.pipeline.head_training import head_from_features, indices_of_labels, rows_in
from trtpoets.pipeline.learning_curve import learning_curve_of
from trtpoets.pipeline.near_copies import accuracy_on
from trtpoets.pipeline.publish import seal_dataset
from trtpoets.reporting.document import report_from_documents
from trtpoets.reporting.html import page_from_report
from trtpoets.reporting.model import DatasetDocument, Documents
from trtpoets.train.bottlenecks import bottleneck_cache, bottlenecks_from_photos
from trtpoets.train.dataset import Dataset, DatasetConfig, dataset_from_json
from trtpoets.train.joint_heads import heads_from_parts, scores_by_fold
from trtpoets.train.near_copies.grouping import groups_of
from trtpoets.train.photo_table import SPLITS, TableBuilder
from trtpoets.train.split import positions_of, split_at

WIDTH, CLASSES, BLOCK = 1280, 10, 4096
LIMIT_MB, PAGE_MB = 1500, 3
RESULTS = Path(__file__).parent / "results"


class Stored:
    """An extractor whose features are all in the cache."""

    key, width, parallel = "synthetic", WIDTH, 1
    preprocess = Preprocess(224, 224, (1 / 127,) * 3, (-1.0,) * 3)

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """Fail: nothing may be computed."""
        raise AssertionError("a photo has no stored features")


class Meter:
    """Measures stages: processor seconds and the peak of the resident memory."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}
        self._start = time.process_time()
        reset_peak()

    def end(self, stage: str) -> None:
        """End a stage and start the next."""
        self.stages[stage] = {
            "seconds": round(time.process_time() - self._start, 3),
            "peak_mb": round(peak_mib() * 2**20 / 1e6),
        }
        values = self.stages[stage]
        print(f"  {stage:<15} {values['seconds']:9.2f} s, peak {values['peak_mb']:6,} MB", file=sys.stderr)
        self._start = time.process_time()
        reset_peak()


def synthetic_dataset(count: int) -> Dataset:
    """Return a dataset of photos that exist by name only."""
    labels = tuple(f"class {number}" for number in range(CLASSES))

    def file(number: int) -> tuple[str, str]:
        name = f"IMG_{number:07}.jpg"
        return name, hashlib.sha256(name.encode()).hexdigest()

    config = DatasetConfig()
    builder = TableBuilder(Path("/photos"))
    for number, position in enumerate(positions_of(LongList(count, file))):
        name, sha256 = file(number)
        label = labels[number % CLASSES]
        builder.add(f"{label}/{name}", label, split_at(position, config), sha256)
    return Dataset(Path("/photos"), labels, builder.table(), (), (), (), config)


def store_features(dataset: Dataset, folder: Path) -> None:
    """Write the features of all photos to the cache."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    labels = indices_of_labels(dataset)
    cache = bottleneck_cache(Stored(), folder)
    for start in range(0, len(labels), BLOCK):
        own = labels[start : start + BLOCK]
        rows = np.maximum(0.25 * centres[own] + random.standard_normal((len(own), WIDTH), dtype=np.float32), 0)
        cache.append(dataset.photos.sha256s[start : start + BLOCK], rows)


def measure(count: int, work: Path) -> dict[str, object]:
    """Run all stages with `count` photos, and return what they took."""
    meter = Meter()
    meter.end("imports")
    dataset = synthetic_dataset(count)
    meter.end("synthetic")
    space = Workspace(work, "synthetic")
    seal_dataset(space, dataset, "")
    meter.end("write dataset")
    identity = dataset.hash
    del dataset
    details = open_card(space.dataset)
    assert details is not None
    dataset = dataset_from_json(details)
    del details
    assert dataset.hash == identity
    meter.end("read dataset")
    store_features(dataset, work)
    meter.end("store")
    features = bottlenecks_from_photos(dataset.photos, Stored(), work)
    meter.end("read features")
    config = HeadConfig()
    head, training = head_from_features(dataset, features, config)
    accuracy = accuracy_on(dataset, features, head, rows_in(dataset, Split.TEST))
    meter.end("head")
    truth, groups = indices_of_labels(dataset), np.array(groups_of(dataset.photos, dataset))
    cross = CrossFitConfig()
    folds = folds_of_photos(truth, groups, dataset.photos.sha256s, cross)
    assert folds is not None
    meter.end("folds")
    parts = [folds.rows(number)[:2] for number in range(folds.count)]
    heads = [head for head in heads_from_parts(features, truth, parts, CLASSES, config) if head is not None]
    scores = scores_by_fold(heads, features, folds.fold_of, CLASSES)
    uses = [SPLITS[number].value for number in dataset.photos.split_numbers.tolist()]
    counted = PhotosToCount(truth, groups, uses, dataset.labels, folds)
    all_photos = all_photos_from_scores(scores, [], counted, cross, identity)
    meter.end("cross-fitting")
    right = scores.argmax(axis=1) == truth
    curve = learning_curve_of(features, truth, groups, folds, right, dataset.labels, config)
    meter.end("learning curve")
    details = TrainingDetails(
        **vars(training),
        test_accuracy=accuracy.test_accuracy,
        test_photos=accuracy.test_photos,
        test_groups=accuracy.test_groups,
        test_accuracy_low=accuracy.low,
        test_accuracy_high=accuracy.high,
    )
    document = from_json(DatasetDocument, open_card(space.dataset), "dataset.json")
    spec = ModelSpec("synthetic", "efficientnet_lite0", Stored.preprocess, dataset.labels, "0" * 64)
    report = report_from_documents(Documents(spec=spec, dataset=document, training=details))
    page = page_from_report(report, {})
    meter.end("report")
    return {
        "photos": count,
        "stages": meter.stages,
        "page_mb": round(len(page.encode()) / 1e6, 3),
        "accuracy": accuracy.test_accuracy,
        "cross_fitted_accuracy": replace(all_photos, learning_curve=curve).accuracy,
    }


def draw(results: list[dict[str, object]], path: Path) -> None:
    """Draw processor seconds and peak memory by the number of photos, both on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    photos = [result["photos"] for result in results]
    for stage in results[0]["stages"]:  # type: ignore[attr-defined]
        if stage in ("imports", "synthetic"):
            continue
        values = [result["stages"][stage] for result in results]  # type: ignore[index]
        left.loglog(photos, [max(value["seconds"], 1e-3) for value in values], marker="o", label=stage)
        right.semilogx(photos, [value["peak_mb"] for value in values], marker="o", label=stage)
    left.loglog(photos, [1e-4 * count for count in photos], "k:", label="linear")
    right.axhline(LIMIT_MB, color="k", linestyle=":")
    left.set(xlabel="photos", ylabel="processor seconds")
    right.set(xlabel="photos", ylabel="peak resident memory, MB", ylim=(0, None))
    left.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure each number of photos in a process of its own, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--work", type=Path, help="folder for about 12 KB for each photo")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measure(options.photos[0], options.work)))
        return
    options.out.mkdir(exist_ok=True)
    results: list[dict[str, object]] = []
    for count in options.photos:
        print(f"{count:,} photos", file=sys.stderr)
        work = Path(tempfile.mkdtemp(dir=options.work))
        try:
            command = [sys.executable, __file__, "--alone", "--photos", str(count), "--work", str(work)]
            results.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
        finally:
            shutil.rmtree(work)
        peak = max(stage["peak_mb"] for stage in results[-1]["stages"].values())  # type: ignore[attr-defined]
        print(
            f"  peak {peak:,} MB: share of {LIMIT_MB:,} MB {peak / LIMIT_MB:.2f}; page {results[-1]['page_mb']} MB",
            file=sys.stderr,
        )
        (options.out / "scale.json").write_text(json.dumps(results, indent=1) + "\n")
        draw(results, options.out / "scale.png")


if __name__ == "__main__":
    main()
