"""The runtime's side of TensorRT: the bytes of an engine to a context that can be queued on a stream."""

from __future__ import annotations

import logging
from typing import Any

from trtpoets.core.errors import BadArtefact, RunFailed
from trtpoets.core.spec import INPUT_NAME, OUTPUT_NAME, BatchRange
from trtpoets.device.tensorrt_api import TensorRt, numpy_type
from trtpoets.device.tensorrt_messages import NO_DRIVER, Messages, new_logger

log = logging.getLogger(__name__)

_DTYPES = {INPUT_NAME: "uint8", OUTPUT_NAME: "float32"}


class TensorRtSession:
    """A deserialised engine and its execution context. `close` frees both, while the CUDA context is still current.

    TensorRT-RTX compiles kernels when it runs: `cache` is what `runtime_cache` gave for this engine before, and saves
    that time. It also captures CUDA graphs by itself (`captures_itself`), unless `graphs` is false. A `host_code`
    engine, one that is version-compatible, brings a runtime of its own, which is run. `dla_core` is where the engine
    runs; None for the GPU.
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
        self._context: Any = None
        self._cache: Any = None
        self._graphs = graphs
        self.captures_itself = False
        try:
            self._load(plan, cache, host_code, dla_core)
        except BaseException:
            self.close()
            raise

    def _load(self, plan: bytes, cache: bytes | None, host_code: bool, dla_core: int | None) -> None:
        library = self._library
        try:
            self._runtime = library.module.Runtime(self._logger)
        except TypeError as error:
            if NO_DRIVER not in str(error):
                raise
            raise RunFailed(
                f"{library.title} can't run here: no usable CUDA driver ({self._reason()})", hint="check nvidia-smi"
            ) from error
        if host_code:
            self._runtime.engine_host_code_allowed = True
        if dla_core is not None:
            self._runtime.DLA_core = dla_core
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise RunFailed(
                f"{library.title} can't load the engine: {self._reason()}",
                hint="build it again on this machine, with --force",
            )
        self._check_tensors()
        self._context = self._new_context(cache)
        if self._context is None:
            raise RunFailed(
                f"{library.title} can't make room to run the engine: {self._reason()}",
                hint="free GPU memory, or build with a smaller --batch",
            )

    @property
    def batch(self) -> BatchRange:
        """The batch sizes that the engine takes."""
        shapes = self._engine.get_tensor_profile_shape(INPUT_NAME, 0)
        minimum, optimum, maximum = (int(shape[0]) for shape in shapes)
        return BatchRange(minimum, optimum, maximum)

    def bind(self, name: str, address: int) -> None:
        """Say where a tensor lies on the GPU. It stays bound."""
        if not self._context.set_tensor_address(name, address):
            raise RunFailed(f"{self._library.title} refuses memory for {name}: {self._reason()}")

    def set_shape(self, photos: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Set the shape of the next photos; check that the engine answers with the shape of `scores`."""
        if not self._context.set_input_shape(INPUT_NAME, photos):
            raise RunFailed(f"{self._library.title} refuses photos of shape {photos}: {self._reason()}")
        found = tuple(int(size) for size in self._context.get_tensor_shape(OUTPUT_NAME))
        if found != scores:
            raise BadArtefact(
                f"the engine gives scores of shape {found}, its card says {scores}", hint="build it again"
            )

    def enqueue(self, stream: int) -> None:
        """Queue one inference on the stream. Raises RunFailed."""
        if not self._context.execute_async_v3(stream):
            raise RunFailed(f"{self._library.title} can't run the engine: {self._reason()}", hint="check nvidia-smi")

    def runtime_cache(self) -> bytes | None:
        """What was compiled while running, for next time; None for libraries that compile nothing then."""
        return None if self._cache is None else bytes(self._cache.serialize())

    def close(self) -> None:
        """Free context, engine and runtime, in this order."""
        self._context = None
        self._cache = None
        self._engine = None
        self._runtime = None

    def _new_context(self, cache: bytes | None) -> Any:
        if not hasattr(self._library.module, "IRuntimeCache"):
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        self._cache = config.create_runtime_cache()
        if cache and not self._cache.deserialize(cache):
            log.warning("the runtime cache is from another GPU or library: its kernels are compiled again")
        if not config.set_runtime_cache(self._cache):
            log.warning("the runtime cache is not taken: kernels are compiled at every start")
        if self._graphs:
            config.cuda_graph_strategy = self._library.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self.captures_itself = True
        return self._engine.create_execution_context(config)

    def _check_tensors(self) -> None:
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        found = {name: numpy_type(engine.get_tensor_dtype(name)) for name in names}
        if found != _DTYPES:
            raise BadArtefact(f"the engine has the tensors {found}, not {_DTYPES}", hint="build it again")

    def _reason(self) -> str:
        return self._messages.sentence() or "it gave no reason"
