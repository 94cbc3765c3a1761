"""Loads the networks of a run or a bundle, with photos and reference scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contact.question_inputs import NotAnswered, QuestionInputs
from trtpoets.core.errors import MissingDependency
from trtpoets.core.manifest import MANIFEST
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.types import BatchRange, Engine, Flavour, OnnxModel, Precision
from trtpoets.device.build.engine import current_engine, engine_from_onnx, flavour_available
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.gpu.libcuda import gpus
from trtpoets.device.runners import open_runner
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.onboard.installed_bundle import Bundle, open_bundle

BATCH = BatchRange(1, 8, 32)

GAPS = {Precision.FP32: 2e-3, Precision.FP16: 0.01, Precision.INT8: 0.05}
"""Tolerance of the scores relative to ONNX Runtime without a bundle; TF32, FP16 and INT8 rounding differ."""


@dataclass(frozen=True)
class Network:
    """A network: its ONNX files by precision, and its bundle if it has one."""

    name: str
    models: dict[Precision, OnnxModel]
    bundle: Bundle | None = None

    def model(self, precision: Precision) -> OnnxModel:
        """Return the ONNX file of a precision. Raises NotAnswered."""
        if precision not in self.models:
            raise NotAnswered(f"{self.name} has no {precision.value}.onnx")
        return self.models[precision]

    def reference(self, precision: Precision) -> tuple[np.ndarray, np.ndarray | None, float]:
        """Return photos, uint8 (N, H, W, 3), reference scores (N, C) and their tolerance.

        The scores are None if there is neither a bundle nor ONNX Runtime.
        """
        if self.bundle is not None:
            golden = self.bundle.golden
            expected = golden.expected[precision.value]
            return np.stack([photo.pixels for photo in golden.photos]), np.asarray(expected.scores), expected.tolerance
        photos = photos_of(self.model(precision), 16)
        try:
            with open_runner(self.model(precision)) as runner:
                return photos, runner.infer(photos), GAPS[precision]
        except MissingDependency:
            return photos, None, GAPS[precision]


def photos_of(model: OnnxModel, count: int) -> np.ndarray:
    """Return seeded noise, uint8 (count, H, W, 3), in which neighbouring pixels are similar, as in photos."""
    preprocess = model.spec.preprocess
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    tall = coarse.repeat(-(-preprocess.height // 8), 1)[:, : preprocess.height]
    return np.ascontiguousarray(tall.repeat(-(-preprocess.width // 8), 2)[:, :, : preprocess.width])


def networks(inputs: QuestionInputs) -> list[Network]:
    """Return the networks of all folders. Raises NotAnswered if there is none or one cannot be read."""
    if not inputs.folders:
        raise NotAnswered("no network was given; give the folder of a run (engines/NAME) or of a bundle")
    return [_network(folder) for folder in inputs.folders]


def _network(folder: Path) -> Network:
    if (folder / MANIFEST).is_file():
        bundle = open_bundle(folder)
        return Network(folder.name, {model.precision: model for model in bundle.onnx_models()}, bundle)
    files = {precision: folder / f"{precision.value}.onnx" for precision in Precision}
    existing = {precision: path for precision, path in files.items() if path.is_file()}
    if not existing:
        raise NotAnswered(f"{folder} contains no fp32.onnx, fp16.onnx or int8.onnx")
    try:
        return Network(folder.name, {precision: read_onnx(path) for precision, path in existing.items()})
    except MissingDependency as error:
        raise NotAnswered(f"{folder} is not a bundle, and its files can't be checked: {error.message}") from error


def need_library(flavour: Flavour) -> None:
    """Raise NotAnswered if engines of a flavour cannot be built here."""
    problem = flavour_available(flavour)
    if problem:
        raise NotAnswered(problem)


def need_gpu() -> None:
    """Raise NotAnswered if there is no GPU or pycuda cannot be imported."""
    from trtpoets.core.errors import RunFailed
    from trtpoets.device.gpu.cuda import load_pycuda

    try:
        gpus()
        load_pycuda()
    except (RunFailed, MissingDependency) as error:
        raise NotAnswered(error.message) from error


def config_of(flavour: Flavour, **options: object) -> EngineConfig:
    """Return the build configuration: for TensorRT-RTX with this GPU as target, if it is supported."""
    targets: tuple[str, ...] = ()
    if flavour is Flavour.RTX:
        target = target_here()
        targets = (target,) if target in load_tensorrt(flavour).targets else ()
    return EngineConfig(flavour, targets=targets, batch=BATCH, **options)  # type: ignore[arg-type]


def target_here() -> str:
    """Return the compute capability of this GPU, such as "sm90"; "" if there is no GPU."""
    from trtpoets.core.errors import RunFailed

    try:
        return gpus()[0].target
    except RunFailed:
        return ""


def built(
    inputs: QuestionInputs, network: Network, precision: Precision, config: EngineConfig, name: str = ""
) -> Engine:
    """Return the engine of a network; it is built unless an earlier question did. Raises what building raises."""
    model = network.model(precision)
    out = inputs.work / network.name / f"{name or precision.value}.{config.flavour.value}.engine"
    out.parent.mkdir(parents=True, exist_ok=True)
    manifest_sha256 = network.bundle.manifest.files[model.path.name] if network.bundle else ""
    return current_engine(model, config, out) or engine_from_onnx(model, config, out, manifest_sha256=manifest_sha256)
