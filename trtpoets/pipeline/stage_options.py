"""Converts command-line options to the configurations of the stages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trtpoets.adoption.contract_options import contract_options, sides_from_option
from trtpoets.convert.int8.calibration import CalibrationConfig, Method
from trtpoets.convert.int8.distill.training import DistillConfig
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.core.errors import BadInput
from trtpoets.core.fine_tuning import FINE_TUNING_DISTORTIONS, Distortions, FineTuneConfig
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.core.types import Flavour, Precision, Resize
from trtpoets.device.build.engine_config import batch_range
from trtpoets.judge.bench.bench_options import bench_config
from trtpoets.judge.gate import GateConfig
from trtpoets.judge.race import AUTO_BACKBONE, RaceConfig
from trtpoets.pipeline.adopt import AdoptConfig
from trtpoets.pipeline.extractors import Device
from trtpoets.pipeline.retrain import RetrainConfig
from trtpoets.pipeline.run import RunConfig
from trtpoets.train.dataset import DatasetConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from enum import Enum
    from pathlib import Path

__all__ = [
    "adopt_config",
    "batch_range",
    "bench_config",
    "calibration_config",
    "distill_config",
    "fine_tune_config",
    "gate_config",
    "head_distortions",
    "int8_config",
    "photos_config",
    "race_config",
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
    fine_tuning: FineTuneConfig | None = None,
    distortions: Distortions | None = None,
    try_distortions: bool = False,
    race: RaceConfig | None = None,
    **head: Any,
) -> RetrainConfig:
    """Return the configuration of `retrain`. Options in `head` that are None keep the default of HeadConfig."""
    head_options = {name: value for name, value in head.items() if value is not None}
    if "optimizer" in head_options:
        head_options["optimizer"] = _member(Optimizer, head_options["optimizer"], "--optimizer")
    return RetrainConfig(
        backbone=backbone,
        weights=weights,
        resize=resize,
        device=_member(Device, device, "--device"),
        dataset=DatasetConfig(validation_percent, test_percent, strict, str(labels or ""), class_folders),
        head=HeadConfig(**head_options),
        fine_tuning=fine_tuning,
        distortions=distortions or Distortions(),
        try_distortions=try_distortions,
        race=race or RaceConfig(),
    )


def race_config(
    backbone: str,
    candidates: Sequence[str] | None,
    max_ms: float | None,
    board: str | None,
    precision: Precision | None,
) -> RaceConfig:
    """Return the configuration of the race of `--backbone auto`. Raises BadInput for its options without it."""
    if backbone != AUTO_BACKBONE:
        given = {"--candidate": candidates, "--max-ms": max_ms is not None, "--board": board, "--precision": precision}
        require_unused("without --backbone auto", given, "--backbone auto")
    return RaceConfig(tuple(candidates or ()), max_ms, board, precision)


def head_distortions(fine_tuning: FineTuneConfig | None, automatic: bool, **options: Any) -> Distortions:
    """Return the distortions of the head's training photos: none with `fine_tuning`, which uses the options itself.

    Raises BadInput if they are also to be chosen by trials.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if fine_tuning is not None:
        require_unused("with --unfreeze", {"--auto-distortions": automatic})
    if automatic:
        require_unused("with --auto-distortions", {_as_given(name, value): True for name, value in given.items()})
    return Distortions() if fine_tuning else Distortions(**given)


def fine_tune_config(
    unfreeze: str | None,
    *,
    epochs: float | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    **distortions: Any,
) -> FineTuneConfig | None:
    """Return the configuration of fine-tuning; None without `unfreeze`. Options that are None keep the default.

    Raises BadInput for invalid values, and for options of fine-tuning without --unfreeze.
    """
    if unfreeze is None:
        options = {"--fine-tuning-epochs": epochs is not None, "--fine-tuning-rate": learning_rate is not None}
        require_unused("without --unfreeze", options, "--unfreeze auto")
        return None
    given = {name: value for name, value in distortions.items() if value is not None}
    settings: dict[str, Any] = {
        name: value for name, value in (("epochs", epochs), ("learning_rate", learning_rate)) if value is not None
    }
    return FineTuneConfig(
        unfreeze=unfreeze, distortions=replace(FINE_TUNING_DISTORTIONS, **given), seed=seed, **settings
    )


