"""A report -> where its numbers come from: the machine, the versions, the weights, and the commands that lead here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import joined, many, shown
from trtpoets.core.shell_commands import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_HEAD = (
    *("steps", "batch_size", "learning_rate", "optimizer", "l2", "label_smoothing", "class_weights", "early_stop"),
    "seed",
)
"""Of the head's configuration: what `retrain` has options for."""

_BENCH = ("min_seconds", "xla", "keras", "cpu", "scenario", "target_qps", "max_p99_ms", "loadgen")
"""Of a benchmark's configuration: what `bench` has options for, beside batch sizes and threads."""


def conditions_from_report(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Machine, versions and provenance, line by line."""
    now = report["conditions"]
    gpus = [gpu["name"] for gpu in now.get("gpus") or []]
    threads = (report["benchmark"].get("config") or {}).get("threads")
    jetson = now.get("jetson")
    lines = [
        ("when", now.get("time")),
        ("processor", f"{now.get('cpu')}, {many(now.get('cores') or 0, 'usable core')}"),
        ("threads", None if threads is None else "all cores" if threads == 0 else threads),
        ("memory", f"{now['memory_mib']:,} MiB" if now.get("memory_mib") else None),
        ("load at the start", ", ".join(str(value) for value in now.get("load") or [])),
        ("frequency governor", now.get("governor")),
        ("GPU", joined(gpus) or (f"{jetson['model']}, L4T {jetson['l4t']}" if jetson else "none")),
        ("power mode", (jetson or {}).get("power_mode")),
        *_gpus_before(now.get("gpu_state") or []),
        *_meanwhile(report["benchmark"].get("machine") or {}),
        ("energy is that of", (now.get("energy") or {}).get("covers")),
        ("waiting for the GPU", joined(sorted(set((now.get("gpu_wait") or {}).values())))),
        ("NVIDIA driver", now.get("nvidia_driver") or "none"),
        ("system", f"{now.get('os')}, Linux {now.get('kernel')}, Python {now.get('python')}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in (now.get("versions") or {}).items())),
        ("weights", (report["spec"] or {}).get("weights_id")),
    ]
    return [(what, str(value)) for what, value in lines if value]


def _gpus_before(states: Sequence[Mapping[str, Any]]) -> list[tuple[str, str | None]]:
    """How each GPU was before anything ran on it: limits, clocks, heat, and who else was there."""
    lines: list[tuple[str, str | None]] = []
    for number, state in enumerate(states):
        pairs = (("sm_mhz", "sm_mhz_most", "MHz"), ("power_w", "power_limit_w", "W"))
        told = [
            f"{state[now]:,.0f} of {state[most]:,.0f} {unit}"
            for now, most, unit in pairs
            if state.get(now) is not None and state.get(most) is not None
        ]
        told += [f"{state['temperature_c']:.0f} °C"] if state.get("temperature_c") is not None else []
        told += [f"throttled: {joined(state['throttled'])}"] if state.get("throttled") else []
        others = state.get("processes")
        told += [many(others, "other process", "other processes") + " on it"] if others else []
        lines.append((f"GPU {number} at the start", ", ".join(told)))
    return lines


def _meanwhile(machine: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """What the benchmark saw of clocks, heat and throttling while it measured."""
    throttled = machine.get("cpu_throttled")
    lines: list[tuple[str, str | None]] = [("cores throttled by heat", f"{throttled:,} times" if throttled else None)]
    for batch, state in (machine.get("gpu") or {}).items():
        units = {"sm_mhz_least": "MHz at least", "temperature_c_most": "°C at most", "power_w_most": "W at most"}
        told = []
        if state.get("sm_mhz_most") is not None:
            del units["sm_mhz_least"]
            told = [f"{state['sm_mhz_least']:,.0f} to {state['sm_mhz_most']:,.0f} MHz"]
        told += [f"{state[word]:,.0f} {unit}" for word, unit in units.items() if state.get(word) is not None]
        told += [f"throttled: {joined(state['throttled'])}"] if state.get("throttled") else []
        lines.append((f"GPU, batch {batch}", ", ".join(told)))
    return lines


def artefacts_from_report(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was benched, by name, with the hash of its content."""
    return [(shown(name), sha) for name, sha in (report["benchmark"].get("artefacts") or {}).items()]


def commands_from_report(report: Mapping[str, Any]) -> list[str]:
    """The command that was given, or else the ones that lead here."""
    if report["command"]:
        return [shown(report["command"])]
    name, recorded = quote(report["name"]), report.get("commands") or {}
    if not report["name"]:
        return []
    if not report["training"]:
        first = f"trtpoets pretrained {quote(report['backbone'])} --name {name}{_kept_in(report)}"
    else:
        first = f"trtpoets retrain {_photos(report)} --name {name}{_retrain_options(report)}{_kept_in(report)}"
    return [*map(shown, recorded.get("retrain") or [first]), *_stages(report, name, recorded)]


def _kept_in(report: Mapping[str, Any]) -> str:
    """The option that names the folder of all runs; empty where it is the default."""
    folder = report.get("engines_folder")
    return f" --engines {quote(folder)}" if folder else ""


def _photos(report: Mapping[str, Any]) -> str:
    return quote((report["dataset"] or {}).get("folder") or "PHOTOS")


def _retrain_options(report: Mapping[str, Any]) -> str:
    """Every option, as another version may have other defaults."""
    dataset, head = (report["dataset"] or {}).get("config") or {}, report["training"].get("config") or {}
    given = {
        "backbone": report["backbone"],
        "resize": (report["spec"].get("preprocess") or {}).get("resize"),
        **{word: dataset.get(word) for word in ("validation_percent", "test_percent", "strict")},
        **{word: head.get(word) for word in _HEAD},
    }
    return _options(given)


def _stages(report: Mapping[str, Any], name: str, recorded: Mapping[str, Sequence[str]]) -> list[str]:
    """The stages after training that have left something: as recorded, or as their configurations tell."""
    bench = report["benchmark"].get("config") or {}
    batches = "".join(f" --batch {quote(batch)}" for batch in bench.get("batches") or [])
    known = {"min_seconds": "seconds", "max_p99_ms": "max_p99"}
    options = {known.get(word, word): bench.get(word) or None for word in _BENCH} | {"threads": bench.get("threads")}
    trained = report.get("train_benchmark") or {}
    rates = "".join(f" --learning-rate {rate:g}" for rate in (trained.get("config") or {}).get("learning_rates") or [])
    told = {
        "export": [f"export {name}{_options({'opset': report.get('opset')})}"] if report["parity"] else [],
        "quantize": [f"quantize {name}{_quantised(report['quantisation'])}"] if report["quantisation"] else [],
        "build": [f"build {name}{options}" for options in _built(report["engines"])],
        "evaluate": [f"evaluate {name}{_gated(report['gate'])}"] if report["intervals"] else [],
        "bench": [f"bench {name}{batches}{_options(options)}"] if report["benchmarks"] else [],
        "bench train": [f"bench {name} --train{rates}"] if trained else [],
        "report": [f"report {name}"],
    }
    kept = _kept_in(report)
    lines = {stage: recorded.get(stage) or [f"trtpoets {each}{kept}" for each in made] for stage, made in told.items()}
    return [shown(line) for each in lines.values() for line in each]


def _quantised(notes: Mapping[str, Any]) -> str:
    """How the narrow ONNX files were made; INT8's notes say it, of both."""
    int8 = notes.get("int8") or {}
    calibration, config = int8.get("calibration") or {}, int8.get("config") or {}
    precisions = "".join(f" --precision {quote(precision)}" for precision in notes)
    return precisions + _options(
        {
            "method": calibration.get("asked"),
            "photos": calibration.get("photos"),
            "int8_share": config.get("int8_share"),
            "max_fp16_layers": config.get("max_float_layers"),
            "refit_head": bool(int8.get("head")),
            "seed": calibration.get("seed"),
        }
    )


def _built(engines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The options of `build`, once for all engines that were built alike."""
    alike: dict[str, list[str]] = {}
    for card in engines:
        # Those with a "+" are what is built for when nothing is asked for.
        targets = "".join(
            f" --target {quote(target)}" for target in sorted(card["targets"]) if not target.endswith("+")
        )
        batch = card.get("batch") or {}
        sizes = [str(batch[word]) for word in ("minimum", "optimum", "maximum") if word in batch]
        given = {
            "batch": ":".join(sizes) or None,
            "workspace": card.get("workspace_mib"),
            "optimization_level": card.get("optimization_level"),
            **{word: card.get(word) for word in ("version_compatible", "hardware_compatible")},
            "dla": card.get("dla_core"),
        }
        alike.setdefault(f" --flavour {quote(card['flavour'])}{targets}{_options(given)}", []).append(card["precision"])
    return ["".join(f" --precision {quote(each)}" for each in made) + options for options, made in alike.items()]


def _gated(gate: Mapping[str, Any] | None) -> str:
    config = gate["config"] if gate else {}
    runners = "".join(f" --runner {quote(runner)}" for runner in config.get("runners") or [])
    return _options({word: config.get(word) for word in ("max_drop", "min_agreement")}) + runners


def _options(given: Mapping[str, Any]) -> str:
    """As on a command line; what is None or off is left out."""
    words = [
        f" --{word.replace('_', '-')}" + ("" if value is True else f" {quote(value)}")
        for word, value in given.items()
        if value is not None and value is not False
    ]
    return "".join(words)
