"""A bundle for Triton: a model repository, scripts that serve, check, ask and measure it, and how it scales."""

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
    batching_from_parts,
    cpu_config,
    onnx_config,
    tensorrt_config,
)
from trtpoets.bundles.trtexec_options import type_options
from trtpoets.bundles.vendored_runtime import copy_template, filled, model_words, write_runtime
from trtpoets.core.console import labels_text
from trtpoets.core.files import sha256_of_file, write_text
from trtpoets.core.runner_id import Library, RunnerId, engine_runner
from trtpoets.core.shell_commands import quote
from trtpoets.core.types import BatchRange, Engine, Flavour, Precision
from trtpoets.judge.golden import write_golden

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtpoets.bundles.bundle_inputs import Parts

RELEASE = "25.06"
"""The release of NVIDIA's images that the bundle names: of Triton, and of the TensorRT that builds plans for it."""

_TENSORRT = "10.11"
"""The TensorRT of that release."""

_IMAGE = f"nvcr.io/nvidia/tritonserver:{RELEASE}-py3"

_REPOSITORY = "model_repository"
"""The folder of repositories, one for each model, so that Triton is shown the chosen models and no others."""

_UNBUILT = "to_build"
"""Models whose engine has to be built on the server: all but the plan. Triton would not start with them in sight."""

_FILLED = ("serve", "build-plans", "measure")

_COPIED = (
    "triton/client.py",
    "triton/selftest.py",
    "triton/refusals.py",
    "common/photo_lines.py",
    "common/checked.py",
)

_LONGEST = 40
"""Characters of a name: Kubernetes takes 63, and KServe adds to it."""

_LOADS = (100, 1000, 10_000)
"""Photos a second to say the number of machines for."""

_BUSY = 0.7
"""The share of a machine's throughput to plan with: beyond it queues grow, and answers are late."""


def triton_files(parts: Parts, folder: Path) -> None:
    """Write everything but the manifest into an empty folder. Raises StorageFailed."""
    write_text(folder / "model.json", parts.spec.to_json() + "\n")
    write_text(folder / "labels.txt", labels_text(parts.spec.labels))
    write_golden(parts.golden, folder / "golden")
    write_runtime(folder / "runtime" / "trtpoets", parts.version, ("core",))
    for precision in parts.order:
        _write_onnx_model(parts, precision, folder / _REPOSITORY)
        _write_tensorrt_model(parts, precision, folder)
    for template in _COPIED:
        copy_template(template, folder)
    words = _words(parts)
    for script in _FILLED:
        write_text(folder / script, filled(f"triton/{script}", **words))
        (folder / script).chmod(0o755)
    for page in ("kserve.yaml", "README.md"):
        write_text(folder / page, filled(f"triton/{page}", **words))


def next_with_triton(out: Path) -> tuple[str, ...]:
    """The commands to go on with, where there is a GPU; README.md has those for a CPU."""
    ports = "-p 127.0.0.1:8000:8000 -p 127.0.0.1:8001:8001 -e LISTEN=0.0.0.0"
    run = f'docker run -d --gpus all {ports} --user 1000:1000 -v "$PWD:/bundle" {_IMAGE} /bundle/serve'
    return f"cd {quote(out)} && {run}", "python3 selftest.py"


def model_name(parts: Parts, kind: str, precision: Precision) -> str:
    """What Triton calls a model: "flowers_onnx_int8". Letters, digits and _ alone, for addresses and file names."""
    return f"{_slug(parts.spec.name, '_')}_{kind}_{precision.value}"


def _slug(name: str, between: str) -> str:
    """A name as Triton's addresses and Kubernetes take it: lower case, a letter first, not long."""
    plain = re.sub(r"[^a-z0-9]+", between, name.lower()).strip(between)[:_LONGEST].strip(between)
    return plain if plain[:1].isalpha() else f"model{between}{plain}".strip(between)


def _write_onnx_model(parts: Parts, precision: Precision, repository: Path) -> None:
    model, name = parts.model(precision), model_name(parts, "onnx", precision)
    folder = repository / name / name
    _write_common(parts, folder)
    version = folder / "1"
    version.mkdir()
    shutil.copyfile(model.path, version / "model.onnx")
    on_gpu = batching_from_parts(parts, RunnerId(Library.ONNXRUNTIME, precision, "tensorrt"), BatchRange())
    on_cpu = batching_from_parts(parts, RunnerId(Library.ONNXRUNTIME, precision), BatchRange())
    # An engine is found again by its name: the file's hash is in it, so that another network's is never taken.
    prefix = f"{name}_{sha256_of_file(model.path)[:12]}"
    write_text(folder / "config.pbtxt", onnx_config(parts, name, precision, prefix, on_gpu))
    write_text(folder / "configs" / "cpu.pbtxt", cpu_config(parts, name, on_cpu))


