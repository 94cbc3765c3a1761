"""The build options of an engine, and checks of them before anything is built."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterator

from trtpoets.core.errors import BadInput, TrtPoetsError
from trtpoets.core.onnx_metadata import fixed_batch, read_header
from trtpoets.core.runner_id import DEFAULT_WORKSPACE_MIB
from trtpoets.core.shell_commands import command
from trtpoets.core.types import BatchRange, Flavour, OnnxModel, Precision
from trtpoets.device.build.tensorrt_config import (
    BuildRequest,
    has_hardware_compatible,
    has_version_compatible,
    input_problems,
    spelled,
    weakly_typed,
)
from trtpoets.device.capability import fastest, least_capability, opset_ceiling, why_not
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.tensorrt_api import TensorRt

MIN_WORKSPACE_MIB = 16
"""Smallest workspace: with 4 MiB, TensorRT finds no tactics even for small networks, and some with 8 MiB."""

_LEVELS = range(6)
_AMPERE = (8, 0)


@dataclass(frozen=True)
class EngineConfig:
    """How an engine is built.

    `targets` are compute capabilities such as "sm86", for TensorRT-RTX; empty means Ampere and later. TensorRT builds
    for the GPU of this machine, or with `hardware_compatible` for Ampere and later. `version_compatible` engines also
    run on later versions of TensorRT. `dla_core` runs supported layers on that DLA core of a Jetson, the others on the
    GPU. `optimization_level` is 0 (quick build) to 5 (fast engine); None is the library's default. FP32 networks may
    compute in TF32 on Ampere and later, which is the default of TensorRT and of TensorFlow.
    """

    flavour: Flavour
    targets: tuple[str, ...] = ()
    batch: BatchRange = field(default_factory=BatchRange)
    workspace_mib: int = DEFAULT_WORKSPACE_MIB
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    dla_core: int | None = None
    timeout_seconds: float | None = None

    @property
    def chosen_targets(self) -> tuple[str, ...]:
        """The targets in lower case, sorted, each once."""
        return tuple(sorted({target.lower() for target in self.targets}))


def batch_range(text: str) -> BatchRange:
    """Read "1:8:32", or "8" for exactly 8. Raises BadInput."""
    try:
        numbers = [int(number) for number in text.split(":")]
        minimum, optimum, maximum = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError:
        raise BadInput(
            f"--batch must be minimum:optimum:maximum, not {text!r}",
            hint="give for example --batch 1:8:32",
            code="TP4020",
        ) from None
    return BatchRange(minimum, optimum, maximum)


def batch_for(model: OnnxModel, asked: BatchRange | None) -> BatchRange:
    """The batch sizes of an engine: those that were asked for, else the fixed batch of the ONNX file, else the default.

    Raises MissingArtefact, or BadArtefact if it is not an ONNX file.
    """
    if asked is not None:
        return asked
    fixed = fixed_batch(model.path)
    return BatchRange(fixed, fixed, fixed) if fixed else BatchRange()


def request_of(model: OnnxModel, config: EngineConfig) -> BuildRequest:
    """The BuildRequest for a network and its config."""
    return BuildRequest(
        precision=model.precision,
        height=model.spec.preprocess.height,
        width=model.spec.preprocess.width,
        batch=config.batch,
        targets=config.chosen_targets,
        workspace_bytes=config.workspace_mib << 20,
        optimization_level=config.optimization_level,
        version_compatible=config.version_compatible,
        hardware_compatible=config.hardware_compatible,
        dla_core=config.dla_core,
    )


def problems(config: EngineConfig, precision: Precision, library: TensorRt, gpu: Gpu | None) -> Iterator[TrtPoetsError]:
    """Yield the reasons why a build with this library on this GPU is impossible or pointless; none if it is possible.

    `gpu` is the one that TensorRT builds for; None for TensorRT-RTX, which needs no GPU. Checks that need a started
    builder (the number of DLA cores) are not included.
    """
    yield from _bad_numbers(config, library)
    yield from _bad_targets(config, library)
    yield from _bad_compatibility(config, library, gpu)
    yield from _bad_dla(config, precision, library)
    if gpu is not None:
        yield from _bad_gpu(precision, library, gpu)


def network_problems(model: OnnxModel, config: EngineConfig, library: TensorRt) -> Iterator[TrtPoetsError]:
    """Yield the reasons why the input shape or the opset of the ONNX file makes a build impossible.

    Yields nothing if the file is missing. Raises BadArtefact if it is not an ONNX file.
    """
    if not model.path.is_file():
        return
    header = read_header(model.path)
    if header.photos is not None and len(header.photos) == 4:
        yield from input_problems(header.photos, request_of(model, config))
    ceiling = opset_ceiling(library.flavour, library.version)
    if ceiling is not None and header.opset > ceiling:
        yield BadInput(
            f"{library.title} supports ONNX opsets up to {ceiling}, but {model.path} has opset {header.opset}",
            hint=f"export it with an older opset: {command('export', 'NAME', '--opset', min(ceiling, 17), '--force')}",
            code="TP4021",
        )


def _bad_numbers(config: EngineConfig, library: TensorRt) -> Iterator[TrtPoetsError]:
    batch = config.batch
    if not 1 <= batch.minimum <= batch.optimum <= batch.maximum:
        yield BadInput(
            f"the batch sizes {spelled(batch)} must be at least 1 and in ascending order",
            hint="give minimum:optimum:maximum, for example --batch 1:8:32",
            code="TP4022",
        )
    if config.workspace_mib < MIN_WORKSPACE_MIB:
        yield BadInput(
            f"the workspace must be at least {MIN_WORKSPACE_MIB} MiB, not {config.workspace_mib}",
            hint="give for example --workspace 1024",
            code="TP4023",
        )
    if config.timeout_seconds is not None and not config.timeout_seconds > 0:
        yield BadInput(
            f"the timeout must be more than 0 seconds, not {config.timeout_seconds}",
            hint="give for example --timeout 600",
            code="TP4024",
        )
    level = config.optimization_level
    if level is not None and not library.has_optimization_level:
        yield BadInput(
            f"{library.title} has no optimisation levels",
            hint="leave --optimization-level out: it needs TensorRT 8.6 or later",
            code="TP4025",
        )
    if level is not None and level not in _LEVELS:
        yield BadInput(
            f"the optimisation level must be 0 (quick build) to 5 (fast engine), not {level}",
            hint="give for example --optimization-level 3",
            code="TP4026",
        )


def _bad_targets(config: EngineConfig, library: TensorRt) -> Iterator[TrtPoetsError]:
    if config.targets and not library.targets:
        yield BadInput(
            f"{library.title} builds only for the GPU of this machine, so --target {config.targets[0]} is not possible",
            hint="leave --target out, or build with --flavour rtx",
            code="TP4027",
        )
        return
    unknown = [target for target in config.chosen_targets if target not in library.targets]
    if unknown:
        yield BadInput(
            f"{library.title} has no target {', '.join(unknown)}",
            hint=f"give one of {', '.join(library.targets)}",
            code="TP4028",
        )


def _bad_compatibility(config: EngineConfig, library: TensorRt, gpu: Gpu | None) -> Iterator[TrtPoetsError]:
    if config.version_compatible and not has_version_compatible(library):
        yield BadInput(
            f"{library.title} can't build engines for later versions, so --version-compatible is not possible",
            hint="give --flavour tensorrt with TensorRT 8.6 or later, or leave --version-compatible out",
            code="TP4029",
        )
    if not config.hardware_compatible:
        return
    if library.targets:
        yield BadInput(
            f"{library.title} has no --hardware-compatible: without --target its engines run on Ampere and later",
            hint="leave --hardware-compatible out",
            code="TP4030",
        )
    elif not has_hardware_compatible(library):
        yield BadInput(
            f"{library.title} builds only for the GPU of this machine, so --hardware-compatible is not possible",
            hint="leave --hardware-compatible out: it needs TensorRT 8.6 or later",
            code="TP4031",
        )
    elif (gpu is not None and gpu.integrated) or (libcuda.driver_version() or "").startswith("L4T"):
        yield BadInput(
            "on a Jetson, TensorRT can't build for other GPUs, so --hardware-compatible is not possible",
            hint="leave --hardware-compatible out, and build on each Jetson module",
            code="TP4032",
        )
    elif gpu is not None and gpu.compute_capability < _AMPERE:
        yield BadInput(
            f"--hardware-compatible needs compute capability 8.0 (Ampere) or later, but this {gpu.name} has "
            f"{gpu.compute_capability[0]}.{gpu.compute_capability[1]}",
            hint="leave --hardware-compatible out",
            code="TP4033",
        )


def _bad_dla(config: EngineConfig, precision: Precision, library: TensorRt) -> Iterator[TrtPoetsError]:
    """Restrictions of NVIDIA's "Working with DLA": one batch size, FP16 or INT8, no Q/DQ pairs before TensorRT 11."""
    core, batch = config.dla_core, config.batch
    if core is None:
        return
    if library.targets:
        yield BadInput(
            f"{library.title} does not support DLA, so --dla {core} is not possible",
            hint="leave --dla out, or build with --flavour tensorrt",
            code="TP4034",
        )
        return
    if core < 0:
        yield BadInput(f"there is no DLA core {core}", hint="give --dla 0: cores count from 0", code="TP4035")
    if precision is Precision.FP32:
        yield BadInput(
            "a DLA supports FP16 and INT8, not FP32", hint="build for the DLA with --precision fp16", code="TP4036"
        )
    if precision is Precision.INT8 and weakly_typed(library, precision, dla=True):
        yield BadInput(
            f"{library.title} does not support INT8 with Q/DQ pairs on a DLA; TensorRT 11.4.1 and later do",
            hint="build for the DLA with --precision fp16",
            code="TP4037",
        )
    if not batch.minimum == batch.optimum == batch.maximum:
        yield BadInput(
            f"a DLA supports one fixed batch size, not {spelled(batch)}",
            hint=f"give --batch {batch.optimum}:{batch.optimum}:{batch.optimum}",
            code="TP4038",
        )


def _bad_gpu(precision: Precision, library: TensorRt, gpu: Gpu) -> Iterator[TrtPoetsError]:
    reason = why_not(gpu.compute_capability, precision)
    if reason:
        yield BadInput(
            f"{precision.value} is not faster on this {gpu.name}: {reason}",
            hint=f"build with --precision {fastest(gpu.compute_capability).value}",
            code="TP4039",
        )
    least = least_capability(library.flavour, library.version)
    if least is not None and gpu.compute_capability < least:
        yield BadInput(
            f"{library.title} needs compute capability {least[0]}.{least[1]} or later, but this {gpu.name} has "
            f"{gpu.compute_capability[0]}.{gpu.compute_capability[1]}",
            hint="install an older TensorRT: 8.x supports compute capability 5.0 and later",
            code="TP4040",
        )
