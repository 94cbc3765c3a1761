"""Makes INT8 of a network for a race: a file that only shows its time on a CPU, and one that shows its accuracy.

Both have fewer calibration photos than `quantize` takes, and layers never return to float. The last layer is not
refitted. So `quantize` may come to another result: what a race knows about its target is in `RaceInt8`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trtpoets.convert.graph.last_layer import with_head
from trtpoets.convert.int8.calibration import CalibrationConfig, Method
from trtpoets.convert.int8.forms import CPU, TENSORRT
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.int8.quantize_int8 import chosen_ranges, int8_from_onnx
from trtpoets.convert.onnx_export import metadata_of_spec
from trtpoets.core.onnx_file import check_onnx, write_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import ModelSpec, OnnxModel, Precision
from trtpoets.pipeline.extractors import features_of_model
from trtpoets.train.head import Head

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtpoets.core.types import Photo
    from trtpoets.train.backbones import Backbone

CALIBRATION_PHOTOS = 64
"""The number of calibration photos for judging the accuracy; `quantize` takes up to 256."""

_TIMING_PHOTOS = 8
"""The number of calibration photos for timing: the time does not depend on the ranges."""

_CONFIG = Int8Config(max_float_layers=0, judged_photos=64)


@dataclass(frozen=True)
class RaceNetwork:
    """A network of a race: its backbone, the ONNX file of its base, the sha256 of its weights, and the labels."""

    backbone: Backbone
    base: Path
    weights_id: str
    labels: tuple[str, ...]

    def classifier(self, head: Head, out: Path) -> OnnxModel:
        """Write the FP32 file of the network with a head to `out`. Raises BadArtefact, StorageFailed."""
        name = self.backbone.name
        spec = ModelSpec("race", name, self.backbone.preprocess, self.labels, self.weights_id)
        metadata = metadata_of_spec(spec, Precision.FP32)
        write_onnx(with_head(check_onnx(self.base), head.weights, head.bias, name, metadata), out)
        return OnnxModel(out, Precision.FP32, spec)


def int8_for_timing(network: RaceNetwork, photos: Sequence[Photo], out: Path) -> Path:
    """Write the CPU form of INT8 of a network to `out` without any correction, and return its path.

    It takes as long as int8.cpu.onnx without layers in float; the head of the network is random. Raises like
    `quantize`.
    """
    weights = np.random.default_rng(0).normal(size=(network.backbone.feature_width, len(network.labels)))
    head = Head(weights.astype(np.float32), np.zeros(len(network.labels), np.float32))
    fp32 = network.classifier(head, out.with_name(f"fp32-{out.name}"))
    config = CalibrationConfig(_TIMING_PHOTOS, Method.MINMAX)
    chosen = photos[:_TIMING_PHOTOS]
    evaluator = Int8Evaluator(fp32, chosen, chosen, _CONFIG, CPU)
    version, _ = evaluator.builder(chosen_ranges(evaluator, chosen, config)).build()
    write_onnx(evaluator.as_file(version), out)
    return out


class Int8Features(NamedTuple):
    """The input of the last layer in INT8 for each photo, float32 (N, D), and what is known about the network.

    `share` is the share of the multiply-adds that run in INT8, 0..1. `time` is the estimated time relative to FP16 on a
    GPU; None for the form for CPUs.
    """

    features: np.ndarray
    share: float
    time: float | None


def int8_features(
    fp32: OnnxModel,
    calibration: Sequence[Photo],
    validation: Sequence[Photo],
    photos: Sequence[Photo],
    out: Path,
    *,
    for_cpu: bool,
    progress: Progress = silent,
) -> Int8Features:
    """Return the input of the last layer in INT8 for each of `photos`.

    The network is written to `out`, in the form for CPUs or for TensorRT. `calibration` are training photos. Raises
    like `quantize`.
    """
    config = CalibrationConfig(len(calibration))
    evaluator = Int8Evaluator(fp32, calibration, validation, _CONFIG, CPU if for_cpu else TENSORRT)
    int8, notes = int8_from_onnx(evaluator, chosen_ranges(evaluator, calibration, config, progress), out, progress)
    time = None if for_cpu else notes.frontier[-1].time
    return Int8Features(features_of_model(int8, photos, progress), notes.share, time)