def _write_tensorrt_model(parts: Parts, precision: Precision, out: Path) -> None:
    """The model with its plan where an engine was built here; else all but the plan, for `build-plans`."""
    engine, name = _engine_of(parts, precision), model_name(parts, "tensorrt", precision)
    folder = out / _REPOSITORY / name / name if engine else out / _UNBUILT / name
    _write_common(parts, folder)
    batching = _tensorrt_batching(parts, precision)
    write_text(folder / "config.pbtxt", tensorrt_config(parts, name, batching))
    if engine:
        (folder / "1").mkdir()
        shutil.copyfile(engine.path, folder / "1" / "model.plan")


def _tensorrt_batching(parts: Parts, precision: Precision) -> Batching:
    """How the engine that is shipped takes batches, or the one that `build-plans` makes."""
    engine = _engine_of(parts, precision)
    if engine is None:
        return batching_from_parts(parts, RunnerId(Library.TENSORRT, precision), BatchRange())
    return batching_from_parts(parts, engine_runner(engine.card, precision), engine.card.batch)


def _write_common(parts: Parts, folder: Path) -> None:
    write_text(folder / "labels.txt", labels_text(parts.spec.labels))
    (folder / "warmup").mkdir()
    (folder / "warmup" / WARM_UP).write_bytes(parts.golden.photos[0].pixels.tobytes())


def _engine_of(parts: Parts, precision: Precision) -> Engine | None:
    """The engine of the full TensorRT in a precision. Triton can't serve those of TensorRT-RTX, those for a DLA, and
    those that refuse a single photo.
    """
    found = (each for each in parts.engines if each.card.flavour is Flavour.TENSORRT and each.card.dla_core is None)
    return next((each for each in found if each.card.precision is precision and each.card.batch.minimum == 1), None)


def _words(parts: Parts) -> dict[str, object]:
    """What the templates are filled with."""
    spec, first = parts.spec, parts.order[0]
    on_cpu, _ = fastest_precision(parts, "", (Precision.FP32,))
    batching = _tensorrt_batching(parts, first)
    return {
        **model_words(parts),
        "service": _slug(spec.name, "-"),
        "folder": shlex.quote(f"{spec.name}-triton"),
        "release": RELEASE,
        "prefix": _slug(spec.name, "_"),
        "order": " ".join(each.value for each in parts.order),
        "onnx": model_name(parts, "onnx", first),
        "tensorrt": model_name(parts, "tensorrt", first),
        "cpu": model_name(parts, "onnx", on_cpu),
        "shapes": parts.trtexec_shapes(),
        "int8_types": _int8_types(parts),
        "target": 2 * batching.best,
        "most": 4 * batching.largest,
        "best": batching.best,
        "plans": _plans(parts),
        "scaling": _scaling(parts),
    }


def _int8_types(parts: Parts) -> str:
    """What `trtexec` is told of types for INT8."""
    model = next((each for each in parts.models if each.precision is Precision.INT8), None)
    return "--stronglyTyped" if model is None else type_options(model, _TENSORRT)


def _plans(parts: Parts) -> str:
    """Which models have their plan already, and for what."""
    rows = []
    for precision in parts.order:
        name, engine = model_name(parts, "tensorrt", precision), _engine_of(parts, precision)
        if engine is None:
            rows.append(f"| `{name}` | no: `./build-plans`, on the server |")
            continue
        card = engine.card
        where_ = "any GPU from Ampere on" if card.hardware_compatible else card.gpu or ", ".join(card.targets)
        rows.append(
            f"| `{name}` | built for {where_}, by TensorRT {card.tensorrt_version}: Triton must have the same |"
        )
    return "\n".join(rows)


def _scaling(parts: Parts) -> str:
    """A row for each runner that was benched: how fast one machine is, and how many do for a load."""
    rows = []
    for runner in _served(parts):
        row, rate = best_row(parts, runner), best_rate(parts, runner)
        if row is not None and rate is not None:
            needed = " | ".join(f"{math.ceil(load / (_BUSY * rate)):,}" for load in _LOADS)
            rows.append(f"| {runner.name} | {row['batch']} | {rate:,.0f} | {row['p50_ms']:.2f} | {needed} |")
    if not rows:
        return "Nothing was benched, so there is no number to plan with: `trtpoets bench`, then make the bundle again."
    loads = " | ".join(f"for {load:,}/s" for load in _LOADS)
    head = f"| runner | batch | photos/s | median, ms | {loads} |\n|---|---|---|---|{'---|' * len(_LOADS)}\n"
    return (
        f"Measured by `trtpoets bench` {where(parts)}: inside one process, without Triton and without a network. The "
        f"last columns are machines like that one for so many photos a second, {_BUSY:.0%} busy.\n\n{head}"
    ) + "\n".join(rows)


def _served(parts: Parts) -> Iterator[RunnerId]:
    """What serves each precision, in the order to ship: the engine of this bundle, then ONNX Runtime's ways."""
    for precision in parts.order:
        engine = _engine_of(parts, precision)
        yield engine_runner(engine.card, precision) if engine else RunnerId(Library.TENSORRT, precision)
        yield from (RunnerId(Library.ONNXRUNTIME, precision, way) for way in ("tensorrt", "cuda", ""))
