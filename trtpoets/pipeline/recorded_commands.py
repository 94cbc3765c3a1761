"""The command that does the work of a stage again: recorded in the stage's card when the work is done.

Every option is written out, as another version may have other defaults. Paths are absolute.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.core.shell_commands import DEFAULT_ENGINES
from trtpoets.core.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.convert.int8.calibration import CalibrationConfig
    from trtpoets.convert.int8.int8_config import Int8Config
    from trtpoets.core.types import Flavour, Precision
    from trtpoets.device.build.engine_config import EngineConfig
    from trtpoets.judge.bench.benchmark import BenchConfig
    from trtpoets.judge.gate import GateConfig
    from trtpoets.judge.train_benchmark import TrainBenchConfig
    from trtpoets.pipeline.retrain import RetrainConfig
    from trtpoets.train.split import DatasetConfig

_NO_OPTION = frozenset({"eval_interval"})
"""Of the head's configuration: what only Python can set."""

_BENCH = ("xla", "keras", "cpu", "loadgen")
"""Switches of `bench` that are fields of BenchConfig."""


def retrain_command(space: Workspace, photos: Path | str, config: RetrainConfig) -> str:
    """`trtpoets retrain` with everything that `config` says."""
    head = {word: value for word, value in asdict(config.head).items() if word not in _NO_OPTION}
    own = {word: getattr(config, word) for word in ("backbone", "weights", "resize", "device")}
    labels = Path(config.dataset.labels) if config.dataset.labels else None
    dataset = {**asdict(config.dataset), "labels": labels}
    return _command(space, "retrain", [Path(photos)], {**own, **dataset, **head})


def pretrained_command(
    space: Workspace, backbone: str, photos: Path | str | None, weights: Path | str | None, config: DatasetConfig
) -> str:
    """`trtpoets pretrained` with its photos, how they are read, and its weights."""
    given = {"photos": photos, "labels": config.labels if photos else None, "weights": weights}
    paths: dict[str, object] = {word: None if path is None else Path(path) for word, path in given.items()}
    return _command(space, "pretrained", [backbone], {**paths, "class_folders": bool(photos) and config.class_folders})


def export_command(space: Workspace, opset: int) -> str:
    """`trtpoets export` with its operator set."""
    return _command(space, "export", [], {"opset": opset})


def quantize_command(
    space: Workspace,
    precisions: Sequence[Precision],
    calibration: CalibrationConfig,
    int8: Int8Config,
    refit_head: bool,
) -> str:
    """`trtpoets quantize` with everything that its configurations say."""
    options = {
        "precision": list(precisions),
        "method": calibration.method,
        "photos": calibration.photos,
        "int8_share": int8.int8_share,
        "max_fp16_layers": int8.max_float_layers,
        "refit_head" if refit_head else "no_refit_head": True,
        "seed": calibration.seed,
    }
    return _command(space, "quantize", [], options)


def build_command(
    space: Workspace, precisions: Sequence[Precision], flavour: Flavour | None, config: EngineConfig
) -> str:
    """`trtpoets build` with everything that `config` says; `flavour` None stands for all that can build."""
    options = {
        "precision": list(precisions),
        "flavour": flavour,
        "target": list(config.targets),
        "batch": ":".join(map(str, asdict(config.batch).values())),
        "workspace": config.workspace_mib,
        "optimization_level": config.optimization_level,
        **{word: getattr(config, word) for word in ("version_compatible", "hardware_compatible")},
        "dla": config.dla_core,
        "timeout": config.timeout_seconds,
    }
    return _command(space, "build", [], options)


def evaluate_command(space: Workspace, gate: GateConfig | None) -> str:
    """`trtpoets evaluate`, with its gate where there is one."""
    words = ("max_drop", "min_agreement", "allow_undecided")
    limits = {word: getattr(gate, word) for word in words} if gate else {}
    return _command(space, "evaluate", [], {**limits, "runner": list(gate.runners or ()) if gate else []})


def bench_command(space: Workspace, config: BenchConfig, compare: Path | str | None) -> str:
    """`trtpoets bench` with everything that `config` says, and the older benchmark that it was compared with."""
    options = {
        "batch": list(config.batches),
        "seconds": config.min_seconds,
        "threads": config.threads,
        **{word: getattr(config, word) for word in _BENCH},
        "scenario": config.scenario or None,
        "target_qps": config.target_qps or None,
        "max_p99": config.max_p99_ms or None,
        "compare": None if compare is None else Path(compare),
    }
    return _command(space, "bench", [], options)


def bench_train_command(space: Workspace, config: TrainBenchConfig, weights: Path | str | None) -> str:
    """`trtpoets bench --train` with its learning rates and the file of weights."""
    rates, path = list(config.learning_rates), None if weights is None else Path(weights)
    return _command(space, "bench", [], {"train": True, "learning_rate": rates, "weights": path})


def _command(space: Workspace, verb: str, arguments: Sequence[Any], options: Mapping[str, object]) -> str:
    engines = space.engines if space.engines == DEFAULT_ENGINES else space.engines.absolute()
    words = [_word(argument) for argument in arguments]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if each is True:
                words.append(option)
            elif each is not None and each is not False:
                words += [option, _word(each)]
    return Workspace(engines, space.name).command(verb, *words)


def _word(value: Any) -> str:
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    return str(value.value if isinstance(value, Enum) else value)
