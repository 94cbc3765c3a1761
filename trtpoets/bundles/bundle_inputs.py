"""The inputs of a bundle, for every target, and the files that every bundle contains."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtpoets.core.console import labels_text
from trtpoets.core.files import write_text
from trtpoets.core.model_json import write_model_json
from trtpoets.core.onnx_metadata import fixed_batch
from trtpoets.core.provider_options import shape_text
from trtpoets.core.types import BatchRange, Engine, ModelSpec, OnnxModel, Precision
from trtpoets.judge.golden import Golden, write_golden

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


CACHE = "int8.cache"
"""File name of the calibration cache in a bundle."""


@dataclass(frozen=True)
class BundleInputs:
    """The artefacts of a run that go into a bundle.

    `models` are the ONNX files of the chosen precisions, `order` is the order in which a device tries the precisions.
    `model_sha256` is that of the run's fp32.onnx, which may not be among `models`. `engines` were built on this machine
    from `models`, of both flavours. `measured` is the content of benchmark.json, None without a benchmark.
    `calibration_cache` is the content of a calibration cache for TensorRT 8 to 10, None if there is none.
    `cpu_form` is int8.cpu.onnx, for bundles that use it, and `against_cpu_form` why it is not to be used; else "".
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
    cpu_form: OnnxModel | None = None
    against_cpu_form: str = ""

    def model(self, precision: Precision) -> OnnxModel:
        """Return the ONNX file of a precision."""
        return next(model for model in self.models if model.precision is precision)

    @property
    def fixed_batch(self) -> int:
        """The number of photos that the network takes; 0 for any number."""
        return fixed_batch(self.models[0].path)

    def shape(self, batch: int) -> str:
        """Return the input shape of a batch in the syntax of trtexec and ONNX Runtime: "photos:8x224x224x3"."""
        return shape_text(self.spec, batch)

    def trtexec_shapes(self) -> str:
        """Return the shape options of trtexec for the default batch sizes of `build`; "" for a fixed batch."""
        if self.fixed_batch:
            return ""
        default = BatchRange()
        sizes = {"min": default.minimum, "opt": default.optimum, "max": default.maximum}
        return " ".join(f"--{name}Shapes={self.shape(size)}" for name, size in sizes.items())


def write_shared(inputs: BundleInputs, folder: Path) -> None:
    """Write model.json, labels.txt, the ONNX files, the calibration cache and golden/. Raises StorageFailed."""
    write_model_json(inputs.spec, folder)
    write_text(folder / "labels.txt", labels_text(inputs.spec.labels))
    for model in inputs.models:
        shutil.copyfile(model.path, folder / f"{model.precision.value}.onnx")
    if inputs.calibration_cache is not None:
        (folder / CACHE).write_bytes(inputs.calibration_cache)
    write_golden(inputs.golden, folder / "golden")
