"""From what a command line says to the configurations of the stages. Those of the device runtime have theirs below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.convert.int8.calibration import CalibrationConfig, Method
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.core.errors import BadInput
from trtpoets.core.types import Flavour, Resize
from trtpoets.device.build.engine_config import batch_range
from trtpoets.judge.bench.bench_options import bench_config
from trtpoets.judge.gate import GateConfig
from trtpoets.pipeline.extractors import Device
from trtpoets.pipeline.retrain import RetrainConfig
from trtpoets.pipeline.run import RunConfig
from trtpoets.train.dataset import DatasetConfig
from trtpoets.train.head import HeadConfig, Optimizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from enum import Enum
    from pathlib import Path

__all__ = [
    "batch_range",
    "bench_config",
    "calibration_config",
    "gate_config",
    "int8_config",
    "photos_config",
    "require_unused",
    "retrain_config",
    "run_config",
]


def retrain_config(
    backbone: str,
    weights: Path | None,
    resize: Resize,
    device: str,
    *,
    validation_percent: float = DatasetConfig.validation_percent,
    test_percent: float = DatasetConfig.test_percent,
    strict: bool = False,
    labels: Path | None = None,
    class_folders: bool = False,
    **head: Any,
) -> RetrainConfig:
    """The configuration of `retrain`. A `head` option that is None keeps HeadConfig's default."""
    given = {name: value for name, value in head.items() if value is not None}
    if "optimizer" in given:
        given["optimizer"] = _member(Optimizer, given["optimizer"], "--optimizer")
    return RetrainConfig(
        backbone=backbone,
        weights=weights,
        resize=resize,
        device=_member(Device, device, "--device"),
        dataset=DatasetConfig(validation_percent, test_percent, strict, str(labels or ""), class_folders),
        head=HeadConfig(**given),
    )


def photos_config(labels: Path | None, class_folders: bool) -> DatasetConfig:
    """How `pretrained` reads its photos."""
    return DatasetConfig(labels=str(labels or ""), class_folders=class_folders)


def run_config(retraining: RetrainConfig, flavour: Flavour | None, targets: Sequence[str], seed: int) -> RunConfig:
    """The configuration of `run`."""
    return RunConfig(
        retrain=retraining, calibration=CalibrationConfig(seed=seed), flavour=flavour, targets=tuple(targets)
    )


def calibration_config(photos: int, method: str | None, seed: int) -> CalibrationConfig:
    """The configuration of `quantize`."""
    chosen = CalibrationConfig.method if method is None else _member(Method, method, "--method")
    return CalibrationConfig(photos=photos, method=chosen, seed=seed)


def int8_config(share: float, max_float_layers: int | None) -> Int8Config:
    """How `quantize` makes INT8 better."""
    return Int8Config(int8_share=share, max_float_layers=max_float_layers)


def gate_config(
    max_drop: float | None, min_agreement: float | None, runners: Sequence[str] | None, allow_undecided: bool = False
) -> GateConfig | None:
    """The gate of `evaluate`, or None when no part of one is given. Raises BadInput where it has no limit."""
    if max_drop is None and min_agreement is None and not runners and not allow_undecided:
        return None
    return GateConfig(max_drop, min_agreement, tuple(runners or ()), allow_undecided)


def _member(kind: type[Enum], word: str, option: str) -> Any:
    try:
        return kind(word)
    except ValueError:
        choices = ", ".join(str(member.value) for member in kind)
        raise BadInput(
            f"{option} {word!r} is none of: {choices}", hint=f"{option} {next(iter(kind)).value}", code="TP8036"
        ) from None


def require_unused(what: str, options: Mapping[str, object]) -> None:
    """Raise BadInput where one of `options` was given, which have no effect on `what`."""
    given = [option for option, value in options.items() if value]
    if given:
        raise BadInput(
            f"{' and '.join(given)} would have no effect with {what}", hint=f"leave {given[0]} out", code="TP8037"
        )
