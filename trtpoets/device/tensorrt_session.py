"""Deserialises engines with TensorRT's runtime and creates execution contexts."""

from __future__ import annotations

import logging
from typing import Any, Callable

from trtpoets.core.errors import BadArtefact, RunFailed
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, BatchRange
from trtpoets.device.tensorrt_api import TensorRt, numpy_type
from trtpoets.device.tensorrt_messages import NO_DRIVER, Messages, new_logger

log = logging.getLogger(__name__)

_TENSOR_TYPES = {INPUT_NAME: "uint8", OUTPUT_NAME: "float32"}


class TensorRtSession:
    """A deserialised engine and its execution contexts. Call `close` while the CUDA context is still current.

    TensorRT-RTX compiles kernels at run time: `cache` is an earlier result of `runtime_cache` for this engine, which
    saves that time. TensorRT-RTX also captures CUDA graphs by itself, unless `graphs` is false; `captures_itself` tells
    whether it does. `host_code` allows a version-compatible engine to run the runtime that it contains. `dla_core` is
    the DLA core of the engine, None for the GPU.
    """

    def __init__(
        self,
        library: TensorRt,
        plan: bytes,
        cache: bytes | None = None,
        *,
        graphs: bool = True,
        host_code: bool = False,
        dla_core: int | None = None,
    ) -> None:
        self._messages = Messages()
        self._logger = new_logger(library, self._messages)
        self._library = library
        self._runtime: Any = None
        self._engine: Any = None
        self._config: Any = None
        self._cache: Any = None
        self._contexts: list[EngineContext] = []
        self.captures_itself = False
        self.shares_memory = False
        """Whether several contexts can share memory that the caller provides.

        Up to TensorRT 8.6, with dynamic shapes, "each optimization profile can only have one execution context", unless
        the engine was built with PROFILE_SHARING_0806; since 10.0 that is always on (developer guide, "Performing
        Inference"; trtexec's sampleOptions.cpp). CUDA graphs need "one execution context per captured graph, and to
        share memory across the contexts" (developer guide, "CUDA Graphs").
        """
        try:
            self._load(plan, cache, graphs, host_code, dla_core)
        except BaseException:
            self.close()
            raise

    def _load(self, plan: bytes, cache: bytes | None, graphs: bool, host_code: bool, dla_core: int | None) -> None:
        """Deserialise the engine. Raises RunFailed, or BadArtefact for other inputs and outputs."""
        library = self._library

        try:
            self._runtime = library.module.Runtime(self._logger)
        except TypeError as error:
            if NO_DRIVER not in str(error):
                raise
            raise RunFailed(
                f"{library.title} can't run here: no usable CUDA driver ({self.reason()})",
                hint="check nvidia-smi",
                code="TP4101",
            ) from error
        if host_code:
            self._runtime.engine_host_code_allowed = True
        if dla_core is not None:
            self._runtime.DLA_core = dla_core
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise RunFailed(
                f"{library.title} can't load the engine: {self.reason()}",
                hint="build it again on this machine, with --force",
                code="TP4102",
            )
        self._check_tensors()
        if hasattr(library.module, "IRuntimeCache"):
            self._configure(cache, graphs)
        else:
            self.shares_memory = shares_memory(library)

    @property
    def batch(self) -> BatchRange:
        """The batch range of the engine's optimization profile."""
        shapes = self._engine.get_tensor_profile_shape(INPUT_NAME, 0)
        minimum, optimum, maximum = (int(shape[0]) for shape in shapes)
        return BatchRange(minimum, optimum, maximum)

    @property
    def several_contexts(self) -> bool:
        """Whether the engine can have more than one context."""
        return self.shares_memory or self._config is not None

    @property
    def memory_bytes(self) -> int:
        """GPU memory in bytes that a context needs from the caller if `shares_memory`, else 0."""
        return int(self._engine.device_memory_size_v2) if self.shares_memory else 0

    def new_context(self, memory: int = 0) -> EngineContext:
        """Create an execution context. If `shares_memory`, it uses `memory_bytes` at the address `memory`.

        Contexts that share memory must not run at the same time. Raises RunFailed if there is not enough memory.
        """
        module = self._library.module
        if self._config is not None:
            context = self._engine.create_execution_context(self._config)
        elif self.shares_memory:
            strategy = module.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self._engine.create_execution_context(strategy)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise RunFailed(
                f"{self._library.title} has not enough memory to run the engine: {self.reason()}",
                hint="free GPU memory, or build with a smaller --batch",
                code="TP4103",
            )
        if self.shares_memory:
            context.set_device_memory(memory, self.memory_bytes)
        wrapper = EngineContext(self._library.title, self.reason)
        wrapper.set_context(context)
        self._contexts.append(wrapper)
        return wrapper

    def drop(self, context: EngineContext) -> None:
        """Free a context that is no longer running."""
        self._contexts.remove(context)
        context.close()

    def runtime_cache(self) -> bytes | None:
        """The kernels compiled at run time, for the next session; None for libraries without a runtime cache."""
        return None if self._cache is None else bytes(self._cache.serialize())

    def close(self) -> None:
        """Free contexts, engine and runtime, in this order."""
        for context in self._contexts:
            context.close()
        self._contexts.clear()
        self._config = None
        self._cache = None
        self._engine = None
        self._runtime = None

    def reason(self) -> str:
        """The first error that TensorRT logged, as a sentence."""
        return self._messages.sentence() or "it gave no reason"

    def _configure(self, cache: bytes | None, graphs: bool) -> None:
        """Create the runtime configuration of TensorRT-RTX, with its runtime cache and its CUDA graphs."""
        config = self._engine.create_runtime_config()
        self._cache = config.create_runtime_cache()
        if cache and not self._cache.deserialize(cache):
            log.warning("the runtime cache is from another GPU or library: its kernels are compiled again")
        if not config.set_runtime_cache(self._cache):
            log.warning("the library rejects the runtime cache: kernels are compiled at every start")
        if graphs:
            config.cuda_graph_strategy = self._library.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self.captures_itself = True
        self._config = config

    def _check_tensors(self) -> None:
        """Raise BadArtefact if the inputs and outputs of the engine are not those of trtpoets' networks."""
        tensors = _tensor_types(self._engine)
        if tensors != _TENSOR_TYPES:
            raise BadArtefact(
                f"the tensors of the engine must be {_TENSOR_TYPES}, not {tensors}",
                hint="build it again",
                code="TP4104",
            )


