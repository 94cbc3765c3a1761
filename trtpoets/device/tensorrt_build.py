"""The builder's side of TensorRT: a checked ONNX file to the bytes of an engine. Runs in the child process only."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Callable

from trtpoets.core.errors import BadArtefact, BadInput, BuildFailed
from trtpoets.core.spec import INPUT_NAME, OUTPUT_NAME, BatchRange, Precision
from trtpoets.device.tensorrt_api import TensorRt
from trtpoets.device.tensorrt_messages import NO_DRIVER, Messages, new_logger, plain

_TYPE_FLAGS = {Precision.FP32: (), Precision.FP16: ("FP16",), Precision.INT8: ("INT8", "FP16")}
"""What a weakly typed builder is allowed. INT8 networks compute what is not quantised in FP16."""

OUT_OF_MEMORY = ("bad_alloc", "out of memory", "outofmemory", "cannot allocate", "resource temporarily unavailable")
"""How libraries say that there is no memory, for a thread's stack in the last case."""


@dataclass(frozen=True)
class BuildRequest:
    """What to build: the network's shape (H, W), how it is to be run, and for what."""

    precision: Precision
    height: int
    width: int
    batch: BatchRange
    targets: tuple[str, ...]
    workspace_bytes: int
    optimization_level: int | None


def build_engine(
    library: TensorRt, onnx: bytes, request: BuildRequest, step: Callable[[float], bool], messages: Messages
) -> Any:
    """Parse and build; returns TensorRT's host memory, which reads like bytes.

    `step` gets the fraction that is done, 0 to 1, and answers whether to go on; libraries without a monitor never call
    it. Raises BuildFailed with TensorRT's reason, BadInput or BadArtefact.
    """
    module, logger = library.module, new_logger(library, messages)
    try:
        builder = module.Builder(logger)
    except TypeError as error:
        if NO_DRIVER not in str(error):
            raise
        raise BuildFailed(
            f"{library.title} can't build here: no usable CUDA driver ({messages.sentence() or 'it gave no reason'})",
            hint="build on a machine with an NVIDIA GPU, or without one: --flavour rtx",
        ) from error
    network = builder.create_network(_network_flags(library))
    _parse(library, network, onnx, logger, messages)
    _check_network(network, request)
    config = _config(library, builder, request)
    monitor = _new_monitor(library, step) if library.has_monitor else None
    if monitor is not None:
        config.progress_monitor = monitor
    supported = builder.is_network_supported(network, config)
    engine = builder.build_serialized_network(network, config) if supported else None
    if engine is None:
        raise failure(library, request, messages.sentence())
    return engine


def failure(library: TensorRt, request: BuildRequest, reason: str) -> BuildFailed:
    """The error of a build that gave nothing, with what can be done about TensorRT's `reason`."""
    targets = f" for {', '.join(request.targets)}" if request.targets else ""
    return BuildFailed(
        f"{library.title} would not build the {request.precision.value} engine{targets}: "
        f"{reason or 'it gave no reason'}",
        hint=_hint(reason, request),
    )


def _hint(reason: str, request: BuildRequest) -> str:
    low = reason.lower()
    if "workspace" in low:
        return f"give it more room: --workspace {4 * (request.workspace_bytes >> 20)}"
    if any(word in low for word in OUT_OF_MEMORY):
        return "free some memory, or build with a smaller --batch"
    if "turing" in low or "sm75" in low:
        return "leave sm75 out of --target, or build --precision fp16 for it"
    if "could not find any implementation" in low and request.precision is Precision.INT8:
        return "leave the named layer out of quantisation, or build --precision fp16"
    return "if the ONNX file runs in ONNX Runtime, report this with the file"


def _network_flags(library: TensorRt) -> int:
    members = library.module.NetworkDefinitionCreationFlag.__members__
    wanted = [members[name] for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if name in members]
    return sum({1 << int(member) for member in wanted})


def _parse(library: TensorRt, network: Any, onnx: bytes, logger: Any, messages: Messages) -> None:
    parser = library.module.OnnxParser(network, logger)
    if parser.parse(onnx):
        return
    found = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
    raise BuildFailed(
        f"{library.title} can't read the network: {found[0] if found else messages.sentence() or 'it gave no reason'}",
        hint="export it again with the default operators: trtpoets export NAME --force",
    )