def adopt_config(
    *,
    labels: Path | None = None,
    class_folders: bool = False,
    size: str | None = None,
    allow_code: bool = False,
    **contract: Any,
) -> AdoptConfig:
    """Return the configuration of `adopt`. `size` is "224" or "48x192"; `contract`: see `contract_options`."""
    stated = contract_options(**contract)
    config = AdoptConfig(labels=labels, contract=stated, size=sides_from_option(size), allow_code=allow_code)
    return replace(config, dataset=replace(config.dataset, class_folders=class_folders))


def photos_config(labels: Path | None, class_folders: bool) -> DatasetConfig:
    """Return the configuration with which `pretrained` reads its photos."""
    return DatasetConfig(labels=str(labels or ""), class_folders=class_folders)


def run_config(
    retraining: RetrainConfig,
    flavour: Flavour | None,
    targets: Sequence[str],
    seed: int,
    model: Path | None = None,
) -> RunConfig:
    """Return the configuration of `run`. With `model`, a file to adopt, options of training must be the defaults."""
    if model is not None:
        dataset = replace(retraining.dataset, class_folders=False, strict=False)
        given = replace(retraining, dataset=dataset, head=replace(retraining.head, seed=0))
        if given != RetrainConfig(resize=given.resize):
            options = " and ".join(_training_options(given)) or "the options of training"
            raise BadInput(
                f"--model takes a classifier that is trained already, so {options} would have no effect",
                hint=f"leave {options} out",
                code="TP8047",
            )
    adoption = AdoptConfig()
    adoption = replace(adoption, dataset=replace(adoption.dataset, class_folders=retraining.dataset.class_folders))
    return RunConfig(
        retrain=retraining,
        calibration=CalibrationConfig(seed=seed),
        flavour=flavour,
        targets=tuple(targets),
        model=model,
        adopt=adoption,
    )


def calibration_config(photos: int | None, method: str | None, seed: int) -> CalibrationConfig:
    """Return the calibration configuration of `quantize`."""
    chosen = CalibrationConfig.method if method is None else _member(Method, method, "--method")
    return CalibrationConfig(photos=photos, method=chosen, seed=seed)


def int8_config(share: float | None, max_float_layers: int | None) -> Int8Config:
    """Return the INT8 configuration of `quantize`."""
    return Int8Config(int8_share=share, max_float_layers=max_float_layers)


def distill_config(distill: bool, seed: int) -> DistillConfig | None:
    """Return the configuration of `quantize --distill`; None without it."""
    return DistillConfig(seed=seed) if distill else None


def gate_config(
    max_drop: float | None, min_agreement: float | None, runners: Sequence[str] | None, allow_undecided: bool = False
) -> GateConfig | None:
    """Return the gate of `evaluate`; None without any of its options. Raises BadInput for a gate without a limit."""
    if max_drop is None and min_agreement is None and not runners and not allow_undecided:
        return None
    return GateConfig(max_drop, min_agreement, tuple(runners or ()), allow_undecided)


def _training_options(config: RetrainConfig) -> list[str]:
    """Return the options of `run` whose value in `config` is not the default."""
    default = RetrainConfig()
    values = {
        "--backbone": (config.backbone, default.backbone),
        "--weights": (config.weights, default.weights),
        "--device": (config.device, default.device),
        "--steps": (config.head.steps, default.head.steps),
        "--unfreeze": (config.fine_tuning, default.fine_tuning),
        "--labels": (config.dataset.labels, default.dataset.labels),
        "--validation-percent": (config.dataset.validation_percent, default.dataset.validation_percent),
        "--test-percent": (config.dataset.test_percent, default.dataset.test_percent),
    }
    return [option for option, (value, unset) in values.items() if value != unset]


def _as_given(name: str, value: object) -> str:
    """Return the option that set the parameter `name` to `value`."""
    return f"--{'no-' if value is False else ''}{name.replace('_', '-')}"


def _member(kind: type[Enum], value: str, option: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(str(member.value) for member in kind)
        raise BadInput(
            f"{option} must be one of {choices}, not {value!r}",
            hint=f"give for example {option} {next(iter(kind)).value}",
            code="TP8036",
        ) from None


def require_unused(context: str, options: Mapping[str, object], remedy: str = "") -> None:
    """Raise BadInput if one of `options` is set, because they have no effect in a context, like "with --train".

    `context` names no option that the user did not give, except after "without". `remedy` is what would give them an
    effect, like "--train".
    """
    used = [option for option, value in options.items() if value]
    if used:
        leave = f"leave {' and '.join(used)} out"
        raise BadInput(
            f"{' and '.join(used)} would have no effect {context}",
            hint=f"add {remedy}, or {leave}" if remedy else leave,
            code="TP8037",
        )