class EngineContext:
    """One of TensorRT's execution contexts; runs one inference at a time.

    `title` is the name of the library for messages; `reason` returns its first error.
    """

    def __init__(self, title: str, reason: Callable[[], str]) -> None:
        self._context: Any = None
        self._title = title
        self._reason = reason

    def set_context(self, context: Any) -> None:
        """Set TensorRT's context. The check of names against the bindings follows methods, not constructors."""
        self._context = context

    def bind(self, name: str, address: int) -> None:
        """Set the GPU address of a tensor for all later inferences. Raises RunFailed."""
        if not self._context.set_tensor_address(name, address):
            raise RunFailed(f"{self._title} rejects the address of {name}: {self._reason()}", code="TP4105")

    def set_shape(self, photos: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Set the shape of the input; check that the output has the shape `scores`. Raises RunFailed, BadArtefact."""
        if not self._context.set_input_shape(INPUT_NAME, photos):
            raise RunFailed(f"{self._title} rejects the input shape {photos}: {self._reason()}", code="TP4106")
        shape = tuple(int(size) for size in self._context.get_tensor_shape(OUTPUT_NAME))
        if shape != scores:
            raise BadArtefact(
                f"the engine's output has the shape {shape}, but {scores} was expected from its card",
                hint="build it again",
                code="TP4107",
            )

    def enqueue(self, stream: int) -> None:
        """Queue one inference on the stream. Raises RunFailed."""
        if not self._context.execute_async_v3(stream):
            raise RunFailed(
                f"{self._title} can't run the engine: {self._reason()}", hint="check nvidia-smi", code="TP4108"
            )

    def close(self) -> None:
        """Free the context."""
        self._context = None


def _tensor_types(engine: Any) -> dict[str, str]:
    """The types of the inputs and outputs by name.

    This is a separate function so that no frame in the traceback of an error refers to the engine, which must be freed.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return {name: numpy_type(engine.get_tensor_dtype(name)) for name in names}


def shares_memory(library: TensorRt) -> bool:
    """Whether contexts can share memory of the caller (TensorRT 10.1 and later, and TensorRT-RTX)."""
    return hasattr(library.module.ICudaEngine, "device_memory_size_v2")
