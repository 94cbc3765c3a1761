"""The builder's side of TensorRT: a checked ONNX file to the bytes of an engine. Runs in the child process only."""

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
"""How libraries say that there is no memory, for a thread's stack in the last case."""


@dataclass(frozen=True)
class Built:
    """What a build gives. `engine` and `timing_cache` are TensorRT's host memory, which reads like bytes.

    `typing` is how the network was typed, as `typing_of` says it. `logger` belongs to the library's objects.
    """

    engine: Any
    timing_cache: Any
    typing: str
    logger: Any


@dataclass(frozen=True)
class Machine:
    """What a library finds here: how many DLA cores, and for which types it has fast arithmetic; None: untold."""

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
    """Parse and build. `timing_cache` is what an earlier build gave.

    `step` gets the fraction that is done, 0 to 1, and answers whether to go on; libraries without a monitor never call
    it. Raises BuildFailed with TensorRT's reason, BadInput or BadArtefact.
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
    # TensorRT-RTX answers at once what its builder would meet late. TensorRT's own programs never ask, and a builder of
    # TensorRT may say no to what it builds.
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
    """What the library finds on this machine. Raises BuildFailed where it does not start."""
    builder = _new_builder(library, new_logger(library, messages), messages)

    def fast(flag: str) -> bool | None:
        typed = weakly_typed(library, Precision(flag))
        found = getattr(builder, f"platform_has_fast_{flag}", None) if typed else None
        return None if found is None else bool(found)

    return Machine(int(builder.num_DLA_cores), fast("fp16"), fast("int8"))


def _new_builder(library: TensorRt, logger: Any, messages: Messages) -> Any:
    try:
        return library.module.Builder(logger)
    except TypeError as error:
        if NO_DRIVER not in str(error):
            raise
        raise BuildFailed(
            f"{library.title} can't build here: no usable CUDA driver ({messages.sentence() or 'it gave no reason'})",
            hint="build on a machine with an NVIDIA GPU, or without one: --flavour rtx",
            code="TP4049",
        ) from error


def failure(library: TensorRt, request: BuildRequest, reason: str) -> BuildFailed:
    """The error of a build that gave nothing, with what can be done about TensorRT's `reason`."""
    targets = f" for {', '.join(request.targets)}" if request.targets else ""
    return BuildFailed(
        f"{library.title} would not build the {request.precision.value} engine{targets}: "
        f"{reason or 'it gave no reason'}",
        hint=_hint(reason, request),
        code="TP4050",
    )


def _hint(reason: str, request: BuildRequest) -> str:
    low = reason.lower()
    if "workspace" in low:
        return f"give it more room: --workspace {4 * (request.workspace_bytes >> 20)}"
    if any(word in low for word in OUT_OF_MEMORY):
        return "free some memory, or build with a smaller --batch"
    if request.version_compatible and "lean" in low:
        return "install TensorRT's lean runtime (libnvinfer-lean), or leave --version-compatible out"
    if "turing" in low or "sm75" in low:
        return "leave sm75 out of --target, or build --precision fp16 for it"
    if "could not find any implementation" in low and request.precision is Precision.INT8:
        return "leave the named layer out of quantisation, or build --precision fp16"
    return "if the ONNX file runs in ONNX Runtime, report this with the file"


def _flag_bits(library: TensorRt, request: BuildRequest) -> int:
    members = library.module.NetworkDefinitionCreationFlag.__members__
    return sum({1 << int(members[name]) for name in network_flags(library, request)})


def _parse(library: TensorRt, network: Any, onnx: bytes, logger: Any, messages: Messages) -> None:
    parser = library.module.OnnxParser(network, logger)
    if parser.parse(onnx):
        return
    found = [parser_sentence(parser.get_error(index), onnx) for index in range(parser.num_errors)]
    reason = found[0] if found else messages.sentence() or "it gave no reason"
    raise BuildFailed(f"{library.title} can't read the network: {reason}", hint=parser_fix(reason), code="TP4051")


def _check_network(network: Any, request: BuildRequest) -> None:
    names = [network.get_input(i).name for i in range(network.num_inputs)]
    outputs = [network.get_output(i).name for i in range(network.num_outputs)]
    if names != [INPUT_NAME] or outputs != [OUTPUT_NAME]:
        raise BadArtefact(
            f"the network takes {names} and gives {outputs}, not {INPUT_NAME} and {OUTPUT_NAME}",
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
        """Called by the builder, from several threads. What it raises is lost, so it raises nothing."""

        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            """A phase of `steps` steps begins, inside another phase or on its own."""
            phases.start(name, parent, steps)

        def step_complete(self, name: str, index: int) -> bool:
            """A step is done; False cancels the build."""
            phases.advance(name, index + 1)
            return step(phases.fraction)

        def phase_finish(self, name: str) -> None:
            """A phase is over."""
            phases.finish(name)

    return Monitor()
