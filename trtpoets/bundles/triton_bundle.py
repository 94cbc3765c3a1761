"""Writes the files of a Triton bundle: model repositories, scripts, and a capacity table."""

from __future__ import annotations

import math
import re
import shlex
import shutil
from typing import TYPE_CHECKING

from trtpoets.bundles.measured import best_rate, best_row, fastest_precision, where
from trtpoets.bundles.triton_config import (
    WARM_UP,
    Batching,
    batching_from_inputs,
    cpu_config,
    onnx_config,
    tensorrt_config,
)
from trtpoets.bundles.trtexec_options import type_options
from trtpoets.bundles.vendored_runtime import copy_template, filled, model_words, write_runtime
from trtpoets.core.console import labels_text
from trtpoets.core.files import sha256_of_file, write_text
from trtpoets.core.model_json import write_model_json
from trtpoets.core.runner_id import Library, RunnerId, engine_runner
from trtpoets.core.shell_commands import quote
from trtpoets.core.types import BatchRange, Engine, Flavour, Precision
from trtpoets.judge.golden import write_golden

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtpoets.bundles.bundle_inputs import BundleInputs

RELEASE = "25.06"
"""The release of NVIDIA's Triton images that the bundle uses."""

_TENSORRT = "10.11"
"""The TensorRT version of that release."""

_IMAGE = f"nvcr.io/nvidia/tritonserver:{RELEASE}-py3"

_REPOSITORY = "model_repository"
"""The folder of model repositories, one per model, so that Triton loads only the chosen models."""

_UNBUILT = "to_build"
"""The folder of models without a plan, which `build-plans` builds on the server. Triton does not start with them."""

_FILLED = ("serve", "build-plans", "measure")

_COPIED = (
    "triton/client.py",
    "triton/selftest.py",
    "triton/refusals.py",
    "common/photo_lines.py",
    "common/checked.py",
)

_MAX_NAME = 40
"""Maximum length of a name: Kubernetes allows 63 characters, and KServe appends a suffix."""

_LOADS = (100, 1000, 10_000)
"""Loads in photos per second for which the capacity table lists the number of machines."""

_UTILISATION = 0.7
"""The planned utilisation of a machine; above it queues grow and latency rises."""


def triton_files(inputs: BundleInputs, folder: Path) -> None:
    """Write all files except the manifest into an empty folder. Raises StorageFailed."""
    write_model_json(inputs.spec, folder)
    write_text(folder / "labels.txt", labels_text(inputs.spec.labels))
    write_golden(inputs.golden, folder / "golden")
    write_runtime(folder / "runtime" / "trtpoets", inputs.version, ("core",))
    for precision in inputs.order:
        _write_onnx_model(inputs, precision, folder / _REPOSITORY)
        _write_tensorrt_model(inputs, precision, folder)
    for template in _COPIED:
        copy_template(template, folder)
    placeholders = _placeholders(inputs)
    for script in _FILLED:
        write_text(folder / script, filled(f"triton/{script}", **placeholders))
        (folder / script).chmod(0o755)
    for page in ("kserve.yaml", "README.md"):
        write_text(folder / page, filled(f"triton/{page}", **placeholders))


def next_with_triton(out: Path) -> tuple[str, ...]:
    """Return the next commands for a machine with a GPU; README.md has those for a CPU."""
    ports = "-p 127.0.0.1:8000:8000 -p 127.0.0.1:8001:8001 -e LISTEN=0.0.0.0"
    run = f'docker run -d --gpus all {ports} --user 1000:1000 -v "$PWD:/bundle" {_IMAGE} /bundle/serve'
    return f"cd {quote(out)} && {run}", "python3 selftest.py"


def model_name(inputs: BundleInputs, kind: str, precision: Precision) -> str:
    """Return the name of a model in Triton, such as "flowers_onnx_int8": only letters, digits and _."""
    return f"{_slug(inputs.spec.name, '_')}_{kind}_{precision.value}"


def _slug(name: str, between: str) -> str:
    """Return a name that is valid in Triton URLs and in Kubernetes: lower case, starting with a letter, short."""
    plain = re.sub(r"[^a-z0-9]+", between, name.lower()).strip(between)[:_MAX_NAME].strip(between)
    return plain if plain[:1].isalpha() else f"model{between}{plain}".strip(between)


def _write_onnx_model(inputs: BundleInputs, precision: Precision, repository: Path) -> None:
    model, name = inputs.model(precision), model_name(inputs, "onnx", precision)
    folder = repository / name / name
    _write_common(inputs, folder)
    version = folder / "1"
    version.mkdir()
    shutil.copyfile(model.path, version / "model.onnx")
    on_gpu = batching_from_inputs(inputs, RunnerId(Library.ONNXRUNTIME, precision, "tensorrt"), BatchRange())
    on_cpu = batching_from_inputs(inputs, RunnerId(Library.ONNXRUNTIME, precision), BatchRange())
    # Cached engines are found by name; the hash of the ONNX file in it excludes engines of other networks.
    prefix = f"{name}_{sha256_of_file(model.path)[:12]}"
    write_text(folder / "config.pbtxt", onnx_config(inputs, name, precision, prefix, on_gpu))
    write_text(folder / "configs" / "cpu.pbtxt", cpu_config(inputs, name, on_cpu))


