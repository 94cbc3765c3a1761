"""How an engine is to be built, and what stands in the way of it: told before anything is built."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterator

from trtpoets.core.errors import BadInput, TrtPoetsError
from trtpoets.core.onnx_metadata import read_header
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

LEAST_WORKSPACE_MIB = 16
"""With 4 MiB even small networks find no tactics; 8 MiB is the edge."""

_LEVELS = range(6)
_AMPERE = (8, 0)


@dataclass(frozen=True)
class EngineConfig:
    """How an engine is built.

    `targets` are compute capabilities as "sm86", for TensorRT-RTX; none means Ampere and later. TensorRT builds for the
    GPU that it finds, or with `hardware_compatible` for Ampere and later. `version_compatible` engines run on later
    versions of TensorRT too. `dla_core` puts what a Jetson's DLA can compute there, and the rest on the GPU.
    `optimization_level` is 0 (quick build) to 5 (fast engine); None leaves it to the library.
    FP32 networks may compute in TF32 on Ampere and later, the default of TensorRT as of TensorFlow.
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
        least, best, most = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError:
        raise BadInput(
            f"--batch {text!r} is not least:best:most", hint="for example: --batch 1:8:32", code="TP4020"
        ) from None
    return BatchRange(least, best, most)


def request_of(model: OnnxModel, config: EngineConfig) -> BuildRequest:
    """What the builder is asked for."""
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
    """Yield what makes the build impossible, or pointless, with this library on this GPU; nothing when it can go on.

    `gpu` is the one that TensorRT builds for; None for TensorRT-RTX, which needs none. What only a started builder
    knows (how many DLA cores there are) is not among it.
    """
    yield from _bad_numbers(config, library)
    yield from _bad_targets(config, library)
    yield from _bad_compatibility(config, library, gpu)
    yield from _bad_dla(config, precision, library)
    if gpu is not None:
        yield from _bad_gpu(precision, library, gpu)


def network_problems(model: OnnxModel, config: EngineConfig, library: TensorRt) -> Iterator[TrtPoetsError]:
    """Yield what in the ONNX file makes the build impossible with this library, as far as its input and its operator
    set tell.

    Nothing for a file that is not there. Raises BadArtefact for what is no ONNX file.
    """
    if not model.path.is_file():
        return
    facts = read_header(model.path)
    if facts.photos is not None and len(facts.photos) == 4:
        yield from input_problems(facts.photos, request_of(model, config))
    ceiling = opset_ceiling(library.flavour, library.version)
    if ceiling is not None and facts.opset > ceiling:
        yield BadInput(
            f"{library.title} reads ONNX operators up to set {ceiling}, and {model.path} has {facts.opset}",
            hint=f"write it in an older set: {command('export', 'NAME', '--opset', min(ceiling, 17), '--force')}",
            code="TP4021",
        )


def _bad_numbers(config: EngineConfig, library: TensorRt) -> Iterator[TrtPoetsError]:
    batch = config.batch
    if not 1 <= batch.minimum <= batch.optimum <= batch.maximum:
        yield BadInput(
            f"the batch sizes {spelled(batch)} don't rise from at least 1",
            hint="give smallest:usual:largest, for example --batch 1:8:32",
            code="TP4022",
        )
    if config.workspace_mib < LEAST_WORKSPACE_MIB:
        yield BadInput(
            f"a workspace of {config.workspace_mib} MiB is too small to build in",
            hint=f"give at least --workspace {LEAST_WORKSPACE_MIB}",
            code="TP4023",
        )
    if config.timeout_seconds is not None and not config.timeout_seconds > 0:
        yield BadInput(f"a timeout of {config.timeout_seconds} seconds", hint="give a number above 0", code="TP4024")
    level = config.optimization_level
    if level is not None and not library.has_optimization_level:
        yield BadInput(
            f"{library.title} has no optimisation levels",
            hint="leave --optimization-level out: they came with 8.6",
            code="TP4025",
        )
    if level is not None and level not in _LEVELS:
        yield BadInput(
            f"an optimisation level of {level}", hint="give 0 (quick build) to 5 (fast engine)", code="TP4026"
        )


