"""Plans a build without running it: flags, shapes, targets, and problems on this machine (`build --dry-run`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from trtpoets.core.errors import BadInput, BuildFailed, TrtPoetsError
from trtpoets.core.onnx_graph import MIXED_OPSET
from trtpoets.core.progress import silent
from trtpoets.core.types import Flavour, OnnxModel, Precision
from trtpoets.device.build.build_child import probe_order
from trtpoets.device.build.build_messages import ProbeResult
from trtpoets.device.build.build_process import run_build
from trtpoets.device.build.engine import current_engine, gpu_of
from trtpoets.device.build.engine_config import EngineConfig, network_problems, problems, request_of
from trtpoets.device.build.tensorrt_build import Machine
from trtpoets.device.build.tensorrt_config import (
    builder_flags,
    dla_problem,
    has_timing_cache,
    network_flags,
    typing_of,
    weakly_typed,
)
from trtpoets.device.build.timing_cache import timing_cache_of
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.tensorrt_api import TensorRt, load_tensorrt

_PROBE_TIMEOUT_SECONDS = 120.0
"""Time limit for loading TensorRT and starting CUDA, which takes several seconds on a Jetson."""

_TURING = "sm75"

FP32_REMAINDER = "layers that are not quantised run in FP32, their type in this file"
"""The note on an INT8 file for a library that builds strongly typed networks."""


@dataclass(frozen=True)
class Problem:
    """A reason why an engine can't be built, and how to fix it."""

    message: str
    hint: str


@dataclass(frozen=True)
class BuildPlan:
    """The plan of one engine.

    `library`, `gpu` and the fields that depend on them are empty or None if they are not available. `shapes` are the
    minimum, optimum and maximum shape of `photos`, (N, H, W, 3). `network` and `flags` are the names of the network
    creation flags and builder flags; `typing` is "strongly typed" or "weakly typed, INT8 and FP16 allowed". `problems`
    prevent the build; `notes` are information. `current` means that the engine exists and is up to date.
    """

    engine: Path
    onnx: Path
    opset: int
    precision: Precision
    flavour: Flavour
    library: str
    gpu: str | None
    targets: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    workspace_mib: int
    optimization_level: int | None
    dla_core: int | None
    network: tuple[str, ...]
    flags: tuple[str, ...]
    typing: str
    timing_cache: Path | None
    current: bool
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def machine_here(flavour: Flavour) -> Machine | TrtPoetsError:
    """What a library supports on this machine, or the error of starting it. Starts it in a child process."""
    try:
        load_tensorrt(flavour)
        result = run_build(
            probe_order(flavour),
            ProbeResult,
            what=f"starting {flavour.value}",
            timeout_seconds=_PROBE_TIMEOUT_SECONDS,
            progress=silent,
        )
    except TrtPoetsError as error:
        return error
    return result.machine


def plan_from_onnx(
    model: OnnxModel, opset: int, config: EngineConfig, out: Path, machine: Machine | TrtPoetsError
) -> BuildPlan:
    """The plan of the engine at `out`. `opset` is that of the ONNX file, `machine` the result of `machine_here`."""
    library, gpu, failures = _library_and_gpu(config.flavour)
    request = request_of(model, config)
    if library is not None:
        if gpu is not None or config.flavour is Flavour.RTX:
            failures += problems(config, model.precision, library, gpu)
        failures += network_problems(model, config, library)
        failures += _machine_problems(model.precision, config, library, machine)
    unique = dict.fromkeys(Problem(error.message, error.hint) for error in failures)
    return BuildPlan(
        engine=out,
        onnx=model.path,
        opset=opset,
        precision=model.precision,
        flavour=config.flavour,
        library=library.title if library else "",
        gpu=f"{gpu.name} ({gpu.target})" if gpu else None,
        targets=_targets(config, library, gpu),
        shapes=request.shapes,
        workspace_mib=config.workspace_mib,
        optimization_level=config.optimization_level,
        dla_core=config.dla_core,
        network=network_flags(library, request) if library else (),
        flags=builder_flags(library, request) if library else (),
        typing=typing_of((*network_flags(library, request), *builder_flags(library, request))) if library else "",
        timing_cache=timing_cache_of(out, library) if library and has_timing_cache(library) else None,
        current=not unique and current_engine(model, config, out) is not None,
        problems=tuple(unique),
        notes=tuple(_notes(model.precision, opset, config, library)) if library else (),
    )


def require_possible(plans: tuple[BuildPlan, ...]) -> None:
    """Raise BuildFailed if any of the plans has problems."""
    failed = [plan for plan in plans if plan.problems]
    if failed:
        raise BuildFailed(
            f"{len(failed)} of {len(plans)} engines can't be built here: {failed[0].problems[0].message}",
            hint=failed[0].problems[0].hint,
            code="TP4004",
        )


def _library_and_gpu(flavour: Flavour) -> tuple[TensorRt | None, Gpu | None, list[TrtPoetsError]]:
    library, gpu, failures = None, None, []
    try:
        library = load_tensorrt(flavour)
        gpu = gpu_of(flavour)
    except TrtPoetsError as error:
        failures.append(error)
    return library, gpu, failures


def _machine_problems(
    precision: Precision, config: EngineConfig, library: TensorRt, machine: Machine | TrtPoetsError
) -> Iterator[TrtPoetsError]:
    """Yield the problems that only a started builder can report."""
    if isinstance(machine, TrtPoetsError):
        yield machine
        return
    if config.dla_core is not None and config.dla_core >= 0 and not library.targets:
        problem = dla_problem(library, config.dla_core, machine.dla_cores)
        if problem is not None:
            yield problem
    fast = {Precision.FP16: machine.fast_fp16, Precision.INT8: machine.fast_int8}.get(precision)
    if fast is False:
        yield BadInput(
            f"this GPU has no fast {precision.name}, so {library.title} would compute in another precision",
            hint="build with --precision fp32",
            code="TP4005",
        )


def _targets(config: EngineConfig, library: TensorRt | None, gpu: Gpu | None) -> tuple[str, ...]:
    if config.chosen_targets:
        return config.chosen_targets
    if config.hardware_compatible or (library is not None and library.targets):
        return ("sm80+",)
    return (gpu.target,) if gpu else ()


def _notes(precision: Precision, opset: int, config: EngineConfig, library: TensorRt) -> Iterator[str]:
    fp32_remainder = precision is Precision.INT8 and opset < MIXED_OPSET
    if weakly_typed(library, precision, config.dla_core is not None):
        if precision is not Precision.FP32:
            yield f"{library.title} chooses the type of each layer: some layers may use a wider type"
    elif fp32_remainder:
        yield FP32_REMAINDER
    if config.flavour is Flavour.RTX and precision is Precision.INT8:
        yield "TensorRT-RTX is optimised for FP16: INT8 convolutions may not be faster"
    if _TURING in config.chosen_targets:
        if precision is Precision.FP32 or fp32_remainder:
            yield "for sm75 it can't compile FP32 MatMul layers, and the build may fail: build with --precision fp16"
        if len(config.chosen_targets) > 1:
            yield "sm75 together with other targets may slow the engine down on all of them: build it separately"
