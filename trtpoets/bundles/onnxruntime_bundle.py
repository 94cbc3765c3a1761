"""A bundle for ONNX Runtime: what people without TensorRT take, and those who let ONNX Runtime drive it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtpoets.bundles.bundle_inputs import write_shared
from trtpoets.bundles.measured import best_row, fastest_precision
from trtpoets.bundles.vendored_runtime import copy_template, filled, model_words, write_runtime
from trtpoets.core.files import write_json, write_text
from trtpoets.core.onnx_file import UNWANTED_OPTIMIZERS
from trtpoets.core.provider_options import PROVIDERS, Providers, batch_range_for, providers_of
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.serialization import to_json
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


def onnxruntime_files(parts: Parts, folder: Path) -> None:
    """Write everything but the manifest into an empty folder. Raises StorageFailed."""
    write_shared(parts, folder)
    write_runtime(folder / "runtime" / "trtpoets", parts.version, _RUNTIME)
    for script in _SCRIPTS:
        copy_template(script, folder)
    settings = settings_from_parts(parts)
    write_json(folder / "settings.json", to_json(settings))
    write_text(folder / "README.md", _readme(parts, settings))


def settings_from_parts(parts: Parts) -> dict[str, Settings]:
    """How to open a session, by provider: "cpu", "cuda", "tensorrt"."""
    return {provider: _settings(parts, provider) for provider in _WAYS}


def _settings(parts: Parts, provider: str) -> Settings:
    precision, why = fastest_precision(parts, _WAYS[provider], _UNMEASURED[provider])
    best = best_row(parts, RunnerId(Library.ONNXRUNTIME, precision, _WAYS[provider]))
    batch = int(best["batch"]) if best else BatchRange().optimum
    threads = int(parts.measured["config"]["threads"]) if parts.measured and best else 0
    return Settings(
        precision=precision,
        why=why,
        batch=batch,
        session=SessionSettings(intra_op_num_threads=threads),
        config={"session.intra_op.allow_spinning": "1"},
        disabled_optimizers=tuple(UNWANTED_OPTIMIZERS),
        providers={each.value: _providers(parts, provider, each, batch) for each in parts.order},
    )


def _providers(parts: Parts, provider: str, precision: Precision, batch: int) -> Providers:
    """[name, options] of each provider; what one does not take, the next does."""
    return providers_of(PROVIDERS[provider], parts.model(precision), batch_range_for((batch,)), _BUILT)


def _readme(parts: Parts, settings: Mapping[str, Settings]) -> str:
    rows = [f"| `{name}` | {each.precision.value} | {each.why} |" for name, each in settings.items()]
    return filled(
        "onnxruntime/README.md",
        **model_words(parts),
        rows="\n".join(rows),
        precisions=", ".join(f"`{each.value}.onnx`" for each in parts.order),
        built=_BUILT,
    )