def _bad_targets(config: EngineConfig, library: TensorRt) -> Iterator[TrtPoetsError]:
    if config.targets and not library.targets:
        yield BadInput(
            f"{library.title} builds for the GPU of this machine only, so --target {config.targets[0]} can't be met",
            hint="leave --target out, or build --flavour rtx",
            code="TP4027",
        )
        return
    unknown = [target for target in config.chosen_targets if target not in library.targets]
    if unknown:
        yield BadInput(
            f"{library.title} has no target {', '.join(unknown)}",
            hint=f"it has {', '.join(library.targets)}",
            code="TP4028",
        )


def _bad_compatibility(config: EngineConfig, library: TensorRt, gpu: Gpu | None) -> Iterator[TrtPoetsError]:
    if config.version_compatible and not has_version_compatible(library):
        yield BadInput(
            f"{library.title} can't build engines for later versions, so --version-compatible can't be met",
            hint="TensorRT 8.6 and later can: --flavour tensorrt, or leave --version-compatible out",
            code="TP4029",
        )
    if not config.hardware_compatible:
        return
    if library.targets:
        yield BadInput(
            f"{library.title} takes no --hardware-compatible: without --target its engines run on Ampere and later",
            hint="leave --hardware-compatible out",
            code="TP4030",
        )
    elif not has_hardware_compatible(library):
        yield BadInput(
            f"{library.title} builds for the GPU of this machine only, so --hardware-compatible can't be met",
            hint="TensorRT 8.6 and later can: leave --hardware-compatible out here",
            code="TP4031",
        )
    elif (gpu is not None and gpu.integrated) or (libcuda.driver_version() or "").startswith("L4T"):
        yield BadInput(
            "on a Jetson TensorRT can't build for other GPUs, so --hardware-compatible can't be met",
            hint="leave --hardware-compatible out, and build on each kind of Jetson",
            code="TP4032",
        )
    elif gpu is not None and gpu.compute_capability < _AMPERE:
        yield BadInput(
            f"--hardware-compatible is for Ampere (8.0) and later, and this {gpu.name} is "
            f"{gpu.compute_capability[0]}.{gpu.compute_capability[1]}",
            hint="leave --hardware-compatible out",
            code="TP4033",
        )


def _bad_dla(config: EngineConfig, precision: Precision, library: TensorRt) -> Iterator[TrtPoetsError]:
    """NVIDIA's documents, "Working with DLA": fixed sizes only; FP16 and INT8; before TensorRT 11 no Q/DQ pairs."""
    core, batch = config.dla_core, config.batch
    if core is None:
        return
    if library.targets:
        yield BadInput(
            f"{library.title} knows no DLA, so --dla {core} can't be met",
            hint="leave --dla out, or --flavour tensorrt",
            code="TP4034",
        )
        return
    if core < 0:
        yield BadInput(f"there is no DLA core {core}", hint="cores count from 0: --dla 0", code="TP4035")
    if precision is Precision.FP32:
        yield BadInput("a DLA computes FP16 and INT8, not fp32", hint="build --precision fp16 for it", code="TP4036")
    if precision is Precision.INT8 and weakly_typed(library, precision, dla=True):
        yield BadInput(
            f"the DLA of {library.title} takes no INT8 from Q/DQ pairs, which TensorRT 11.4.1 begins with",
            hint="build --precision fp16 for it",
            code="TP4037",
        )
    if not batch.minimum == batch.optimum == batch.maximum:
        yield BadInput(
            f"a DLA takes one batch size, so no batch of {spelled(batch)}",
            hint=f"--batch {batch.optimum}:{batch.optimum}:{batch.optimum}",
            code="TP4038",
        )


def _bad_gpu(precision: Precision, library: TensorRt, gpu: Gpu) -> Iterator[TrtPoetsError]:
    reason = why_not(gpu.compute_capability, precision)
    if reason:
        yield BadInput(
            f"{precision.value} does not pay on this {gpu.name}: {reason}",
            hint=f"build --precision {fastest(gpu.compute_capability).value}",
            code="TP4039",
        )
    least = least_capability(library.flavour, library.version)
    if least is not None and gpu.compute_capability < least:
        yield BadInput(
            f"{library.title} builds for compute capability {least[0]}.{least[1]} and later, and this {gpu.name} is "
            f"{gpu.compute_capability[0]}.{gpu.compute_capability[1]}",
            hint="install a TensorRT of the age of this GPU: 8.x begins with 5.0",
            code="TP4040",
        )
