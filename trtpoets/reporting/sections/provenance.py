"""Where the numbers of a report come from: the machine, the versions, the weights, and the commands of the stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.fine_tuning import ALL
from trtpoets.core.formatting import joined, many, shown
from trtpoets.core.serialization import to_json
from trtpoets.core.shell_commands import quote
from trtpoets.judge.bench.benchmark import Throttling
from trtpoets.judge.bench.conditions import Conditions
from trtpoets.reporting.model import DatasetOptions
from trtpoets.reporting.sections.adoption_section import adoption_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.judge.bench.bench_config import BenchConfig
    from trtpoets.judge.bench.conditions import GpuState
    from trtpoets.judge.gate import Gate
    from trtpoets.reporting.sections.adoption_section import adoption_rows
from trtpoets.reporting.model import EngineEntry, Quantisation, Report

_HEAD = (
    *("steps", "batch_size", "learning_rate", "optimizer", "l2", "label_smoothing", "class_weights", "early_stop"),
    "seed",
)
"""The fields of the head's configuration that `retrain` has options for."""


def conditions_from_report(report: Report) -> list[tuple[str, str]]:
    """Return machine, versions and weights as (what, value) lines; those that are not known are left out."""
    now, config = report.conditions or Conditions(), report.benchmark.config
    gpus = [gpu.get("name", "") for gpu in now.gpus]
    jetson = now.jetson
    has_conditions = report.conditions is not None
    gpu = joined(gpus) or (f"{jetson.model}, L4T {jetson.l4t}" if jetson else "none")
    lines: list[tuple[str, object]] = [
        ("when", now.time),
        ("processor", has_conditions and f"{now.cpu}, {many(now.cores or 0, 'usable core')}"),
        ("threads", None if config is None else "all cores" if config.threads == 0 else config.threads),
        ("memory", f"{now.memory_mib:,} MiB" if now.memory_mib else None),
        ("load at the start", ", ".join(map(str, now.load))),
        ("frequency governor", now.governor),
        ("GPU", has_conditions and gpu),
        ("power mode", jetson and jetson.power_mode),
        *_gpus_before(now.gpu_state),
        *_during_benchmark(report.benchmark.machine or Throttling()),
        ("energy is that of", now.energy and now.energy.covers),
        ("waiting for the GPU", joined(sorted(set(now.gpu_wait.values())))),
        ("NVIDIA driver", has_conditions and (now.nvidia_driver or "none")),
        ("system", has_conditions and f"{now.os}, Linux {now.kernel}, Python {now.python}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in now.versions.items())),
        ("weights", report.spec and report.spec.weights_id),
        *(adoption_rows(report.spec) if report.spec else []),
    ]
    return [(what, str(value)) for what, value in lines if value]


def _gpus_before(states: Sequence[GpuState]) -> list[tuple[str, str]]:
    """Return the state of each GPU before the benchmark: limits, clocks, temperature, and other processes."""
    lines = []
    for number, state in enumerate(states):
        pairs = ((state.sm_mhz, state.sm_mhz_most, "MHz"), (state.power_w, state.power_limit_w, "W"))
        parts = [
            f"{now:,.0f} of {most:,.0f} {unit}" for now, most, unit in pairs if now is not None if most is not None
        ]
        parts += [f"{state.temperature_c:.0f} °C"] if state.temperature_c is not None else []
        parts += [f"throttled: {joined([*state.throttled])}"] if state.throttled else []
        parts += [many(state.processes, "other process", "other processes") + " on it"] if state.processes else []
        lines.append((f"GPU {number} at the start", ", ".join(parts)))
    return lines


def _during_benchmark(machine: Throttling) -> list[tuple[str, str | None]]:
    """Return clocks, temperatures and throttling during the benchmark."""
    throttled = machine.cpu_throttled
    lines: list[tuple[str, str | None]] = [("cores throttled by heat", f"{throttled:,} times" if throttled else None)]
    for batch, state in machine.gpu.items():
        parts = []
        if state.sm_mhz_least is not None:
            most = state.sm_mhz_most
            parts = [f"{state.sm_mhz_least:,.0f} " + ("MHz at least" if most is None else f"to {most:,.0f} MHz")]
        heat = ((state.temperature_c_most, "°C at most"), (state.power_w_most, "W at most"))
        parts += [f"{value:,.0f} {unit}" for value, unit in heat if value is not None]
        parts += [f"throttled: {joined([*state.throttled])}"] if state.throttled else []
        lines.append((f"GPU, batch {batch}", ", ".join(parts)))
    return lines


def artefacts_from_report(report: Report) -> list[tuple[str, str]]:
    """Return the measured files by name, with the hash of their content."""
    return [(shown(name), sha) for name, sha in (report.benchmark.artefacts or {}).items()]


def commands_from_report(report: Report) -> list[str]:
    """Return the command that was given, or else the commands of the stages."""
    if report.command:
        return [shown(report.command)]
    if not report.name:
        return []
    name = quote(report.name)
    if not report.training:
        first = f"trtpoets pretrained {quote(report.backbone)} --name {name}{_engines_option(report)}"
    else:
        first = f"trtpoets retrain {_photos(report)} --name {name}{_retrain_options(report)}{_engines_option(report)}"
    return [*map(shown, report.commands.get("retrain") or [first]), *_stages(report, name)]


def _engines_option(report: Report) -> str:
    """Return the option for the folder of all runs; "" if it is the default one."""
    return f" --engines {quote(report.engines_folder)}" if report.engines_folder else ""


def _photos(report: Report) -> str:
    return quote((report.dataset and report.dataset.folder) or "PHOTOS")


def _retrain_options(report: Report) -> str:
    """Return all options of `retrain`, because another version may have other defaults."""
    dataset = (report.dataset and report.dataset.config) or DatasetOptions()
    head = to_json(report.training.config) if report.training else {}
    return _options(
        {
            "backbone": report.backbone,
            "resize": report.spec and report.spec.preprocess.resize.value,
            **{name: getattr(dataset, name) for name in ("validation_percent", "test_percent", "strict")},
            **{name: head.get(name) for name in _HEAD},
        }
    )


def _stages(report: Report, name: str) -> list[str]:
    """Return the commands of the stages after training: as recorded, or derived from their configurations."""
    trained = report.train_benchmark
    training = "".join(f" --learning-rate {rate:g}" for rate in trained.config.learning_rates) if trained else ""
    if trained and trained.config.unfreeze != ALL:
        training += f" --unfreeze {trained.config.unfreeze}"
    notes = report.quantisation
    from_configurations = {
        "export": [f"export {name}{_options({'opset': report.opset})}"] if report.parity else [],
        "quantize": [f"quantize {name}{_quantised(notes)}"] if notes.fp16 or notes.int8 else [],
        "build": [f"build {name}{options}" for options in _built(report.engines)],
        "evaluate": [f"evaluate {name}{_gated(report.gate)}"] if report.intervals else [],
        "bench": [f"bench {name}{_benched(report.benchmark.config)}"] if report.benchmarks else [],
        "bench train": [f"bench {name} --train{training}"] if trained else [],
        "report": [f"report {name}"],
    }
    engines_option = _engines_option(report)
    return [
        shown(line)
        for stage, commands in from_configurations.items()
        for line in report.commands.get(stage) or [f"trtpoets {command}{engines_option}" for command in commands]
    ]


def _benched(config: BenchConfig | None) -> str:
    if config is None:
        return ""
    batches = "".join(f" --batch {quote(batch)}" for batch in config.batches)
    return batches + _options(
        {
            "seconds": config.min_seconds or None,
            "xla": config.xla,
            "keras": config.keras,
            "cpu": config.cpu,
            "scenario": config.scenario or None,
            "target_qps": config.target_qps or None,
            "max_p99": config.max_p99_ms or None,
            "loadgen": config.loadgen,
            "threads": config.threads,
        }
    )


def _quantised(notes: Quantisation) -> str:
    """Return the options of `quantize`; the notes on INT8 record them for FP16 too."""
    precisions = "".join(f" --precision {name}" for name, part in (("fp16", notes.fp16), ("int8", notes.int8)) if part)
    calibration, config = (notes.int8.calibration, notes.int8.config) if notes.int8 else (None, None)
    return precisions + _options(
        {
            "method": calibration and calibration.asked,
            "photos": calibration and calibration.photos,
            "int8_share": config and config.int8_share,
            "max_fp16_layers": config and config.max_float_layers,
            "refit_head": bool(notes.int8 and notes.int8.head),
            "distill": bool(notes.int8 and notes.int8.distilled),
            "seed": calibration and calibration.seed,
        }
    )


def _built(engines: Sequence[EngineEntry]) -> list[str]:
    """Return the options of `build`, once for all engines with the same options."""
    by_options: dict[str, list[str]] = {}
    for engine in engines:
        # Targets with a "+" are the default targets.
        targets = "".join(f" --target {quote(target)}" for target in sorted(engine.targets) if not target.endswith("+"))
        batch = engine.batch
        given = {
            "batch": batch and f"{batch.minimum}:{batch.optimum}:{batch.maximum}",
            "workspace": engine.workspace_mib,
            "optimization_level": engine.optimization_level,
            "version_compatible": engine.version_compatible,
            "hardware_compatible": engine.hardware_compatible,
            "dla": engine.dla_core,
        }
        precision = engine.runner.precision.value if engine.runner.precision else ""
        by_options.setdefault(f" --flavour {quote(engine.flavour)}{targets}{_options(given)}", []).append(precision)
    return ["".join(f" --precision {quote(name)}" for name in names) + options for options, names in by_options.items()]


def _gated(gate: Gate | None) -> str:
    if gate is None:
        return ""
    runners = "".join(f" --runner {quote(runner)}" for runner in gate.config.runners)
    return _options({"max_drop": gate.config.max_drop, "min_agreement": gate.config.min_agreement}) + runners


def _options(given: Mapping[str, object]) -> str:
    """Return options as on a command line; those that are None or False are left out."""
    words = [
        f" --{name.replace('_', '-')}" + ("" if value is True else f" {quote(value)}")
        for name, value in given.items()
        if value is not None and value is not False
    ]
    return "".join(words)
