"""Compares int8.cpu.onnx with fp32.onnx in ONNX Runtime on this CPU: speed, agreement, SQNR of the scores and size.

For each backbone a head is trained on a folder of photos, or --run names a finished run, which is copied; its fp32.onnx
is quantised in both forms. Scores are those of sessions of ONNX Runtime; the last line is quantize's comparison on all
photos outside calibration.
"Plain" is `onnxruntime.quantization.quantize_static` with min-max ranges on the same calibration photos: unsigned
activations, signed weights of 7 bits (reduce_range) with a scale per channel. All files run in turn, round by round, so
that other work on the machine slows all of them; a speed is the median of FP32's time divided by the file's, round by
round, and in brackets the ratio of the shortest times.

    python benchmarks/int8_cpu.py [--photos FOLDER] [--backbone NAME ...] [--calibration 256] [--rounds 40]
        [--threads 0] [--work FOLDER]
    python benchmarks/int8_cpu.py --run engines/NAME

With --work, finished files are kept there and not made again, so that the speeds can be measured on an idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from int8 import DIVISION, SHARED, PhotoReader

import trtpoets
from trtpoets.convert.int8.calibration import CalibrationConfig, calibration_photos
from trtpoets.convert.int8.fidelity import sqnr_db
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import open_session, read_onnx
from trtpoets.core.types import INPUT_NAME, Int8Form, OnnxModel, Photo, Precision, Split
from trtpoets.core.workspace import Workspace, card_of, open_details
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.pipeline.card_details import Int8Details
from trtpoets.pipeline.retrain import RetrainConfig

BATCHES = (1, 8)


def plain(model: OnnxModel, photos: Sequence[Photo], out: Path) -> None:
    """Quantise with ONNX Runtime, min-max, in the form that it runs in integers."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        str(model.path),
        str(out),
        PhotoReader(photos, model),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )


def session_of(file: Path, threads: int = 0) -> Any:
    """Return a session of a file. That of the plain file fuses everything, as ONNX Runtime does by default."""
    if not file.name.endswith("-plain.onnx"):
        return open_session(file, threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def speeds(files: Sequence[Path], batch: int, size: tuple[int, int], rounds: int, threads: int) -> list[str]:
    """Return the speed of each file relative to the first, as text."""
    sessions = [session_of(file, threads) for file in files]
    photos = np.random.default_rng(0).integers(0, 256, (batch, *size, 3), dtype=np.uint8)
    seconds = np.zeros((rounds, len(files)))
    for session in sessions:
        session.run(None, {INPUT_NAME: photos})
    for row in seconds:
        for number, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(None, {INPUT_NAME: photos})
            row[number] = time.perf_counter() - start
    ratios = np.median(seconds[:, :1] / seconds, axis=0)
    shortest = seconds.min(axis=0)[0] / seconds.min(axis=0)
    return [f"{ratio:.2f} ({best:.2f})" for ratio, best in zip(ratios, shortest, strict=True)]


def scores_of(file: Path, model: OnnxModel, photos: Sequence[Photo]) -> np.ndarray:
    """Return the scores of a file for photos, float32 (N, C)."""
    session = session_of(file)
    batches = photo_batches([photo.path for photo in photos], model.spec.preprocess, 8)
    return np.concatenate([session.run(None, {INPUT_NAME: batch})[0] for batch in batches])


def compared(space: Workspace, work: Path, options: argparse.Namespace) -> None:
    """Quantise the network of a run in both forms, and print its table."""
    rounds, threads = options.rounds, options.threads
    fp32, dataset = read_onnx(space.onnx(Precision.FP32)), dataset_in(space)
    calibration = CalibrationConfig(photos=options.calibration)
    start = time.process_time()
    quantised = {"precisions": (Precision.INT8,), "calibration": calibration, "engines": space.engines}
    trtpoets.quantize(space.name, **quantised)
    both = time.process_time()
    trtpoets.quantize(space.name, cpu_form=True, **quantised)
    seconds = both - start, time.process_time() - both
    tensorrt, own = space.onnx(Precision.INT8), space.onnx(Precision.INT8, Int8Form.CPU)
    card = open_details(card_of(own), Int8Details)
    assert card is not None
    chosen = calibration_photos(dataset.photos, calibration)
    out = work / f"{space.name}-plain.onnx"
    if not out.exists():
        with contextlib.redirect_stdout(None):
            plain(fp32, chosen, out)
    files = [fp32.path, own, tensorrt, out]
    size = (fp32.spec.preprocess.height, fp32.spec.preprocess.width)
    columns = [speeds(files, batch, size, rounds // batch + 4, threads) for batch in BATCHES]
    test = dataset.in_split(Split.TEST)
    exact = scores_of(fp32.path, fp32, test)
    print(
        f"\n{space.name} ({fp32.spec.backbone}): {len(chosen)} calibration photos, {len(test)} test photos; processor "
        f"time of int8.onnx {seconds[0]:.0f} s, of int8.cpu.onnx {seconds[1]:.0f} s more; "
        f"{card.notes.share:.1%} of the multiply-adds in INT8"
    )
    print(f"  {'':16}{'batch 1':>14}{'batch 8':>14}{'agreement %':>14}{'scores dB':>11}{'size':>7}")
    for number, file in enumerate(files[1:], 1):
        scores = scores_of(file, fp32, test)
        agreement = 100 * float(np.mean(scores.argmax(axis=1) == exact.argmax(axis=1)))
        ratio = file.stat().st_size / fp32.path.stat().st_size
        label = {out: "plain min-max"}.get(file, file.name)
        cells = f"{columns[0][number]:>14}{columns[1][number]:>14}{agreement:>14.1f}"
        print(f"  {label:16}{cells}{sqnr_db(exact, scores):>11.1f}{ratio:>7.2f}", flush=True)
    if card.notes.recommended:
        print(f"  int8.cpu.onnx: {card.notes.recommended.why}")


def main() -> None:
    """Run the comparison and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=SHARED)
    parser.add_argument("--backbone", nargs="+", default=["efficientnet_lite0", "mobilenet_v2"])
    parser.add_argument("--calibration", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    print(f"ONNX Runtime {onnxruntime.__version__}, {platform.processor() or platform.machine()}")
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.run:
            shutil.copytree(options.run, work / options.run.name, dirs_exist_ok=True)  # the run is not changed
            compared(Workspace(work, options.run.name), work, options)
            return
        for backbone in options.backbone:
            name = f"{backbone}-{options.photos.name}"
            trtpoets.retrain(options.photos, name, RetrainConfig(backbone=backbone, dataset=DIVISION), engines=work)
            trtpoets.export(name, engines=work)
            compared(Workspace(work, name), work, options)


if __name__ == "__main__":
    main()
