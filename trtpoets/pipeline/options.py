"""From what a command line says to the configurations of the stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.convert.calibration import CalibrationConfig, Method
from trtpoets.convert.int8_config import Int8Config
from trtpoets.core.errors import BadInput
from trtpoets.core.spec import BatchRange, Flavour, Resize
from trtpoets.judge.bench_config import Scenario
from trtpoets.judge.benchmark import BenchConfig
from trtpoets.judge.gate import GateConfig
from trtpoets.judge.scenario import config_for
from trtpoets.judge.statistics import least_count
from trtpoets.pipeline.extractors import Device
from trtpoets.pipeline.retrain import RetrainConfig
from trtpoets.pipeline.run import RunConfig
from trtpoets.train.dataset import DatasetConfig
from trtpoets.train.head import HeadConfig, Optimizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import Enum
    from pathlib import Path


def retrain_config(
    backbone: str,
    weights: Path | None,
    resize: Resize,
    device: str,
    *,
    validation_percent: float = DatasetConfig.validation_percent,
    test_percent: float = DatasetConfig.test_percent,
    strict: bool = False,
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
        dataset=DatasetConfig(validation_percent, test_percent, strict),
        head=HeadConfig(**given),
    )


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


def bench_config(
    batches: Sequence[int] | None,
    seconds: float,
    threads: int,
    *,
    scenario: Scenario | None = None,
    max_p99: float | None = None,
    **more: Any,
) -> BenchConfig:
    """The configuration of `bench`. LoadGen without a scenario judges the single stream. Raises BadInput."""
    if more.get("loadgen") and scenario is None:
        scenario = Scenario.SINGLE_STREAM
    if more.get("target_qps") and scenario is not Scenario.SERVER:
        raise BadInput(f"--target-qps {more['target_qps']:g} is a server's", hint="add: --scenario server")
    chosen = tuple(batches or BenchConfig.batches)
    # A 99th percentile needs its count, and so its time.
    count, longest = (BenchConfig.min_count, 0.0) if max_p99 is None else (least_count(99), 60.0)
    longest = max(BenchConfig.max_seconds, 2 * seconds, longest)
    config = BenchConfig(
        batches=chosen,
        min_seconds=seconds,
        min_count=count,
        max_seconds=longest,
        timeout_seconds=max(BenchConfig.timeout_seconds, 2 * longest),
        threads=threads,
        scenario=scenario.value if scenario else "",
        max_p99_ms=max_p99 or 0.0,
        **more,
    )
    return config_for(scenario, config) if scenario else config


def gate_config(
    max_drop: float | None, min_agreement: float | None, runners: Sequence[str] | None
) -> GateConfig | None:
    """The gate of `evaluate`, or None when no part of one is given. Raises BadInput for runners without a limit."""
    if max_drop is None and min_agreement is None and not runners:
        return None
    return GateConfig(max_drop, min_agreement, tuple(runners or ()))


def batch_range(text: str) -> BatchRange:
    """Read "1:8:32", or "8" for exactly 8. Raises BadInput."""
    try:
        numbers = [int(number) for number in text.split(":")]
        least, best, most = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError:
        raise BadInput(f"--batch {text!r} is not least:best:most", hint="for example: --batch 1:8:32") from None
    return BatchRange(least, best, most)


def _member(kind: type[Enum], word: str, option: str) -> Any:
    try:
        return kind(word)
    except ValueError:
        choices = ", ".join(str(member.value) for member in kind)
        raise BadInput(f"{option} {word!r} is none of: {choices}", hint=f"{option} {next(iter(kind)).value}") from None
