"""A CUDA session on the primary context: stream, pinned and device buffers, events, graphs. The only pycuda.

TensorFlow, TensorRT and everything on the CUDA runtime share the primary context, so this uses it too and never
`pycuda.autoinit`, which makes a context of its own that the others can't see.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Callable

import numpy as np

from trtpoets.core.errors import MissingDependency, RunFailed
from trtpoets.device import libcuda

log = logging.getLogger(__name__)

_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: no waiting for the default stream, on which TensorFlow may be busy."""


class CudaSession:
    """Enter to take the GPU, leave to free everything, in the right order and whatever was raised inside.

    The primary context is current only inside `current()`, in whichever thread asks: between two uses the thread is as
    TensorFlow or anyone else left it, and sessions may overlap in any order. Memory and events are made and used inside
    `current()`, and are freed with the session; graphs are their maker's to close, before.
    """

    def __init__(self, device: int = 0) -> None:
        self._index = device
        self._held = ExitStack()
        self._thread = 0
        self._cuda: Any = None
        self._context: Any = None
        self._stream: Any = None
        self._driver: Any = None
        self._events: list[Any] = []
        self._current: _Current | None = None

    def __enter__(self) -> CudaSession:
        """Retain the primary context, open a stream. Raises RunFailed or MissingDependency."""
        self._driver = libcuda.load_driver()
        self._cuda = load_pycuda()
        self._thread = threading.get_ident()
        try:
            self._cuda.init()
            self._context = self._cuda.Device(self._index).retain_primary_context()
        except self._cuda.Error as error:
            raise _told(self._cuda, error) from error
        self._current = _Current(self._cuda, self._context)
        try:
            with self._current:
                self._stream = self._cuda.Stream(flags=_NON_BLOCKING)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self.current():
                try:
                    self.drain()
                    self._held.close()
                finally:
                    self._events.clear()
                    self._stream = None
        finally:
            self._release()

    def current(self) -> _Current:
        """The session's context is the calling thread's while inside. What CUDA raises comes out as RunFailed."""
        if self._current is None:
            raise RunFailed(
                "the GPU was used before it was taken", hint="use it as: with CudaSession() as session: ..."
            )
        return self._current

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
        self._held.callback(allocation.free)
        return array

    def device_memory(self, size: int) -> int:
        """`size` bytes on the GPU: their address. Freed with the session."""
        memory = self._cuda.mem_alloc(size)
        self._held.callback(memory.free)
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

    def event(self) -> int:
        """A mark in the stream, by its number: `mark(event)`, then `milliseconds(first, second)`."""
        self._events.append(self._cuda.Event())
        return len(self._events) - 1

    def mark(self, event: int) -> None:
        """Queue an event."""
        self._events[event].record(self._stream)

    def milliseconds(self, first: int, second: int) -> float:
        """The time on the GPU between two events that are over."""
        return float(self._events[second].time_since(self._events[first]))

    def capture(self, enqueue: Callable[[], None]) -> libcuda.Graph | None:
        """What `enqueue` queues on the stream, as a graph; None, with a warning, when it can't be captured.

        The caller closes it.
        """
        try:
            return libcuda.capture(self._driver, self.stream, enqueue)
        except RunFailed as error:
            log.warning("running without a CUDA graph: %s", error.message)
            return None

    def _release(self) -> None:
        context, self._context, self._current = self._context, None, None
        context.detach()
        # pycuda (2026.1 and before) pushes a context to release it and leaves it on the thread's stack, and in another
        # thread than the one that took it, it releases nothing.
        if threading.get_ident() == self._thread:
            libcuda.pop_context(self._driver)
        else:
            libcuda.release_primary_context(self._driver, self._index)


class _Current:
    """A context that is current while inside. One object serves every use and every thread: entered for each batch."""

    __slots__ = ("_cuda", "_pop", "_push")

    def __init__(self, cuda: Any, context: Any) -> None:
        self._cuda = cuda
        self._push = context.push
        self._pop = cuda.Context.pop

    def __enter__(self) -> None:
        try:
            self._push()
        except self._cuda.Error as error:
            raise _told(self._cuda, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._pop()
        except self._cuda.Error as failed:
            error = error or failed
        if error is not None and isinstance(error, self._cuda.Error):
            raise _told(self._cuda, error) from error


def _told(cuda: Any, error: BaseException) -> RunFailed:
    """What CUDA raised, in our words."""
    if isinstance(error, cuda.MemoryError):
        return RunFailed(
            f"the GPU's memory is full: {error}", hint="end other programs on it, or build with a smaller --batch"
        )
    return RunFailed(f"the GPU failed: {error}", hint="check it with nvidia-smi")


def load_pycuda() -> Any:
    """The driver module of pycuda. Raises MissingDependency that says how to install it."""
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise MissingDependency(
            f"TensorRT engines run through pycuda, and it does not import here: {error}",
            hint="pip install 'trtpoets[harness]', with CUDA's nvcc on the PATH",
        ) from error
    return cuda
