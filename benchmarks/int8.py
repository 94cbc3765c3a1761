"""Compares INT8 of `trtpoets quantize` with plain ONNX Runtime min-max, and with nvidia-modelopt if it is installed.

For each backbone, photo folder and seed, a head is trained, the network is exported, and the same fp32.onnx is
quantised by each method with the same calibration photos. On test photos the script measures the SQNR of the features
(the input of the last layer), agreement with FP32, the change of accuracy, and the share of multiply-adds in INT8.
"Plain" means: QDQ, symmetric, a scale per output channel of weights, all convolutions, no INT32 bias, no Q/DQ pair
between convolution and activation.

The seed determines the head and the calibration photos. The test photos are the same for every seed, so the interval of
the change of accuracy is a paired bootstrap over photos, with each photo's change averaged over the seeds.

    python benchmarks/int8.py [--photos FOLDER ...] [--backbone NAME[=WEIGHTS] ...] [--seeds 3] [--work FOLDER]

With --work, finished runs are kept there and not repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import trtpoets
from trtpoets.convert.graph.graph_view import MATMULS, GraphView, multiply_adds
from trtpoets.convert.int8.calibration import CalibrationConfig, calibration_photos
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import open_session
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import INPUT_NAME, OnnxModel, Photo, Precision, Split
from trtpoets.core.workspace import Workspace
from trtpoets.judge.statistics import paired_difference
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.pipeline.retrain import RetrainConfig
from trtpoets.train.dataset import DatasetConfig

SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "flowers5"

DIVISION = DatasetConfig(validation_percent=10, test_percent=25)
"""More test photos than by default, to measure an agreement of 98 % precisely."""


class Goal(NamedTuple):
    """The goal of a backbone: shares in %, loss of accuracy in points, SQNR of the features in dB."""

    share: float
    agreement: float
    lost: float
    decibels: float | None


GOALS = {
    "efficientnet_lite0": Goal(98, 99, 0.2, 26),
    "mobilenet_v2": Goal(95, 98.5, 0.2, 23),  # 98 on solar cells, which are harder
    "mobilenet_0.25_224": Goal(95, 98, 0.3, None),
}


@dataclass(frozen=True)
class Result:
    """The result of one method: SQNR in dB, shares 0..1, seconds; `changes` is -1, 0 or 1 for each test photo."""

    decibels: float
    agreement: float
    share: float
    changes: np.ndarray
    accuracy: float
    seconds: float


class Answers(NamedTuple):
    """The outputs of a network: features, float32 (N, width), before the last layer, and scores (N, classes)."""

    features: np.ndarray
    scores: np.ndarray


class PhotoReader:
    """ONNX Runtime's calibration data reader: one photo at a time."""

    def __init__(self, photos: Sequence[Photo], model: OnnxModel) -> None:
        self._batches: Iterator[np.ndarray] = photo_batches([p.path for p in photos], model.spec.preprocess, 1)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next input, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}


def plain(model: OnnxModel, photos: Sequence[Photo], out: Path) -> None:
    """Quantise with ONNX Runtime, min-max."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        str(model.path),
        str(out),
        PhotoReader(photos, model),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,
            "DedicatedQDQPair": False,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
            "QDQOpTypePerChannelSupportToAxis": {"Conv": 0},
            "ForceQuantizeNoInputCheck": True,
            "QDQDisableWeightAdjustForInt32Bias": True,
        },
    )


def modelopt(model: OnnxModel, photos: Sequence[Photo], out: Path) -> None:
    """Quantise with nvidia-modelopt (0.40 and later) and its defaults; other layers stay FP32, as in int8.onnx."""
    from modelopt.onnx.quantization import quantize

    data = np.concatenate(list(photo_batches([p.path for p in photos], model.spec.preprocess, 16)))
    with tempfile.TemporaryDirectory() as folder:
        # It writes to the file that it reads (seen with 0.47).
        copy = shutil.copy(model.path, folder)
        quantize(
            str(copy),
            calibration_data={INPUT_NAME: data},
            calibration_eps=["cpu"],
            output_path=str(out),
            high_precision_dtype="fp32",
            log_level="ERROR",
        )


def features_of(fp32: Any) -> str:
    """Return the name of the input of the last MatMul."""
    return str([node for node in GraphView(fp32).weighted() if node.op_type in MATMULS][-1].input[0])


def share_in_int8(fp32: Any, quantised: Any) -> float:
    """Return the share 0..1 of the multiply-adds whose data and weights both pass a Q/DQ pair."""
    before, after = GraphView(fp32), GraphView(quantised)
    work = {node.name: multiply_adds(before, node) for node in before.weighted()}
    paired = {name for name, node in after.producer.items() if node.op_type == "DequantizeLinear"}
    names = {node.name for node in after.nodes if len(node.input) > 1 and paired.issuperset(node.input[:2])}
    return sum(count for name, count in work.items() if name in names) / sum(work.values())


def answers_to(proto: Any, features: str, photos: Sequence[Photo], model: OnnxModel) -> Answers:
    """Run a graph on photos. `features` is the name of the input of its last layer."""
    from onnx import TensorProto, helper

    proto.graph.output.append(helper.make_tensor_value_info(features, TensorProto.FLOAT, None))
    session = open_session(proto.SerializeToString())
    batches = photo_batches([photo.path for photo in photos], model.spec.preprocess, 8)
    scores, found = zip(*(session.run(None, {INPUT_NAME: batch}) for batch in batches), strict=True)
    return Answers(np.concatenate(found), np.concatenate(scores))


def noise_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Return the SQNR in dB."""
    exact = reference.astype(np.float64)
    return float(10 * np.log10(np.mean(exact**2) / np.mean((other - exact) ** 2)))


