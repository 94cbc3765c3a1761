"""What a bundle is made of, whatever it is for; and the files that every bundle holds."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtpoets.core.console import labels_text
from trtpoets.core.files import write_text
from trtpoets.core.provider_options import shape_text
from trtpoets.core.types import BatchRange, Engine, ModelSpec, OnnxModel, Precision
from trtpoets.judge.golden import Golden, write_golden

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


CACHE = "int8.cache"
"""The name of the calibration cache in a bundle."""


@dataclass(frozen=True)
class Parts:
    """The artefacts of a run that go into a bundle.

    `models` are the ONNX files of the precisions asked for, `order` those precisions with the one to ship first.
    `model_sha256` is of the run's fp32.onnx, which may not be among `models`. `engines` are those that were built here
    from `models`, of both flavours. `measured` is what benchmark.json holds, None where nothing was benched.
    `calibration_cache` is the text of a calibration cache of TensorRT 8 to 10, None where there is none.
    """

    spec: ModelSpec
    models: tuple[OnnxModel, ...]
    engines: tuple[Engine, ...]
    golden: Golden
    order: tuple[Precision, ...]
    model_sha256: str
    version: str
    measured: Mapping[str, Any] | None = None
    calibration_cache: bytes | None = None

    def model(self, precision: Precision) -> OnnxModel:
        """The ONNX file of one of the precisions."""
        return next(each for each in self.models if each.precision is precision)

    def shape(self, batch: int) -> str:
        """So many photos, as trtexec and ONNX Runtime are told a shape: "photos:8x224x224x3"."""
        return shape_text(self.spec, batch)

    def trtexec_shapes(self) -> str:
        """The options that tell trtexec the batch sizes of an engine: those that `build` takes unless told others."""
        usual = BatchRange()
        sizes = {"min": usual.minimum, "opt": usual.optimum, "max": usual.maximum}
        return " ".join(f"--{word}Shapes={self.shape(size)}" for word, size in sizes.items())


def write_shared(parts: Parts, folder: Path) -> None:
    """Write model.json, labels.txt, the ONNX files, the calibration cache and golden/. Raises StorageFailed."""
    write_text(folder / "model.json", parts.spec.to_json() + "\n")
    write_text(folder / "labels.txt", labels_text(parts.spec.labels))
    for model in parts.models:
        shutil.copyfile(model.path, folder / f"{model.precision.value}.onnx")
    if parts.calibration_cache is not None:
        (folder / CACHE).write_bytes(parts.calibration_cache)
    write_golden(parts.golden, folder / "golden")
