"""A CUDA session on the primary context: stream, pinned and device buffers, events, graphs. The only pycuda.

TensorFlow, TensorRT and everything on the CUDA runtime share the primary context, so this uses it too and never
`pycuda.autoinit`, which makes a context of its own that the others can't see.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Callable, Iterator

import numpy as np

from trtpoets.core.errors import MissingDependency, RunFailed
from trtpoets.device import libcuda

log = logging.getLogger(__name__)

_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: no waiting for the default stream, on which TensorFlow may be busy."""


class CudaSession:
    """Enter to take the GPU, leave to free everything, in the right order and whatever was raised inside.

    Memory, events and graphs belong to the session and are freed with it. Enter and leave in one thread; other threads
    work inside `current()`.
    """

    def __init__(self, device: int = 0) -> None:
        self._index = device
        self._stack = ExitStack()
        self._thread = 0
        self._cuda: Any = None
        self._context: Any = None
        self._stream: Any = None
        self._driver: Any = None

    def __enter__(self) -> CudaSession:
        """Retain and push the primary context, open a stream. Raises RunFailed or MissingDependency."""
        self._driver = libcuda.load_driver()
        self._cuda = load_pycuda()
        with self._errors(), ExitStack() as stack:
            self._cuda.init()
            self._context = self._cuda.Device(self._index).retain_primary_context()
            stack.callback(self._release)
            self._context.push()
            stack.callback(self._context.pop)
            self._stream = self._cuda.Stream(flags=_NON_BLOCKING)
            stack.callback(self._drop_stream)
            self._stack = stack.pop_all()
        self._thread = threading.get_ident()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @contextmanager
    def current(self) -> Iterator[None]:
        """The session's context is the calling thread's while inside. What CUDA raises comes out as RunFailed."""
        elsewhere = threading.get_ident() != self._thread
        with self._errors():
            if elsewhere:
                self._context.push()
            try:
                yield
            finally:
                if elsewhere:
                    self._cuda.Context.pop()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._cuda.MemoryError as error:
            raise RunFailed(
                f"the GPU's memory is full: {error}", hint="end other programs on it, or build with a smaller --batch"
            ) from error
        except self._cuda.Error as error:
            raise RunFailed(f"the GPU failed: {error}", hint="check it with nvidia-smi") from error

    @property
    def stream(self) -> int:
        """The stream's handle, as TensorRT takes it."""
        return int(self._stream.handle)

    def gpu(self) -> libcuda.Gpu:
        """The GPU of this session."""
        return libcuda.gpus()[self._index]

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Page-locked host memory, which the GPU copies from and to without a detour. Freed with the session."""
        array: np.ndarray = self._cuda.pagelocked_empty(shape, dtype)
        allocation: Any = array.base
        self._stack.callback(allocation.free)
        return array

    def device_memory(self, size: int) -> int:
        """`size` bytes on the GPU: their address. Freed with the session."""
        memory = self._cuda.mem_alloc(size)
        self._stack.callback(memory.free)
        return int(memory)

    def upload(self, address: int, source: np.ndarray) -> None:
        """Queue a copy of pinned memory to the GPU."""
        self._cuda.memcpy_htod_async(address, source, self._stream)

    def download(self, target: np.ndarray, address: int) -> None:
        """Queue a copy from the GPU to pinned memory."""
        self._cuda.memcpy_dtoh_async(target, address, self._stream)

    def synchronize(self) -> None:
        """Wait until everything that was queued is done."""
        self._stream.synchronize()

    def drain(self) -> None:
        """`synchronize` before memory is freed; a failure that has broken the stream was told already."""
        try:
            self._stream.synchronize()
        except self._cuda.Error as error:
            log.debug("the stream was broken when it was left: %s", error)

    def event(self) -> Any:
        """A mark in the stream: `mark(event)`, then `milliseconds(first, second)`."""
        return self._cuda.Event()

    def mark(self, event: Any) -> None:
        """Queue an event."""
        event.record(self._stream)

    @staticmethod
    def milliseconds(first: Any, second: Any) -> float:
        """The time on the GPU between two events that are over."""
        return float(second.time_since(first))

    def capture(self, enqueue: Callable[[], None]) -> libcuda.Graph | None:
        """What `enqueue` queues on the stream, as a graph; None, with a warning, when it can't be captured.

        The caller closes it.
        """
        try:
            return libcuda.capture(self._driver, self.stream, enqueue)
        except RunFailed as error:
            log.warning("running without a CUDA graph: %s", error.message)
            return None

    def _drop_stream(self) -> None:
        self._stream = None

    def _release(self) -> None:
        self._context.detach()
        self._context = None


def load_pycuda() -> Any:
    """The driver module of pycuda. Raises MissingDependency that says how to install it."""
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise MissingDependency(
            f"TensorRT engines run through pycuda, and it does not import here: {error}",
            hint="pip install 'trtpoets[tensorrt]', with CUDA's nvcc on the PATH",
        ) from error
    return cuda