def _parser_error(error: Any) -> str:
    text = plain(error.desc())
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    if not operator:
        return text
    name = error.node_name()
    return f"node {name!r} ({operator}): {text}" if name else f"a {operator} node: {text}"


def _check_network(network: Any, request: BuildRequest) -> None:
    names = [network.get_input(i).name for i in range(network.num_inputs)]
    outputs = [network.get_output(i).name for i in range(network.num_outputs)]
    if names != [INPUT_NAME] or outputs != [OUTPUT_NAME]:
        raise BadArtefact(
            f"the network takes {names} and gives {outputs}, not {INPUT_NAME} and {OUTPUT_NAME}",
            hint="export it again: trtpoets export NAME --force",
        )
    batch, *photo = (int(size) for size in network.get_input(0).shape)
    if photo != [request.height, request.width, 3]:
        raise BadArtefact(
            f"the network takes photos of {photo}, its model.json says {[request.height, request.width, 3]}",
            hint="export it again: trtpoets export NAME --force",
        )
    sizes = {request.batch.minimum, request.batch.optimum, request.batch.maximum}
    if batch != -1 and sizes != {batch}:
        raise BadInput(
            f"this network takes exactly {batch} photos at a time, so no batch of {_spelled(request.batch)}",
            hint=f"--batch {batch}:{batch}:{batch}",
        )


def _spelled(batch: BatchRange) -> str:
    return f"{batch.minimum}:{batch.optimum}:{batch.maximum}"


def _config(library: TensorRt, builder: Any, request: BuildRequest) -> Any:
    module, config = library.module, builder.create_builder_config()
    config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    if request.optimization_level is not None:
        config.builder_optimization_level = request.optimization_level
    if not library.strongly_typed:
        _allow_precision(library, builder, config, request)
    for index, target in enumerate(request.targets):
        if index == 0:
            config.num_compute_capabilities = len(request.targets)
        capability = module.ComputeCapability.__members__[target.upper()]
        if not config.set_compute_capability(capability, index):
            raise BadInput(f"{library.title} does not take the target {target} here", hint="leave it out of --target")
    profile = builder.create_optimization_profile()
    size = (request.height, request.width, 3)
    batch = request.batch
    profile.set_shape(INPUT_NAME, (batch.minimum, *size), (batch.optimum, *size), (batch.maximum, *size))
    if config.add_optimization_profile(profile) < 0:
        raise BuildFailed(f"{library.title} refuses the batch sizes {_spelled(batch)}", hint="try --batch 1:8:32")
    return config


def _allow_precision(library: TensorRt, builder: Any, config: Any, request: BuildRequest) -> None:
    for name in _TYPE_FLAGS[request.precision]:
        # Without fast arithmetic of its own the GPU would silently compute in another precision.
        if not getattr(builder, f"platform_has_fast_{name.lower()}"):
            raise BuildFailed(
                f"this GPU has no fast {name}, so {library.title} would not keep to {request.precision.value}",
                hint="build --precision fp32" if name == "FP16" else "build --precision fp16",
            )
        config.set_flag(getattr(library.module.BuilderFlag, name))


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


class Phases:
    """Nested phases of a build as one fraction that never falls. The builder's threads may all report."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: dict[str, tuple[str | None, int, int]] = {}
        self._best = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._open[name] = (parent if parent != name else None, max(steps, 1), 0)

    def advance(self, name: str, done: int) -> None:
        """`done` steps of a phase are over."""
        with self._lock:
            if name in self._open:
                parent, steps, _ = self._open[name]
                self._open[name] = (parent, steps, min(done, steps))

    def finish(self, name: str) -> None:
        """A phase is over; the last one that ends completes the build."""
        with self._lock:
            self._open.pop(name, None)
            if not self._open:
                self._best = 1.0

    @property
    def fraction(self) -> float:
        """How much of the build is done, 0 to 1: a phase counts as one step of its parent."""
        with self._lock:
            roots = [name for name, (parent, _, _) in self._open.items() if parent not in self._open]
            if roots:
                self._best = max(self._best, self._of(roots[0]))
            return self._best

    def _of(self, name: str) -> float:
        _, steps, done = self._open[name]
        inside = max((self._of(child) for child, (parent, _, _) in self._open.items() if parent == name), default=0.0)
        return min((done + inside) / steps, 1.0)