def _write_tensorrt_model(inputs: BundleInputs, precision: Precision, out: Path) -> None:
    """Write the model with its plan if an engine was built on this machine; else without it, for `build-plans`."""
    engine, name = _engine_of(inputs, precision), model_name(inputs, "tensorrt", precision)
    folder = out / _REPOSITORY / name / name if engine else out / _UNBUILT / name
    _write_common(inputs, folder)
    batching = _tensorrt_batching(inputs, precision)
    write_text(folder / "config.pbtxt", tensorrt_config(inputs, name, batching))
    if engine:
        (folder / "1").mkdir()
        shutil.copyfile(engine.path, folder / "1" / "model.plan")


def _tensorrt_batching(inputs: BundleInputs, precision: Precision) -> Batching:
    """Return the batching of the packed engine, or of the one that `build-plans` creates."""
    engine = _engine_of(inputs, precision)
    if engine is None:
        return batching_from_inputs(inputs, RunnerId(Library.TENSORRT, precision), BatchRange())
    return batching_from_inputs(inputs, engine_runner(engine.card, precision), engine.card.batch)


def _write_common(inputs: BundleInputs, folder: Path) -> None:
    write_text(folder / "labels.txt", labels_text(inputs.spec.labels))
    (folder / "warmup").mkdir()
    (folder / "warmup" / WARM_UP).write_bytes(inputs.golden.photos[0].pixels.tobytes())


def _engine_of(inputs: BundleInputs, precision: Precision) -> Engine | None:
    """Return the TensorRT engine of a precision that Triton can serve; None if there is none.

    Engines for TensorRT-RTX, for a DLA, and with a minimum batch size above 1 are excluded.
    """
    cards = ((engine, engine.card) for engine in inputs.engines if engine.card.precision is precision)
    return next(
        (
            engine
            for engine, card in cards
            if card.flavour is Flavour.TENSORRT and card.dla_core is None and card.batch.minimum == 1
        ),
        None,
    )


def _placeholders(inputs: BundleInputs) -> dict[str, object]:
    """Return the placeholders of the templates and their values."""
    spec, first = inputs.spec, inputs.order[0]
    on_cpu, _ = fastest_precision(inputs, "", (Precision.FP32,))
    batching = _tensorrt_batching(inputs, first)
    return {
        **model_words(inputs),
        "service": _slug(spec.name, "-"),
        "folder": shlex.quote(f"{spec.name}-triton"),
        "release": RELEASE,
        "prefix": _slug(spec.name, "_"),
        "order": " ".join(precision.value for precision in inputs.order),
        "onnx": model_name(inputs, "onnx", first),
        "tensorrt": model_name(inputs, "tensorrt", first),
        "cpu": model_name(inputs, "onnx", on_cpu),
        "shapes": inputs.trtexec_shapes(),
        "int8_types": _int8_types(inputs),
        "target": 2 * batching.best,
        "most": 4 * batching.largest,
        "best": batching.best,
        "plans": _plans(inputs),
        "scaling": _scaling(inputs),
    }


def _int8_types(inputs: BundleInputs) -> str:
    """Return the precision options of `trtexec` for INT8."""
    model = next((model for model in inputs.models if model.precision is Precision.INT8), None)
    return "--stronglyTyped" if model is None else type_options(model, _TENSORRT)


def _plans(inputs: BundleInputs) -> str:
    """Return table rows: which models have a plan, and for which GPU and TensorRT version."""
    rows = []
    for precision in inputs.order:
        name, engine = model_name(inputs, "tensorrt", precision), _engine_of(inputs, precision)
        if engine is None:
            rows.append(f"| `{name}` | no; run `./build-plans` on the server |")
            continue
        card = engine.card
        gpus = "any GPU from Ampere on" if card.hardware_compatible else card.gpu or ", ".join(card.targets)
        rows.append(
            f"| `{name}` | built for {gpus} with TensorRT {card.tensorrt_version}; Triton must use the same version |"
        )
    return "\n".join(rows)


def _scaling(inputs: BundleInputs) -> str:
    """Return the capacity table: for each measured runner its speed, and the number of machines for each load."""
    rows = []
    for runner in _served(inputs):
        row, rate = best_row(inputs, runner), best_rate(inputs, runner)
        if row is not None and rate is not None:
            needed = " | ".join(f"{math.ceil(load / (_UTILISATION * rate)):,}" for load in _LOADS)
            rows.append(f"| {runner.name} | {row['batch']} | {rate:,.0f} | {row['p50_ms']:.2f} | {needed} |")
    if not rows:
        return "There are no measurements to plan with: run `trtpoets bench`, then create the bundle again."
    loads = " | ".join(f"for {load:,}/s" for load in _LOADS)
    head = f"| runner | batch | photos/s | median, ms | {loads} |\n|---|---|---|---|{'---|' * len(_LOADS)}\n"
    return (
        f"Measured with `trtpoets bench` {where(inputs)}, in one process, without Triton and without a network. The "
        f"last columns are the number of such machines for each load, at {_UTILISATION:.0%} utilisation.\n\n{head}"
    ) + "\n".join(rows)


def _served(inputs: BundleInputs) -> Iterator[RunnerId]:
    """Yield the runners for each precision, in the bundle's order: its engine, then the ONNX Runtime providers."""
    for precision in inputs.order:
        engine = _engine_of(inputs, precision)
        yield engine_runner(engine.card, precision) if engine else RunnerId(Library.TENSORRT, precision)
        yield from (RunnerId(Library.ONNXRUNTIME, precision, way) for way in ("tensorrt", "cuda", ""))
