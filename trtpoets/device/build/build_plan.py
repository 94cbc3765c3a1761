"""What a build would do, told without doing it: flags, shapes, targets, and whether this machine can."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from trtpoets.core.errors import BadInput, BuildFailed, TrtPoetsError
from trtpoets.core.onnx_graph import MIXED_OPSET
from trtpoets.core.progress import silent
from trtpoets.core.types import Flavour, OnnxModel, Precision
from trtpoets.device.build.build_child import order_to_look
from trtpoets.device.build.build_messages import LookResult
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

_LOOK_TIMEOUT_SECONDS = 120.0
"""Loading TensorRT and starting CUDA takes a Jetson some seconds."""

_TURING = "sm75"

FP32_REMAINDER = "what this file does not quantise runs in FP32, as it is in the file"
"""The note on an INT8 file for a library that computes in the types of the file."""


@dataclass(frozen=True)
class Problem:
    """What stands in the way, and what to do about it."""

    message: str
    hint: str


@dataclass(frozen=True)
class BuildPlan:
    """One engine as `build` would make it.

    `library`, `gpu` and what depends on them are empty or None where they are not here. `shapes` are the least, usual
    and largest of `photos`, (N, H, W, 3). `network` and `flags` name what TensorRT is told; `typing` says what that
    means for the types of layers: "strongly typed", or "weakly typed, INT8 and FP16 allowed". With `problems` the build
    would be refused; `notes` are worth knowing. `current`: the engine is there and up to date.
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
    """What a library finds on this machine, or why it does not start. It is started for real, in a child process."""
    try:
        load_tensorrt(flavour)
        result = run_build(
            lambda answers: order_to_look(flavour, answers),
            LookResult,
            what=f"starting {flavour.value}",
            timeout_seconds=_LOOK_TIMEOUT_SECONDS,
            progress=silent,
        )
    except TrtPoetsError as error:
        return error
    return result.machine


def plan_from_onnx(
    model: OnnxModel, opset: int, config: EngineConfig, out: Path, machine: Machine | TrtPoetsError
) -> BuildPlan:
    """The plan of the engine at `out`. `opset` is the ONNX file's, `machine` what `machine_here` gave."""
    library, gpu, found = _here(config.flavour)
    request = request_of(model, config)
    if library is not None:
        if gpu is not None or config.flavour is Flavour.RTX:
            found += problems(config, model.precision, library, gpu)
        found += network_problems(model, config, library)
        found += _found_by_starting(model.precision, config, library, machine)
    told = dict.fromkeys(Problem(error.message, error.hint) for error in found)
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
        current=not told and current_engine(model, config, out) is not None,
        problems=tuple(told),
        notes=tuple(_notes(model.precision, opset, config, library)) if library else (),
    )


def require_possible(plans: tuple[BuildPlan, ...]) -> None:
    """Raise BuildFailed when some of the plans can't be carried out here."""
    stuck = [plan for plan in plans if plan.problems]
    if stuck:
        raise BuildFailed(
            f"{len(stuck)} of {len(plans)} engines can't be built here: {stuck[0].problems[0].message}",
            hint=stuck[0].problems[0].hint,
            code="TP4004",
        )


def _here(flavour: Flavour) -> tuple[TensorRt | None, Gpu | None, list[TrtPoetsError]]:
    library, gpu, found = None, None, []
    try:
        library = load_tensorrt(flavour)
        gpu = gpu_of(flavour)
    except TrtPoetsError as error:
        found.append(error)
    return library, gpu, found


def _found_by_starting(
    precision: Precision, config: EngineConfig, library: TensorRt, machine: Machine | TrtPoetsError
) -> Iterator[TrtPoetsError]:
    """What only a started builder knows."""
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
            f"this GPU has no fast {precision.name}, so {library.title} would not keep to {precision.value}",
            hint="build --precision fp32",
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
            yield f"{library.title} chooses types layer by layer: some layers may stay in a wider one"
    elif fp32_remainder:
        yield FP32_REMAINDER
    if config.flavour is Flavour.RTX and precision is Precision.INT8:
        yield "TensorRT-RTX is made for FP16: INT8 convolutions may be no faster there"
    if _TURING in config.chosen_targets:
        if precision is Precision.FP32 or fp32_remainder:
            yield "for sm75 it compiles no FP32 matrix products: expect a refusal, or build --precision fp16"
        if len(config.chosen_targets) > 1:
            yield "sm75 among other targets may slow the engine down on all: build it alone"
