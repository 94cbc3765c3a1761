"""Parses a checked ONNX file and builds an engine with TensorRT's builder. Runs only in the child process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

from trtpoets.core.errors import BadArtefact, BuildFailed
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, Precision
from trtpoets.device.build.build_progress import Phases
from trtpoets.device.build.layer_precision import keep_fp32
from trtpoets.device.build.tensorrt_config import (
    BuildRequest,
    builder_flags,
    has_timing_cache,
    input_problems,
    network_flags,
    new_config,
    new_timing_cache,
    typing_of,
    weakly_typed,
)
from trtpoets.device.tensorrt_api import TensorRt
from trtpoets.device.tensorrt_messages import (
    NO_DRIVER,
    Messages,
    new_logger,
    new_recorder,
    parser_fix,
    parser_sentence,
)

OUT_OF_MEMORY = ("bad_alloc", "out of memory", "outofmemory", "cannot allocate", "resource temporarily unavailable")
"""Parts of libraries' messages about missing memory; the last one is about a thread's stack."""


@dataclass(frozen=True)
class Built:
    """The result of a build. `engine` and `timing_cache` are TensorRT host memory, which has the buffer interface.

    `typing` is the result of `typing_of`. `logger` must exist as long as the library's objects.
    """

    engine: Any
    timing_cache: Any
    typing: str
    logger: Any


@dataclass(frozen=True)
class Machine:
    """What a library supports on this machine: DLA cores and fast types (None if it does not report them)."""

    dla_cores: int
    fast_fp16: bool | None
    fast_int8: bool | None


def build_engine(
    library: TensorRt,
    onnx: bytes,
    request: BuildRequest,
    step: Callable[[float], bool],
    messages: Messages,
    timing_cache: bytes = b"",
) -> Built:
    """Parse an ONNX file and build an engine. `timing_cache` is the one of an earlier build.

    `step` is called with the finished fraction, 0 to 1, and returns whether to continue; libraries without a progress
    monitor never call it. Raises BuildFailed with TensorRT's message, BadInput or BadArtefact.
    """
    logger = new_logger(library, messages)
    builder = _new_builder(library, logger, messages)
    network = builder.create_network(_flag_bits(library, request))
    _parse(library, network, onnx, logger, messages)
    builder.error_recorder = new_recorder(library, messages)
    _check_network(network, request)
    config = new_config(library, builder, request)
    if weakly_typed(library, request.precision, request.dla_core is not None):
        keep_fp32(library, network, config, onnx, messages)
    timings = new_timing_cache(config, timing_cache, messages) if has_timing_cache(library) else None
    monitor = _new_monitor(library, step) if library.has_monitor else None
    if monitor is not None:
        config.progress_monitor = monitor
    # In TensorRT-RTX, is_network_supported reports early what the build would report late. It is not used for TensorRT,
    # where it can return False for networks that the builder accepts.
    supported = not library.targets or builder.is_network_supported(network, config)
    engine = builder.build_serialized_network(network, config) if supported else None
    if engine is None:
        raise failure(library, request, messages.sentence())
    flags = [
        name for name in builder_flags(library, request) if config.get_flag(getattr(library.module.BuilderFlag, name))
    ]
    return Built(
        engine=engine,
        timing_cache=None if timings is None else timings.serialize(),
        typing=typing_of((*network_flags(library, request), *flags)),
        logger=logger,
    )


def machine_of(library: TensorRt, messages: Messages) -> Machine:
    """What the library supports on this machine. Raises BuildFailed if it does not start."""
    builder = _new_builder(library, new_logger(library, messages), messages)

    def fast(flag: str) -> bool | None:
        typed = weakly_typed(library, Precision(flag))
        supported = getattr(builder, f"platform_has_fast_{flag}", None) if typed else None
        return None if supported is None else bool(supported)

    return Machine(int(builder.num_DLA_cores), fast("fp16"), fast("int8"))


def _new_builder(library: TensorRt, logger: Any, messages: Messages) -> Any:
    try:
        return library.module.Builder(logger)
    except TypeError as error:
        if NO_DRIVER not in str(error):
            raise
        raise BuildFailed(
            f"{library.title} can't build here: no usable CUDA driver ({messages.sentence() or 'it gave no reason'})",
            hint="build on a machine with an NVIDIA GPU, or without one with --flavour rtx",
            code="TP4049",
        ) from error


def failure(library: TensorRt, request: BuildRequest, reason: str) -> BuildFailed:
    """The error of a build without a result, with a hint for TensorRT's message `reason`."""
    targets = f" for {', '.join(request.targets)}" if request.targets else ""
    return BuildFailed(
        f"{library.title} could not build the {request.precision.value} engine{targets}: "
        f"{reason or 'it gave no reason'}",
        hint=_hint(reason, request),
        code="TP4050",
    )


def _hint(reason: str, request: BuildRequest) -> str:
    low = reason.lower()
    if "workspace" in low:
        return f"use a larger workspace with --workspace {4 * (request.workspace_bytes >> 20)}"
    if any(word in low for word in OUT_OF_MEMORY):
        return "free some memory, or build with a smaller --batch"
    if request.version_compatible and "lean" in low:
        return "install TensorRT's lean runtime (libnvinfer-lean), or leave --version-compatible out"
    if "turing" in low or "sm75" in low:
        return "leave sm75 out of --target, or build with --precision fp16 for it"
    if "could not find any implementation" in low and request.precision is Precision.INT8:
        return "leave the named layer out of quantisation, or build with --precision fp16"
    return "if the ONNX file runs in ONNX Runtime, report this with the file"


def _flag_bits(library: TensorRt, request: BuildRequest) -> int:
    members = library.module.NetworkDefinitionCreationFlag.__members__
    return sum({1 << int(members[name]) for name in network_flags(library, request)})


def _parse(library: TensorRt, network: Any, onnx: bytes, logger: Any, messages: Messages) -> None:
    parser = library.module.OnnxParser(network, logger)
    if parser.parse(onnx):
        return
    errors = [parser_sentence(parser.get_error(index), onnx) for index in range(parser.num_errors)]
    reason = errors[0] if errors else messages.sentence() or "it gave no reason"
    raise BuildFailed(f"{library.title} can't parse the network: {reason}", hint=parser_fix(reason), code="TP4051")


def _check_network(network: Any, request: BuildRequest) -> None:
    names = [network.get_input(i).name for i in range(network.num_inputs)]
    outputs = [network.get_output(i).name for i in range(network.num_outputs)]
    if names != [INPUT_NAME] or outputs != [OUTPUT_NAME]:
        raise BadArtefact(
            f"the network must have the input {INPUT_NAME} and the output {OUTPUT_NAME}, not {names} and {outputs}",
            hint="export it again: trtpoets export NAME --force",
            code="TP4052",
        )
    shape = [None if int(size) < 0 else int(size) for size in network.get_input(0).shape]
    for problem in input_problems(shape, request):
        raise problem


def _new_monitor(library: TensorRt, step: Callable[[float], bool]) -> Any:
    base = library.module.IProgressMonitor
    phases = Phases()

    class Monitor(base):  # type: ignore[misc, valid-type]
        """Called by the builder from several threads. TensorRT drops its exceptions, so it raises none."""

        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            """Start a phase of `steps` steps, which may be nested in another phase."""
            phases.start(name, parent, steps)

        def step_complete(self, name: str, index: int) -> bool:
            """Finish a step; returning False cancels the build."""
            phases.advance(name, index + 1)
            return step(phases.fraction)

        def phase_finish(self, name: str) -> None:
            """End a phase."""
            phases.finish(name)

    return Monitor()
