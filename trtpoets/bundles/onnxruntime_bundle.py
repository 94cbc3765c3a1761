"""Writes the files of an ONNX Runtime bundle, for CPUs and for the CUDA and TensorRT execution providers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtpoets.bundles.bundle_inputs import write_shared
from trtpoets.bundles.measured import best_row, fastest_precision, ort_runner
from trtpoets.bundles.vendored_runtime import copy_template, filled, model_words, write_runtime
from trtpoets.core.files import write_json, write_text
from trtpoets.core.onnx_file import unwanted_optimizers
from trtpoets.core.provider_options import PROVIDERS, Providers, batch_range_for, providers_of
from trtpoets.core.reading import read_bytes
from trtpoets.core.runner_id import onnx_file_name
from trtpoets.core.serialization import to_json
from trtpoets.core.types import BatchRange, Precision

if TYPE_CHECKING:
    from pathlib import Path

    from trtpoets.bundles.bundle_inputs import BundleInputs
    from trtpoets.core.types import OnnxModel

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
    "cuda": (Precision.FP16, Precision.FP32),  # the CUDA provider computes Q/DQ pairs one by one, in float
    "tensorrt": (Precision.INT8, Precision.FP16, Precision.FP32),
}
"""The precisions to use without measurements on a GPU, in order of preference."""

_BUILT = "built/tensorrt"
"""The folder in the bundle where TensorRT engines are cached between runs; the manifest ignores it."""


_FORMS = (
    "\nINT8 has two files, because the runtimes fuse different graphs: `int8.cpu.onnx` for the CPU provider, which "
    "computes it in integers, and `int8.onnx` for the TensorRT provider, which reads its ranges. On a CPU `int8.onnx` "
    "is slower than `fp32.onnx`. Their scores differ a little; `golden/` has those of each.\n"
)
"""The paragraph of the README about the two files of INT8."""


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
    for each precision, ONNX Runtime's providers with their options, in the order of preference. `files` are the names
    of the files by precision.
    """

    precision: Precision
    why: str
    batch: int
    session: SessionSettings
    config: Mapping[str, str]
    disabled_optimizers: tuple[str, ...]
    providers: Mapping[str, Providers]
    files: Mapping[str, str]


def onnxruntime_files(inputs: BundleInputs, folder: Path) -> None:
    """Write all files except the manifest into an empty folder. Raises StorageFailed."""
    write_shared(inputs, folder)
    if inputs.cpu_form is not None:
        shutil.copyfile(inputs.cpu_form.path, folder / inputs.cpu_form.path.name)
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
    way = _WAYS[provider]
    # Most CPUs emulate FP16. The CPU form of INT8 is fast with AVX2 or NEON; TensorRT's is not fused on a CPU.
    cpu = (Precision.INT8, Precision.FP32) if inputs.cpu_form is not None else (Precision.FP32,)
    precision, why = fastest_precision(inputs, way, _UNMEASURED.get(provider, cpu))
    best = best_row(inputs, ort_runner(inputs, precision, way))
    files = {item: _file(inputs, provider, item) for item in inputs.order}
    batch = inputs.fixed_batch or (int(best["batch"]) if best else BatchRange().optimum)
    threads = int(inputs.measured["config"]["threads"]) if inputs.measured and best else 0
    return Settings(
        precision=precision,
        why=why,
        batch=batch,
        session=SessionSettings(intra_op_num_threads=threads),
        config={"session.intra_op.allow_spinning": "1"},
        disabled_optimizers=_disabled_optimizers([model.path for model in files.values()]),
        providers={item.value: _providers(inputs, provider, item, batch) for item in inputs.order},
        files={item.value: onnx_file_name(model.precision, model.form) for item, model in files.items()},
    )


def _file(inputs: BundleInputs, provider: str, precision: Precision) -> OnnxModel:
    """Return the ONNX file of a precision for a provider: INT8 on the CPU has a file of its own."""
    if provider == "cpu" and precision is Precision.INT8 and inputs.cpu_form is not None:
        return inputs.cpu_form
    return inputs.model(precision)


def _disabled_optimizers(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the optimizers that must be off for one of the files; settings.json has one list for each provider."""
    contents = map(read_bytes, files)
    return tuple(dict.fromkeys(name for content in contents for name in unwanted_optimizers(content)))


def _providers(inputs: BundleInputs, provider: str, precision: Precision, batch: int) -> Providers:
    """Return [name, options] of each execution provider; nodes that one does not support run on the next."""
    sizes = BatchRange(batch, batch, batch) if inputs.fixed_batch else batch_range_for((batch,))
    return providers_of(PROVIDERS[provider], inputs.model(precision), sizes, _BUILT)


def _readme(inputs: BundleInputs, settings: Mapping[str, Settings]) -> str:
    rows = [
        f"| `{name}` | {item.precision.value} | {item.why} | {', '.join(f'`{file}`' for file in item.files.values())} |"
        for name, item in settings.items()
    ]
    files = list(dict.fromkeys(file for item in settings.values() for file in item.files.values()))
    return filled(
        "onnxruntime/README.md",
        **model_words(inputs),
        batch=str(inputs.fixed_batch or "N"),
        rows="\n".join(rows),
        precisions=", ".join(f"`{file}`" for file in files),
        forms=_FORMS if inputs.cpu_form is not None else "",
        built=_BUILT,
    )
