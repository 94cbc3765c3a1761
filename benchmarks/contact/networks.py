"""The networks that are built: those of a run's folder or of a bundle, with photos and the scores that are right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contact.asked import Given, NotAnswered
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
"""How far scores may be from ONNX Runtime's, where no bundle says it: TF32, FP16, and INT8 that rounds elsewhere."""


@dataclass(frozen=True)
class Network:
    """One network: its ONNX files by precision, and the bundle they are of, where they are."""

    name: str
    models: dict[Precision, OnnxModel]
    bundle: Bundle | None = None

    def model(self, precision: Precision) -> OnnxModel:
        """The ONNX file of a precision. Raises NotAnswered."""
        if precision not in self.models:
            raise NotAnswered(f"{self.name} has no {precision.value}.onnx")
        return self.models[precision]

    def reference(self, precision: Precision) -> tuple[np.ndarray, np.ndarray | None, float]:
        """Photos uint8 (N, H, W, 3), the right scores (N, C), None where nobody knows them, and how near is near."""
        if self.bundle is not None:
            golden = self.bundle.golden
            expected = golden.expected[precision.value]
            return np.stack([each.pixels for each in golden.photos]), np.asarray(expected.scores), expected.tolerance
        photos = photos_of(self.model(precision), 16)
        try:
            with open_runner(self.model(precision)) as runner:
                return photos, runner.infer(photos), GAPS[precision]
        except MissingDependency:
            return photos, None, GAPS[precision]


def photos_of(model: OnnxModel, count: int) -> np.ndarray:
    """Seeded noise, smoothed so that neighbouring pixels are alike as in photos."""
    preprocess = model.spec.preprocess
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    tall = coarse.repeat(-(-preprocess.height // 8), 1)[:, : preprocess.height]
    return np.ascontiguousarray(tall.repeat(-(-preprocess.width // 8), 2)[:, :, : preprocess.width])


def networks(given: Given) -> list[Network]:
    """The networks of all folders. Raises NotAnswered where none was given, and what is wrong with one that was."""
    if not given.folders:
        raise NotAnswered("no network was given: name a run's folder (engines/NAME) or a bundle's")
    return [_network(folder) for folder in given.folders]


def _network(folder: Path) -> Network:
    if (folder / MANIFEST).is_file():
        bundle = open_bundle(folder)
        return Network(folder.name, {each.precision: each for each in bundle.onnx_models()}, bundle)
    files = {precision: folder / f"{precision.value}.onnx" for precision in Precision}
    found = {precision: path for precision, path in files.items() if path.is_file()}
    if not found:
        raise NotAnswered(f"{folder} holds no fp32.onnx, fp16.onnx or int8.onnx")
    try:
        return Network(folder.name, {precision: read_onnx(path) for precision, path in found.items()})
    except MissingDependency as error:
        raise NotAnswered(f"{folder} is no bundle, and its files can't be checked: {error.message}") from error


def need_library(flavour: Flavour) -> None:
    """Raise NotAnswered where engines of a flavour can't be built."""
    problem = flavour_available(flavour)
    if problem:
        raise NotAnswered(problem)


def need_gpu() -> None:
    """Raise NotAnswered where there is no GPU, or pycuda does not load."""
    from trtpoets.core.errors import RunFailed
    from trtpoets.device.gpu.cuda import load_pycuda

    try:
        gpus()
        load_pycuda()
    except (RunFailed, MissingDependency) as error:
        raise NotAnswered(error.message) from error


def config_of(flavour: Flavour, **more: object) -> EngineConfig:
    """How engines are built here: TensorRT-RTX for this GPU, where it has it among its targets."""
    targets: tuple[str, ...] = ()
    if flavour is Flavour.RTX:
        target = target_here()
        targets = (target,) if target in load_tensorrt(flavour).targets else ()
    return EngineConfig(flavour, targets=targets, batch=BATCH, **more)  # type: ignore[arg-type]


def target_here() -> str:
    """The compute capability of this GPU as "sm90"; empty where there is none."""
    from trtpoets.core.errors import RunFailed

    try:
        return gpus()[0].target
    except RunFailed:
        return ""


def built(given: Given, network: Network, precision: Precision, config: EngineConfig, name: str = "") -> Engine:
    """The engine of a network, built unless it is there from an earlier question. Raises what building raises."""
    model = network.model(precision)
    out = given.work / network.name / f"{name or precision.value}.{config.flavour.value}.engine"
    out.parent.mkdir(parents=True, exist_ok=True)
    vouched = network.bundle.manifest.files[model.path.name] if network.bundle else ""
    return current_engine(model, config, out) or engine_from_onnx(model, config, out, vouched_sha256=vouched)
