"""Configurations, GPUs and requests for tests of builds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.tiny import tiny_spec
from trtpoets.core.types import BatchRange, Flavour, OnnxModel, Precision
from trtpoets.device.build.engine_config import EngineConfig, request_of
from trtpoets.device.gpu.libcuda import Gpu

RTX = EngineConfig(Flavour.RTX)
TENSORRT = EngineConfig(Flavour.TENSORRT)
ONE_SIZE = BatchRange(4, 4, 4)
TX2 = Gpu("NVIDIA Tegra X2", (6, 2), 8 << 30)


def request(precision: Precision, **changes: Any) -> Any:
    model = OnnxModel(Path("x.onnx"), precision, tiny_model().spec)
    return request_of(model, replace(TENSORRT, batch=BatchRange(1, 2, 4), **changes))


def tiny_model() -> OnnxModel:
    return OnnxModel(Path("x.onnx"), Precision.FP32, tiny_spec())


def only(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
