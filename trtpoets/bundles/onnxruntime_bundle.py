"""Writes the files of an ONNX Runtime bundle, for CPUs and for the CUDA and TensorRT execution providers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.bundles.bundle_inputs import write_shared
from trtpoets.bundles.measured import best_row, fastest_precision
from trtpoets.bundles.vendored_runtime import copy_template, filled, model_words, write_runtime
from trtpoets.core.files import write_json, write_text
from trtpoets.core.onnx_file import UNWANTED_OPTIMIZERS
from trtpoets.core.provider_options import PROVIDERS, providers_of, range_for
from trtpoets.core.runner_id import Library, RunnerId
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


def onnxruntime_files(inputs: BundleInputs, folder: Path) -> None:
    """Write all files except the manifest into an empty folder. Raises StorageFailed."""
    write_shared(inputs, folder)
    write_runtime(folder / "runtime" / "trtpoets", inputs.version, _RUNTIME)
    for script in _SCRIPTS:
        copy_template(script, folder)
    settings = settings_from_inputs(inputs)
    write_json(folder / "settings.json", settings)
    write_text(folder / "README.md", _readme(inputs, settings))


def settings_from_inputs(inputs: BundleInputs) -> dict[str, Any]:
    """Return how to open a session, for each provider: "cpu", "cuda", "tensorrt".

    Each entry has the precision to use and `why`, the fastest batch size, the session options, the optimizers to
    disable, and for each precision ONNX Runtime's execution providers with options, in order of preference.
    """
    return {provider: _settings(inputs, provider) for provider in _WAYS}


def _settings(inputs: BundleInputs, provider: str) -> dict[str, Any]:
    precision, why = fastest_precision(inputs, _WAYS[provider], _UNMEASURED[provider])
    best = best_row(inputs, RunnerId(Library.ONNXRUNTIME, precision, _WAYS[provider]))
    batch = int(best["batch"]) if best else BatchRange().optimum
    threads = int(inputs.measured["config"]["threads"]) if inputs.measured and best else 0
    return {
        "precision": precision.value,
        "why": why,
        "batch": batch,
        "session": {
            "graph_optimization_level": "ORT_ENABLE_ALL",
            "execution_mode": "ORT_SEQUENTIAL",
            "intra_op_num_threads": threads,
        },
        "config": {"session.intra_op.allow_spinning": "1"},
        "disabled_optimizers": list(UNWANTED_OPTIMIZERS),
        "providers": {item.value: _providers(inputs, provider, item, batch) for item in inputs.order},
    }


def _providers(inputs: BundleInputs, provider: str, precision: Precision, batch: int) -> list[list[Any]]:
    """Return [name, options] of each execution provider; nodes that one does not support run on the next."""
    providers = providers_of(PROVIDERS[provider], inputs.model(precision), range_for((batch,)), _BUILT)
    return [[name, options] for name, options in providers]


def _readme(inputs: BundleInputs, settings: dict[str, Any]) -> str:
    rows = [f"| `{name}` | {setting['precision']} | {setting['why']} |" for name, setting in settings.items()]
    return filled(
        "onnxruntime/README.md",
        **model_words(inputs),
        rows="\n".join(rows),
        precisions=", ".join(f"`{item.value}.onnx`" for item in inputs.order),
        built=_BUILT,
    )