def measure(
    fp32: OnnxModel, reference: Answers, truth: np.ndarray, test: Sequence[Photo], file: Path, seconds: float
) -> Result:
    """Run a quantised file on the test photos and compare it with FP32."""
    import onnx

    original, quantised = onnx.load(str(fp32.path)), onnx.load(str(file))
    share = share_in_int8(original, quantised)
    answers = answers_to(quantised, features_of(original), test, fp32)
    was, now = reference.scores.argmax(axis=1), answers.scores.argmax(axis=1)
    return Result(
        decibels=noise_db(reference.features, answers.features),
        agreement=float(np.mean(was == now)),
        share=share,
        changes=(now == truth).astype(int) - (was == truth).astype(int),
        accuracy=float(np.mean(now == truth)),
        seconds=seconds,
    )


def quantised_each_way(
    photos: Path, backbone: str, weights: Path | None, seed: int, work: Path
) -> tuple[float, dict[str, Result]]:
    """Return the accuracy of FP32 and the result of each quantisation method for one trained network."""
    import onnx

    name = f"{backbone}-{photos.name}-{seed}"
    config = RetrainConfig(backbone=backbone, weights=weights, dataset=DIVISION, head=HeadConfig(seed=seed))
    trtpoets.retrain(photos, name, config, engines=work)
    fp32 = trtpoets.export(name, engines=work)
    dataset = dataset_in(Workspace(work, name))
    test, calibration = dataset.in_split(Split.TEST), CalibrationConfig(photos=256, seed=seed)
    truth = np.array([dataset.labels.index(photo.label) for photo in test])
    proto = onnx.load(str(fp32.path))
    reference = answers_to(proto, features_of(proto), test, fp32)
    start = time.perf_counter()
    (int8,) = trtpoets.quantize(name, precisions=(Precision.INT8,), calibration=calibration, engines=work)
    results = {"trtpoets": measure(fp32, reference, truth, test, int8.path, time.perf_counter() - start)}
    methods = {"plain min-max": plain}
    if importlib.util.find_spec("modelopt"):
        methods["modelopt"] = modelopt
    chosen = calibration_photos(dataset.photos, calibration)
    for method, quantise in methods.items():
        out = work / f"{name}-{method.split()[0]}.onnx"
        start = time.perf_counter()
        with contextlib.redirect_stdout(None):
            quantise(fp32, chosen, out)
        results[method] = measure(fp32, reference, truth, test, out, time.perf_counter() - start)
    return float(np.mean(reference.scores.argmax(axis=1) == truth)), results


def show(backbone: str, photos: Path, accuracies: Sequence[float], results: dict[str, list[Result]]) -> None:
    """Print the table of one backbone and folder: means and ranges over seeds, and the goals."""
    count, seeds = len(results["trtpoets"][0].changes), len(accuracies)
    print(
        f"\n{backbone} on {photos.name}: {count} test photos, seeds 0 to {seeds - 1}, FP32 {spread(accuracies, 100)} %"
    )
    print(f"  {'':14}{'features dB':>20}{'agreement %':>20}{'accuracy, points':>26}{'in INT8 %':>20}{'seconds':>9}")
    for method, by_seed in results.items():
        change = np.mean([result.changes for result in by_seed], axis=0)
        low, high = paired_difference(np.zeros(count), change)
        accuracy = f"{100 * change.mean():+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
        columns = [spread([r.decibels for r in by_seed]), spread([r.agreement for r in by_seed], 100)]
        share = spread([r.share for r in by_seed], 100)
        seconds = statistics.median(r.seconds for r in by_seed)
        print(f"  {method:14}{columns[0]:>20}{columns[1]:>20}{accuracy:>26}{share:>20}{seconds:>9.0f}")
    trtpoets_results, plain_results = results["trtpoets"], results["plain min-max"]
    gain = statistics.mean(a.decibels - b.decibels for a, b in zip(trtpoets_results, plain_results, strict=True))
    both = (trtpoets_results, plain_results)
    changed = [sum(1 - result.agreement for result in by_seed) for by_seed in both]
    print(
        f"  SQNR of the features, trtpoets minus plain: {gain:+.1f} dB ({10 ** (gain / 10):.1f} times less noise power)"
    )
    ratio = f"{changed[1] / changed[0]:.1f} times those of trtpoets" if changed[0] else "trtpoets changes none"
    print(f"  predictions changed by plain: {ratio}")
    goal = GOALS.get(backbone)
    if goal is not None:
        decibels = "" if goal.decibels is None else f"{goal.decibels:.0f} dB, "
        print(f"  goals: {decibels}{goal.agreement} % agree, {goal.lost} points lost at most, {goal.share} % in INT8")


def spread(values: Sequence[float], factor: float = 1) -> str:
    """Return the mean, and the range if the values differ, as text."""
    mean, low, high = (f"{factor * value:.1f}" for value in (statistics.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low}–{high})"


def main() -> None:
    """Run the comparison and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", default=[SHARED])
    parser.add_argument("--backbone", nargs="+", default=["efficientnet_lite0", "mobilenet_v2"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for argument in options.backbone:
            backbone, _, weights = argument.partition("=")
            for photos in options.photos:
                accuracies: list[float] = []
                by_method: dict[str, list[Result]] = defaultdict(list)
                for seed in range(options.seeds):
                    accuracy, results = quantised_each_way(
                        photos, backbone, Path(weights) if weights else None, seed, work
                    )
                    accuracies.append(accuracy)
                    for method, result in results.items():
                        by_method[method].append(result)
                show(backbone, photos, accuracies, by_method)


if __name__ == "__main__":
    main()
