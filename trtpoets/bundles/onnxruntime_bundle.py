"""Writes the files of an ONNX Runtime bundle, for CPUs and for the CUDA and TensorRT execution providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtpoets.bundles.bundle_inputs import write_shared
from trtpoets.bundles.measured import best_row, fastest_precision
from trtpoets.bundles.vendored_runtime import copy_template, filled, model_words, write_runtime
from trtpoets.core.files import write_json, write_text
from trtpoets.core.onnx_file import unwanted_optimizers
from trtpoets.core.provider_options import PROVIDERS, Providers, batch_range_for, providers_of
from trtpoets.core.reading import read_bytes
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.serialization import to_json
from trtpoets.core.types import BatchRange, Precision

if TYPE_CHECKING:
    from pathlib import Path

    from trtpoets.bundles.bundle_inputs import BundleInputs

_RUNTIME = ("core", "device", "judge")
"""The subpackages that the scripts use: preprocessing of photos, and the check of the golden photos."""

_SCRIPTS = (
    "onnxruntime/classify.py",
    "onnxruntime/selftest.py",
    "common/photo_lines.py",
    "common/golden_test.py",
    "common/checked.py",
)

_WAYS = {"cpu": "", "cuda": "cuda", "tensorrt": "tensorrt"}
"""The `way` in a RunnerId for each provider."""

_UNMEASURED = {
    "cpu": (Precision.FP32,),  # most CPUs emulate FP16, and INT8 needs special instructions
    "cuda": (Precision.FP16, Precision.FP32),  # the CUDA provider computes Q/DQ pairs one by one, in float
    "tensorrt": (Precision.INT8, Precision.FP16, Precision.FP32),
}
"""The precisions to use without measurements, in order of preference."""

_BUILT = "built/tensorrt"
"""The folder in the bundle where TensorRT engines are cached between runs; the manifest ignores it."""


@dataclass(frozen=True)
class SessionSettings:
    """Options of a session of ONNX Runtime, by their names there."""

    graph_optimization_level: str = "ORT_ENABLE_ALL"
    execution_mode: str = "ORT_SEQUENTIAL"
    intra_op_num_threads: int = 0


@dataclass(frozen=True)
class Settings:
    """How to open a session with one provider, as settings.json has it.

    `precision` is the one to use, `why` says why, `batch` is the batch size with the most photos/s. `providers` are,
    for each precision, ONNX Runtime's providers with their options, in the order of preference.
    """

    precision: Precision
    why: str
    batch: int
    session: SessionSettings
    config: Mapping[str, str]
    disabled_optimizers: tuple[str, ...]
    providers: Mapping[str, Providers]


def onnxruntime_files(inputs: BundleInputs, folder: Path) -> None:
    """Write all files except the manifest into an empty folder. Raises StorageFailed."""
    write_shared(inputs, folder)
    write_runtime(folder / "runtime" / "trtpoets", inputs.version, _RUNTIME)
    for script in _SCRIPTS:
        copy_template(script, folder)
    settings = settings_from_inputs(inputs)
    write_json(folder / "settings.json", to_json(settings))
    write_text(folder / "README.md", _readme(inputs, settings))


def settings_from_inputs(inputs: BundleInputs) -> dict[str, Settings]:
    """How to open a session, by provider: "cpu", "cuda", "tensorrt"."""
    return {provider: _settings(inputs, provider) for provider in _WAYS}


def _settings(inputs: BundleInputs, provider: str) -> Settings:
    precision, why = fastest_precision(inputs, _WAYS[provider], _UNMEASURED[provider])
    best = best_row(inputs, RunnerId(Library.ONNXRUNTIME, precision, _WAYS[provider]))
    batch = inputs.fixed_batch or (int(best["batch"]) if best else BatchRange().optimum)
    threads = int(inputs.measured["config"]["threads"]) if inputs.measured and best else 0
    return Settings(
        precision=precision,
        why=why,
        batch=batch,
        session=SessionSettings(intra_op_num_threads=threads),
        config={"session.intra_op.allow_spinning": "1"},
        disabled_optimizers=_disabled_optimizers(inputs),
        providers={item.value: _providers(inputs, provider, item, batch) for item in inputs.order},
    )


def _disabled_optimizers(inputs: BundleInputs) -> tuple[str, ...]:
    """Return the optimizers that must be off for one of the bundle's files; settings.json has one list for all."""
    contents = (read_bytes(inputs.model(item).path) for item in inputs.order)
    return tuple(dict.fromkeys(name for content in contents for name in unwanted_optimizers(content)))


def _providers(inputs: BundleInputs, provider: str, precision: Precision, batch: int) -> Providers:
    """Return [name, options] of each execution provider; nodes that one does not support run on the next."""
    sizes = BatchRange(batch, batch, batch) if inputs.fixed_batch else batch_range_for((batch,))
    return providers_of(PROVIDERS[provider], inputs.model(precision), sizes, _BUILT)


def _readme(inputs: BundleInputs, settings: Mapping[str, Settings]) -> str:
    rows = [f"| `{name}` | {item.precision.value} | {item.why} |" for name, item in settings.items()]
    return filled(
        "onnxruntime/README.md",
        **model_words(inputs),
        batch=str(inputs.fixed_batch or "N"),
        rows="\n".join(rows),
        precisions=", ".join(f"`{item.value}.onnx`" for item in inputs.order),
        built=_BUILT,
    )
