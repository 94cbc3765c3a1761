"""Records what `quantize` advises, and how often each form of INT8 gives FP32's answer, over all photos of a folder.

For each folder, backbone and seed, a head is trained with the settings of `trtpoets retrain`, and int8.onnx,
int8.cpu.onnx and int8.tflite are made with those of `quantize` and `bundle`. The seed determines the head and the
calibration photos. Columns:

- advice: what `quantize` or `bundle` recommends for the file, and the agreement that this is based on: that of training
  and validation photos outside calibration, with its interval;
- all photos: the agreement that `evaluate` reports, by cross-fitted heads, on all photos outside calibration;
- shipped: the agreement of the shipped networks on the photos with which no form was calibrated; and its difference
  from that of int8.onnx, with the paired interval. Three quarters of these photos have trained the head, which raises
  the agreement, but does not favour one form over another.

A row whose file is recommended although its measured agreement is below 98 % ends with FAULT, and the exit code is 1.

    python benchmarks/int8_forms.py [--photos FOLDER ...] [--backbone NAME ...] [--seeds 0 1 2] [--calibration 64 256]
        [--work FOLDER] [--json FILE] [--no-tflite]
    python benchmarks/int8_forms.py --run engines/NAME

With --work, finished runs are kept there and not repeated. --json appends a line for each file as it is measured. --run
copies a finished run and measures its files.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from int8 import SHARED

import trtpoets
from trtpoets.convert.int8.calibration import CalibrationConfig, Ranges
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import OnnxModel, Photo, Precision, TfliteModel
from trtpoets.core.workspace import Workspace, card_of, open_details
from trtpoets.judge.advice import Recommended
from trtpoets.judge.clustered import difference_interval
from trtpoets.judge.cross_fit import CrossFitConfig
from trtpoets.pipeline.artefacts import dataset_in, writing
from trtpoets.pipeline.card_details import Int8Details, TfliteInt8Details
from trtpoets.pipeline.cross_fit import all_photos_of
from trtpoets.pipeline.extractors import features_of_model
from trtpoets.pipeline.last_layers import last_layer_of_file
from trtpoets.pipeline.retrain import RetrainConfig
from trtpoets.pipeline.tflite_files import tflite_models
from trtpoets.train.head import Head, head_scores
from trtpoets.train.near_copies.grouping import groups_of

TARGET = 98.0
"""The agreement in % below which INT8 must not be recommended."""


@dataclass(frozen=True)
class Row:
    """What was measured of one file. Agreements in %, with their intervals; differences in points; SQNR in dB.

    `decibels` are None for int8.tflite. `seconds` are processor seconds of making the file.
    """

    photos: str
    backbone: str
    seed: int
    calibration: int
    file: str
    share: float
    size: float
    decibels: float | None
    advised: str | None
    why: str
    advice: tuple[float, float, float] | None
    all_photos: tuple[float, float, float] | None
    shipped: float
    difference: tuple[float, float, float]
    counted: int
    seconds: float

    @property
    def is_fault(self) -> bool:
        """Whether INT8 is recommended although its agreement on all photos is below the target."""
        measured = self.all_photos or (self.shipped,)
        return self.advised == Precision.INT8.value and measured[0] < TARGET


def shipped_answers(model: OnnxModel | TfliteModel, photos: Sequence[Photo]) -> np.ndarray:
    """Return the index of the first label for each photo, int64 (N,)."""
    layer = last_layer_of_file(model)
    features = features_of_model(model, photos)  # stored, so that a photo is computed once for all columns
    return head_scores(Head(layer.weights, layer.bias), features).argmax(axis=1)


def advice_of(recommended: Recommended) -> tuple[float, float, float] | None:
    """Return the agreement on which a recommendation is based, and its interval, in %; None where there is none."""
    checks = recommended.gate.runners[0].checks if recommended.gate else ()
    for check in checks:
        if check.what == "agreement" and check.measured is not None:
            assert check.low is not None and check.high is not None
            return 100 * check.measured, 100 * check.low, 100 * check.high
    return None


def trained_run(folder: Path, backbone: str, seed: int, work: Path) -> Workspace:
    """Return a run of which the head is trained and fp32.onnx is written."""
    name = f"{backbone}-{folder.name}-{seed}"
    trtpoets.retrain(folder, name, RetrainConfig(backbone=backbone, head=HeadConfig(seed=seed)), engines=work)
    trtpoets.export(name, engines=work)
    return Workspace(work, name)


def rows_of(space: Workspace, seed: int, calibration: int | None, tflite: bool) -> Iterator[Row]:
    """Quantise the network of a run, and compare the files; yield a row for each."""
    work, name = space.engines, space.name
    fp32 = read_onnx(space.onnx(Precision.FP32))
    options = {
        "precisions": (Precision.INT8,),
        "calibration": CalibrationConfig(photos=calibration, seed=seed),
        "engines": work,
    }
    seconds = []
    models: list[OnnxModel | TfliteModel] = []
    start = time.process_time()
    models += trtpoets.quantize(name, **options)
    seconds.append(time.process_time() - start)
    models += trtpoets.quantize(name, cpu_form=True, **options)[1:]
    seconds.append(time.process_time() - start - seconds[0])
    if tflite:
        start = time.process_time()
        with writing(space):
            models.append(tflite_models(space, (Precision.INT8,))[1])
        seconds.append(time.process_time() - start)
    overall = all_photos_of(space, fp32, models, CrossFitConfig())
    dataset = dataset_in(space)
    ranges = open_details(space.ranges, Ranges)
    assert ranges is not None
    used = set(ranges.photos)
    own = open_details(card_of(space.tflite(Precision.INT8)), TfliteInt8Details) if tflite else None
    used |= set(own.calibrated if own else ())
    photos = [photo for photo in dataset.photos if photo.sha256 not in used]
    groups = groups_of(photos, dataset)
    exact = shipped_answers(fp32, photos)
    agrees = [shipped_answers(model, photos) == exact for model in models]
    for model, agreed, duration in zip(models, agrees, seconds, strict=True):
        low, high = difference_interval(agrees[0], agreed, groups)
        change = float(agreed.mean() - agrees[0].mean())
        details = open_details(card_of(model.path), Int8Details) if isinstance(model, OnnxModel) else None
        recommended = details.notes.recommended if details else own.recommended if own else None
        found = next((item for item in overall.files if item.file == model.path.name), None)
        whole = (found.agreement, found.agreement_low, found.agreement_high) if found else None
        yield Row(
            photos=dataset.folder.name,
            backbone=fp32.spec.backbone,
            seed=seed,
            calibration=len(ranges.photos),
            file=model.path.name,
            share=100 * details.notes.share if details else 100.0,
            size=model.path.stat().st_size / _fp32_of(model, space).stat().st_size,
            decibels=details.notes.final.features_db if details else None,
            advised=recommended.precision.value if recommended else None,
            why=recommended.why if recommended else "",
            advice=advice_of(recommended) if recommended else None,
            all_photos=(100 * whole[0], 100 * whole[1], 100 * whole[2]) if whole else None,
            shipped=100 * float(agreed.mean()),
            difference=(100 * change, 100 * low, 100 * high),
            counted=len(photos),
            seconds=duration,
        )


def _fp32_of(model: OnnxModel | TfliteModel, space: Workspace) -> Path:
    return space.tflite(Precision.FP32) if isinstance(model, TfliteModel) else space.onnx(Precision.FP32)


def interval(values: tuple[float, float, float] | None, sign: str = "") -> str:
    """Return a value with its interval as text; "-" where there is none."""
    return "-" if values is None else f"{values[0]:{sign}.1f} ({values[1]:{sign}.1f} to {values[2]:{sign}.1f})"


def show(row: Row) -> None:
    """Print one row."""
    decibels = "-" if row.decibels is None else f"{row.decibels:.1f}"
    print(
        f"{row.photos:10} {row.backbone:20}{row.seed:2}{row.calibration:5} {row.file:15}{row.share:6.1f}{decibels:>6}"
        f"{row.advised or '-':>6}{interval(row.advice):>22}{interval(row.all_photos):>22}{row.shipped:7.1f}"
        f"{interval(row.difference, '+'):>22}{row.size:6.2f}{row.seconds:6.0f}{'  FAULT' if row.is_fault else ''}",
        flush=True,
    )


def runs_of(options: argparse.Namespace, work: Path) -> Iterator[tuple[Workspace, int]]:
    """Yield the runs to measure, and the seed of each."""
    if options.run:
        shutil.copytree(options.run, work / options.run.name, dirs_exist_ok=True)  # the run is not changed
        yield Workspace(work, options.run.name), 0
        return
    for seed in options.seeds:
        for folder in options.photos:
            for backbone in options.backbone:
                yield trained_run(folder, backbone, seed, work), seed


def main() -> int:
    """Measure all rows, print each, and return 1 if INT8 is recommended below its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", default=[SHARED])
    parser.add_argument("--backbone", nargs="+", default=["efficientnet_lite0", "mobilenet_v2"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--calibration", type=int, nargs="+", default=[None], help="default: that of quantize")
    parser.add_argument("--no-tflite", action="store_true")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    print(
        f"{'photos':10} {'backbone':20}{'':2}{'cal.':>5} {'file':15}{'INT8':>6}{'dB':>6}{'advice':>6}"
        f"{'% by the advice':>22}{'% of all photos':>22}{'shipped':>7}{'minus int8.onnx':>22}{'size':>6}{'CPU s':>6}"
    )
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for space, seed in runs_of(options, work):
            for calibration in options.calibration:
                for row in rows_of(space, seed, calibration, not options.no_tflite):
                    rows.append(row)
                    show(row)
                    if options.json:
                        with options.json.open("a") as file:
                            file.write(json.dumps(asdict(row)) + "\n")
    return 1 if any(row.is_fault for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
