"""Creates the builder config of an engine: typing of the network, flags, devices, shapes, timing cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Iterator, Sequence

from trtpoets.core.errors import BadArtefact, BadInput, BuildFailed, TrtPoetsError
from trtpoets.core.types import INPUT_NAME, BatchRange, Precision
from trtpoets.device.tensorrt_api import TensorRt
from trtpoets.device.tensorrt_messages import Messages

_TYPE_FLAGS = {Precision.FP32: (), Precision.FP16: ("FP16",), Precision.INT8: ("INT8", "FP16")}
"""Builder flags of a weakly typed network by precision. INT8 networks use FP16 for layers that are not quantised."""

OBEY = "OBEY_PRECISION_CONSTRAINTS"
"""The builder flag without which a layer's precision and output types are suggestions (NvInfer.h, ILayer)."""


@dataclass(frozen=True)
class BuildRequest:
    """The input size of the network in pixels, and the build options."""

    precision: Precision
    height: int
    width: int
    batch: BatchRange
    targets: tuple[str, ...]
    workspace_bytes: int
    optimization_level: int | None
    version_compatible: bool = False
    hardware_compatible: bool = False
    dla_core: int | None = None

    @property
    def shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """The minimum, optimum and maximum shape of `photos`, (N, H, W, 3)."""
        batch = self.batch
        return tuple((n, self.height, self.width, 3) for n in (batch.minimum, batch.optimum, batch.maximum))


def weakly_typed(library: TensorRt, precision: Precision, dla: bool = False) -> bool:
    """Whether the network is weakly typed: the builder chooses the type of each layer among those allowed by flags.

    Always in TensorRT 8; in 10 for INT8 and for a DLA, which has no other way. In a strongly typed network of 10.x the
    input of a Quantize layer has the type of its scale (NvInfer.h 10.0 to 10.12, IQuantizeLayer), which is FP32: all
    layers outside INT8 would be FP32 (github.com/NVIDIA/Model-Optimizer/issues/80). TensorRT 11 and TensorRT-RTX have
    no such flags.
    """
    flags = _builder_flags(library)
    return "FP16" in flags and (dla or not library.strongly_typed or (precision is Precision.INT8 and "INT8" in flags))


def typing_of(flags: Iterable[str]) -> str:
    """The typing of a network with these network and builder flags, for plans, cards and pages.

    "strongly typed" (the types of the ONNX file), or for example "weakly typed, INT8 and FP16 allowed".
    """
    names = set(flags)
    if "STRONGLY_TYPED" in names:
        return "strongly typed"
    allowed = [name for name in _TYPE_FLAGS[Precision.INT8] if name in names]
    return f"weakly typed, {' and '.join(allowed) or 'FP32 alone'}{' allowed' if allowed else ''}"


def has_version_compatible(library: TensorRt) -> bool:
    """Whether version-compatible engines can be built (TensorRT 8.6 on). TensorRT-RTX has the flag but refuses it."""
    return "VERSION_COMPATIBLE" in _builder_flags(library) and not library.targets


def has_hardware_compatible(library: TensorRt) -> bool:
    """Whether engines for all GPUs of Ampere and later can be built (TensorRT 8.6 on). TensorRT-RTX has targets."""
    return hasattr(library.module, "HardwareCompatibilityLevel") and not library.targets


def has_timing_cache(library: TensorRt) -> bool:
    """Whether builds use a timing cache. TensorRT-RTX compiles without timing kernels."""
    return not library.targets


def network_flags(library: TensorRt, request: BuildRequest) -> tuple[str, ...]:
    """The names of the network creation flags."""
    members = library.module.NetworkDefinitionCreationFlag.__members__
    typed = () if _is_weakly_typed(library, request) else ("STRONGLY_TYPED",)
    return tuple(name for name in ("EXPLICIT_BATCH", *typed) if name in members)


def builder_flags(library: TensorRt, request: BuildRequest) -> tuple[str, ...]:
    """The names of the builder flags."""
    return (
        *(_TYPE_FLAGS[request.precision] if _is_weakly_typed(library, request) else ()),
        *(("GPU_FALLBACK",) if request.dla_core is not None else ()),
        *(("VERSION_COMPATIBLE",) if request.version_compatible else ()),
    )


def dla_problem(library: TensorRt, core: int, cores: int) -> BadInput | None:
    """The error if DLA `core` does not exist on a machine with `cores` of them, else None."""
    if core < cores:
        return None
    if not cores:
        return BadInput(
            f"{library.title} finds no DLA on this machine, so --dla {core} is not possible",
            hint="leave --dla out: Xavier, Orin NX and AGX Orin have one, with TensorRT 8 to 10.7 and from 11.4.1 on",
            code="TP4053",
        )
    return BadInput(
        f"there is no DLA core {core}: this machine has {cores}",
        hint=f"give --dla 0 to --dla {cores - 1}",
        code="TP4054",
    )


