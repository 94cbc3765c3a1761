"""Builds the command that repeats the work of a stage. It is recorded in the stage's card.

Every option is included, because another version may have other defaults. Paths are absolute.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.adoption.contract_options import geometry_options_of, pixel_options_of, size_option_of
from trtpoets.core.fine_tuning import ALL
from trtpoets.core.paths import user_path
from trtpoets.core.shell_commands import DEFAULT_ENGINES, command
from trtpoets.core.workspace import Workspace
from trtpoets.judge.race import AUTO_BACKBONE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.convert.int8.calibration import CalibrationConfig
    from trtpoets.convert.int8.int8_config import Int8Config
    from trtpoets.core.fine_tuning import FineTuneConfig
    from trtpoets.core.types import Flavour, Precision
    from trtpoets.device.build.engine_config import EngineConfig
    from trtpoets.judge.bench.benchmark import BenchConfig
    from trtpoets.judge.cross_fit import CrossFitConfig
    from trtpoets.judge.gate import GateConfig
    from trtpoets.judge.train_benchmark import TrainBenchConfig
    from trtpoets.pipeline.adopt import AdoptConfig
    from trtpoets.pipeline.retrain import RetrainConfig
    from trtpoets.train.split import DatasetConfig

_NO_OPTION = frozenset({"eval_interval"})
"""Fields of HeadConfig that have no command-line option."""

_BENCH = ("xla", "keras", "cpu", "qdq_on_cpu", "loadgen")
"""Switches of `bench` that have a field of the same name in BenchConfig."""


def retrain_command(space: Workspace, photos: Path | str, config: RetrainConfig) -> str:
    """Return the `trtpoets retrain` command for `config`."""
    head = {name: value for name, value in asdict(config.head).items() if name not in _NO_OPTION}
    tuning = _fine_tuning_options(config.fine_tuning) if config.fine_tuning else {}
    distortions = asdict(config.distortions) if config.distortions.any else {}
    inputs = _network_and_dataset(config)
    options = {**inputs, **head, **distortions, **tuning, "auto_distortions": config.try_distortions}
    return _command(space, "retrain", [Path(photos)], options)


def sweep_command(space: Workspace, photos: Path | str, config: RetrainConfig) -> str:
    """Return the `trtpoets sweep` command for `config`."""
    head = {name: getattr(config.head, name) for name in ("steps", "batch_size", "class_weights", "seed")}
    return _command(space, "sweep", [Path(photos)], {**_network_and_dataset(config), **head})


def bottlenecks_command(photos: Path | str, config: RetrainConfig) -> str:
    """Return the `trtpoets bottlenecks` command for `config`, without a shard and a device."""
    dataset = config.dataset
    labels = Path(dataset.labels) if dataset.labels else None
    network = {name: getattr(config, name) for name in ("backbone", "weights", "resize")}
    options = {**network, "labels": labels, "class_folders": dataset.class_folders}
    return command("bottlenecks", *_words([Path(photos)], options))


def race_command(space: Workspace, photos: Path | str, config: RetrainConfig) -> str:
    """Return the `trtpoets race` command for `config`."""
    head = {name: value for name, value in asdict(config.head).items() if name not in _NO_OPTION}
    inputs = _network_and_dataset(config)
    options = {name: value for name, value in inputs.items() if name not in ("backbone", "weights")}
    return _command(space, "race", [Path(photos)], {**_race_options(config), **options, **head})


def _race_options(config: RetrainConfig) -> dict[str, object]:
    """Return the options of a race."""
    race = config.race
    candidates = [_candidate_word(text) for text in race.candidates]
    return {"candidate": candidates, "max_ms": race.max_ms, "board": race.board, "precision": race.precision}


def _candidate_word(text: str) -> str:
    """Return a candidate with the absolute path of its weights."""
    name, separator, file = text.partition("=")
    return f"{name}={Path(file).expanduser().absolute()}" if separator else name


def _network_and_dataset(config: RetrainConfig) -> dict[str, object]:
    network = {name: getattr(config, name) for name in ("backbone", "weights", "resize", "device")}
    if config.backbone == AUTO_BACKBONE:
        network |= _race_options(config)
    labels = Path(config.dataset.labels) if config.dataset.labels else None
    return {**network, **asdict(config.dataset), "labels": labels}


def _fine_tuning_options(config: FineTuneConfig) -> dict[str, object]:
    distortions = asdict(config.distortions)
    distortions["no_flip_left_right"] = not distortions["flip_left_right"]
    named = {"fine_tuning_epochs": config.epochs, "fine_tuning_rate": config.learning_rate}
    return {"unfreeze": config.unfreeze, **named, **distortions}


def pretrained_command(
    space: Workspace, backbone: str, photos: Path | str | None, weights: Path | str | None, config: DatasetConfig
) -> str:
    """Return the `trtpoets pretrained` command for these photos, weights and dataset options."""
    given = {"photos": photos, "labels": config.labels if photos else None, "weights": weights}
    paths: dict[str, object] = {word: None if path is None else Path(path) for word, path in given.items()}
    return _command(space, "pretrained", [backbone], {**paths, "class_folders": bool(photos) and config.class_folders})


def adopt_command(space: Workspace, model: Path, photos: Path | str | None, config: AdoptConfig) -> str:
    """Return the `trtpoets adopt` command for this file, these photos and options."""
    stated = config.contract
    options = {
        "photos": None if photos is None else Path(photos),
        "labels": config.labels,
        "channels": stated.channels and stated.channels.value,
        "size": config.size and size_option_of(config.size),
        "class_folders": photos is not None and config.dataset.class_folders,
        "allow_code": config.allow_code,
    }
    words = [pixel_options_of(stated.pixels)] if stated.pixels else []
    words += [geometry_options_of(stated.geometry)] if stated.geometry else []
    contract = " ".join(words).split()
    return _command(space, "adopt", [model, *contract], options)


def export_command(space: Workspace, opset: int) -> str:
    """Return the `trtpoets export` command for an opset version."""
    return _command(space, "export", [], {"opset": opset})


def quantize_command(
    space: Workspace,
    precisions: Sequence[Precision],
    calibration: CalibrationConfig,
    int8: Int8Config,
    refit_head: bool,
    cpu_form: bool,
    distill: bool = False,
) -> str:
    """Return the `trtpoets quantize` command for these configurations."""
    options = {
        "precision": list(precisions),
        "method": calibration.method,
        "photos": calibration.photos,
        "int8_share": int8.int8_share,
        "max_fp16_layers": int8.max_float_layers,
        "refit_head" if refit_head else "no_refit_head": True,
        **({"cpu_form": True} if cpu_form else {}),
        **({"distill": True} if distill else {}),
        "seed": calibration.seed,
    }
    return _command(space, "quantize", [], options)


def build_command(
    space: Workspace, precisions: Sequence[Precision], flavour: Flavour | None, config: EngineConfig
) -> str:
    """Return the `trtpoets build` command for `config`; `flavour` None stands for --flavour auto."""
    options = {
        "precision": list(precisions),
        "flavour": flavour,
        "target": list(config.targets),
        "batch": ":".join(map(str, asdict(config.batch).values())),
        "workspace": config.workspace_mib,
        "optimization_level": config.optimization_level,
        **{name: getattr(config, name) for name in ("version_compatible", "hardware_compatible")},
        "dla": config.dla_core,
        "timeout": config.timeout_seconds,
    }
    return _command(space, "build", [], options)


def evaluate_command(space: Workspace, gate: GateConfig | None, cross: CrossFitConfig | None = None) -> str:
    """Return the `trtpoets evaluate` command, with the options of the gate and of cross-fitting if there are any."""
    names = ("max_drop", "min_agreement", "allow_undecided")
    limits = {name: getattr(gate, name) for name in names} if gate else {}
    folds = {"folds": cross.folds} if cross else {}
    return _command(space, "evaluate", [], {**limits, "runner": list(gate.runners or ()) if gate else [], **folds})


def bench_command(space: Workspace, config: BenchConfig, compare: Path | str | None) -> str:
    """Return the `trtpoets bench` command for `config` and the earlier benchmark that it was compared with."""
    options = {
        "batch": list(config.batches),
        "seconds": config.min_seconds,
        "threads": config.threads,
        **{name: getattr(config, name) for name in _BENCH},
        "scenario": config.scenario or None,
        "target_qps": config.target_qps or None,
        "max_p99": config.max_p99_ms or None,
        "compare": None if compare is None else Path(compare),
    }
    return _command(space, "bench", [], options)


def bench_train_command(space: Workspace, config: TrainBenchConfig, weights: Path | str | None) -> str:
    """Return the `trtpoets bench --train` command for these learning rates, layers and weights."""
    rates, path = list(config.learning_rates), None if weights is None else Path(weights)
    unfreeze = None if config.unfreeze == ALL else config.unfreeze
    return _command(space, "bench", [], {"train": True, "learning_rate": rates, "unfreeze": unfreeze, "weights": path})


def _command(space: Workspace, verb: str, arguments: Sequence[Any], options: Mapping[str, object]) -> str:
    engines = space.engines if space.engines == DEFAULT_ENGINES else space.engines.absolute()
    return Workspace(engines, space.name).command(verb, *_words(arguments, options))


def _words(arguments: Sequence[Any], options: Mapping[str, object]) -> list[str]:
    words = [_word(argument) for argument in arguments]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if item is True:
                words.append(option)
            elif item is not None and item is not False:
                words += [option, _word(item)]
    return words


def _word(value: Any) -> str:
    if isinstance(value, Path):
        return str(user_path(value).absolute())
    return str(value.value if isinstance(value, Enum) else value)
