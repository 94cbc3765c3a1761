"""A bundle for ONNX Runtime: what people without TensorRT take, and those who let ONNX Runtime drive it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.bundles.bundle_inputs import write_shared
from trtpoets.bundles.measured import best_row, fastest_precision
from trtpoets.bundles.vendored_runtime import copy_template, filled, model_words, write_runtime
from trtpoets.core.files import write_json, write_text
from trtpoets.core.onnx_file import UNWANTED_OPTIMIZERS
from trtpoets.core.provider_options import PROVIDERS, batch_range_for, providers_of
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.types import BatchRange, Precision

if TYPE_CHECKING:
    from pathlib import Path

    from trtpoets.bundles.bundle_inputs import Parts

_RUNTIME = ("core", "device", "judge")
"""What the scripts use of this package: the one way to prepare photos, and the golden photos' check."""

_SCRIPTS = (
    "onnxruntime/classify.py",
    "onnxruntime/selftest.py",
    "common/photo_lines.py",
    "common/golden_test.py",
    "common/checked.py",
)

_WAYS = {"cpu": "", "cuda": "cuda", "tensorrt": "tensorrt"}
"""The way of each provider in the identity of a runner."""

_UNMEASURED = {
    "cpu": (Precision.FP32,),  # FP16 is emulated on most CPUs, and INT8 helps where there are instructions for it
    "cuda": (Precision.FP16, Precision.FP32),  # INT8 pairs are computed in float, one by one
    "tensorrt": (Precision.INT8, Precision.FP16, Precision.FP32),
}
"""What to take where nothing was measured, the best first."""

_BUILT = "built/tensorrt"
"""Where TensorRT's engines are kept between runs, below the bundle: a folder that the manifest leaves to the device."""


def onnxruntime_files(parts: Parts, folder: Path) -> None:
    """Write everything but the manifest into an empty folder. Raises StorageFailed."""
    write_shared(parts, folder)
    write_runtime(folder / "runtime" / "trtpoets", parts.version, _RUNTIME)
    for script in _SCRIPTS:
        copy_template(script, folder)
    settings = settings_from_parts(parts)
    write_json(folder / "settings.json", settings)
    write_text(folder / "README.md", _readme(parts, settings))


def settings_from_parts(parts: Parts) -> dict[str, Any]:
    """How to open a session, by provider: "cpu", "cuda", "tensorrt".

    Each has the precision to use and `why`, the batch size that did most, options of the session, the optimizers to
    leave out, and for each precision ONNX Runtime's providers with their options, in the order of preference.
    """
    return {provider: _settings(parts, provider) for provider in _WAYS}


def _settings(parts: Parts, provider: str) -> dict[str, Any]:
    precision, why = fastest_precision(parts, _WAYS[provider], _UNMEASURED[provider])
    best = best_row(parts, RunnerId(Library.ONNXRUNTIME, precision, _WAYS[provider]))
    batch = int(best["batch"]) if best else BatchRange().optimum
    threads = int(parts.measured["config"]["threads"]) if parts.measured and best else 0
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
        "providers": {each.value: _providers(parts, provider, each, batch) for each in parts.order},
    }


def _providers(parts: Parts, provider: str, precision: Precision, batch: int) -> list[list[Any]]:
    """[name, options] of each provider; what one does not take, the next does."""
    found = providers_of(PROVIDERS[provider], parts.model(precision), batch_range_for((batch,)), _BUILT)
    return [[name, options] for name, options in found]


def _readme(parts: Parts, settings: dict[str, Any]) -> str:
    rows = [f"| `{name}` | {each['precision']} | {each['why']} |" for name, each in settings.items()]
    return filled(
        "onnxruntime/README.md",
        **model_words(parts),
        rows="\n".join(rows),
        precisions=", ".join(f"`{each.value}.onnx`" for each in parts.order),
        built=_BUILT,
    )