def input_problems(photos: Sequence[int | None], request: BuildRequest) -> Iterator[TrtPoetsError]:
    """Yield errors if an input shape `photos`, (N, H, W, 3), does not match the request; None is a dynamic size."""
    batch, *photo = photos
    if photo != [request.height, request.width, 3]:
        yield BadArtefact(
            f"the input of the network is {photo}, but its model.json has {[request.height, request.width, 3]}",
            hint="export it again: trtpoets export NAME --force",
            code="TP4055",
        )
    sizes = {request.batch.minimum, request.batch.optimum, request.batch.maximum}
    if batch is not None and sizes != {batch}:
        yield BadInput(
            f"the network has the fixed batch size {batch}, not {spelled(request.batch)}",
            hint=f"give --batch {batch}:{batch}:{batch}",
            code="TP4056",
        )


def new_config(library: TensorRt, builder: Any, request: BuildRequest) -> Any:
    """The builder config for the request. Raises BadInput or BuildFailed for what this machine does not support."""
    module, config = library.module, builder.create_builder_config()
    config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # for the engine inspector
    if request.optimization_level is not None:
        config.builder_optimization_level = request.optimization_level
    if request.hardware_compatible:
        config.hardware_compatibility_level = module.HardwareCompatibilityLevel.AMPERE_PLUS
    if request.dla_core is not None:
        _use_dla(library, builder, config, request.dla_core)
    for name in builder_flags(library, request):
        if _is_fast(library, builder, name, request.precision):
            config.set_flag(getattr(module.BuilderFlag, name))
    _set_targets(library, config, request.targets)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT_NAME, *request.shapes)
    if config.add_optimization_profile(profile) < 0:
        raise BuildFailed(
            f"{library.title} rejects the batch sizes {spelled(request.batch)}",
            hint="try --batch 1:8:32",
            code="TP4057",
        )
    return config


def new_timing_cache(config: Any, content: bytes, messages: Messages) -> Any:
    """Set a timing cache in the builder config, with `content` of an earlier build if it matches this device.

    The returned cache must exist as long as the config. None if the library accepts none: then all kernels are timed.
    """
    for start in (content, b"") if content else (b"",):
        # TensorRT logs a cache that does not match as an error, although the build can continue without it.
        with messages.expected():
            cache = config.create_timing_cache(start)
            if cache is not None and config.set_timing_cache(cache, False):
                return cache
        messages.notes.append("the timing cache does not match this device and library: all kernels are timed again")
    return None


def spelled(batch: BatchRange) -> str:
    """A batch range in the form of `--batch`: "1:8:32"."""
    return f"{batch.minimum}:{batch.optimum}:{batch.maximum}"


def _is_weakly_typed(library: TensorRt, request: BuildRequest) -> bool:
    return weakly_typed(library, request.precision, request.dla_core is not None)


def _builder_flags(library: TensorRt) -> Any:
    return library.module.BuilderFlag.__members__


def _use_dla(library: TensorRt, builder: Any, config: Any, core: int) -> None:
    problem = dla_problem(library, core, int(builder.num_DLA_cores))
    if problem is not None:
        raise problem
    config.default_device_type = library.module.DeviceType.DLA
    config.DLA_core = core


def _is_fast(library: TensorRt, builder: Any, flag: str, precision: Precision) -> bool:
    """Whether the GPU has fast arithmetic for a builder flag.

    Raises BuildFailed if it is the engine's own precision: TensorRT would compute in another one without a message. For
    the layers of an INT8 engine that are not quantised, FP32 may replace FP16.
    """
    if flag not in ("FP16", "INT8") or getattr(builder, f"platform_has_fast_{flag.lower()}"):
        return True
    if flag.lower() != precision.value:
        return False
    raise BuildFailed(
        f"this GPU has no fast {flag}, so {library.title} would compute in another precision",
        hint=f"build with --precision {'fp32' if flag == 'FP16' else 'fp16'}",
        code="TP4058",
    )


def _set_targets(library: TensorRt, config: Any, targets: tuple[str, ...]) -> None:
    for index, target in enumerate(targets):
        if index == 0:
            config.num_compute_capabilities = len(targets)
        capability = library.module.ComputeCapability.__members__[target.upper()]
        if not config.set_compute_capability(capability, index):
            raise BadInput(
                f"{library.title} does not support the target {target} on this machine",
                hint="leave it out of --target",
                code="TP4059",
            )
