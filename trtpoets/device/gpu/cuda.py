"""A CUDA session on the primary context: streams, pinned and device buffers, events, graphs. The only pycuda.

TensorFlow, TensorRT and everything on the CUDA runtime share the primary context, so this uses it too and never
`pycuda.autoinit`, which makes a context of its own that the others can't see.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Callable

import numpy as np

from trtpoets.core.errors import MissingDependency, RunFailed
from trtpoets.device.gpu import gpu_wait, libcuda
from trtpoets.device.gpu.gpu_wait import Wait
from trtpoets.device.gpu.prepared_calls import HotCalls

log = logging.getLogger(__name__)

_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: no waiting for the default stream, on which TensorFlow may be busy."""


class CudaStream:
    """One stream, and what is queued on it: copies, events, graphs. Used inside `current()` of its session."""

    def __init__(self) -> None:
        self._cuda: Any = None
        self._driver: Any = None
        self._stream: Any = None
        self._events: list[Any] = []

    def _open(self, cuda: Any, driver: Any) -> None:
        self._cuda, self._driver = cuda, driver
        self._stream = cuda.Stream(flags=_NON_BLOCKING)

    def _close(self) -> None:
        self._events.clear()
        self._stream = None

    @property
    def stream(self) -> int:
        """The stream's handle, as TensorRT takes it."""
        return int(self._stream.handle)

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

    def capture(self, enqueue: Callable[[], None], *, instead: str = "without a CUDA graph") -> libcuda.Graph | None:
        """What `enqueue` queues on the stream, as a graph; None, with a warning, when it can't be captured.

        The warning says what is done `instead`. The caller closes the graph.
        """
        try:
            return libcuda.capture(self._driver, self.stream, enqueue)
        except RunFailed as error:
            why = error.message
        except self._cuda.MemoryError:
            raise
        except self._cuda.Error as error:
            why = str(error)
        log.warning("running %s: %s", instead, why)
        return None


class CudaSession(CudaStream):
    """Enter to take the GPU, leave to free everything, in the right order and whatever was raised inside.

    It is a stream of its own; `another_stream` makes more. The primary context is current only inside `current()`, in
    whichever thread asks: between two uses the thread is as TensorFlow or anyone else left it, and sessions may overlap
    in any order. Memory, streams and events are made and used inside `current()`, and are freed with the session;
    graphs are their maker's to close, before.

    `wait` is how threads wait for the GPU, as `gpu_wait.ask_for` sets it; None leaves it as it is. `waits` tells what
    holds: another library may have the context already.
    """

    def __init__(self, device: int = 0, *, wait: Wait | None = None) -> None:
        super().__init__()
        self._index = device
        self._wait = wait
        self._held = ExitStack()
        self._more: list[CudaStream] = []
        self._context: Any = None
        self._current: _Current | None = None

    def __enter__(self) -> CudaSession:
        """Retain the primary context, open a stream. Raises RunFailed or MissingDependency."""
        driver = libcuda.load_driver()
        self._driver, self._cuda = driver, load_pycuda()
        if self._wait is not None:
            gpu_wait.ask_for(driver, self._index, self._wait)
        try:
            self._cuda.init()
            self._context = self._cuda.Device(self._index).retain_primary_context()
        except self._cuda.Error as error:
            raise _told(self._cuda, error) from error
        self._current = _Current(self._cuda, self._context)
        try:
            with self._current:
                self._open(self._cuda, driver)
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
                    for stream in (self, *self._more):
                        stream.drain()
                    self._held.close()
                finally:
                    for stream in (self, *self._more):
                        stream._close()
                    self._more.clear()
        finally:
            self._release()

    def told(self, error: BaseException) -> BaseException:
        """An error of CUDA's as RunFailed; any other as it is."""
        return _told(self._cuda, error) if isinstance(error, self._cuda.Error) else error

    def current(self) -> _Current:
        """The session's context is the calling thread's while inside. What CUDA raises comes out as RunFailed."""
        if self._current is None:
            raise RunFailed(
                "the GPU was used before it was taken",
                hint="use it as: with CudaSession() as session: ...",
                code="TP4060",
            )
        return self._current

    @property
    def waits(self) -> Wait:
        """How threads wait for this GPU."""
        return gpu_wait.waits(self._driver, self._index)

    def gpu(self) -> libcuda.Gpu:
        """The GPU of this session."""
        return libcuda.gpus()[self._index]

    @property
    def maps_memory(self) -> bool:
        """Whether the GPU shares its memory with the CPU, and reads and writes pinned memory itself (a Jetson's)."""
        return libcuda.maps_host_memory(self._driver, self._index)

    def another_stream(self) -> CudaStream:
        """One more stream, which does not wait for the others. Freed with the session."""
        stream = CudaStream()
        stream._open(self._cuda, self._driver)
        self._more.append(stream)
        return stream

    def calls(self) -> HotCalls:
        """The driver's calls around one batch, for those who count microseconds. Use inside `current()`."""
        return HotCalls(self._driver)

    def pinned(self, shape: tuple[int, ...], dtype: Any, *, mapped: bool = False) -> np.ndarray:
        """Page-locked host memory, which the GPU copies from and to without a detour. Freed with the session.

        `mapped` memory the GPU reads and writes itself, where `maps_memory` says so: `device_address` is where.
        """
        flags = {"mem_flags": int(self._cuda.host_alloc_flags.DEVICEMAP)} if mapped else {}
        array: np.ndarray = self._cuda.pagelocked_empty(shape, dtype, **flags)
        allocation: Any = array.base
        self._held.callback(allocation.free)
        return array

    def device_address(self, array: np.ndarray) -> int:
        """Where the GPU sees `mapped` memory (cuMemHostGetDevicePointer)."""
        allocation: Any = array.base
        return int(allocation.get_device_pointer())

    def device_memory(self, size: int) -> int:
        """`size` bytes on the GPU: their address. Freed with the session."""
        memory = self._cuda.mem_alloc(size)
        self._held.callback(memory.free)
        return int(memory)

    def free_memory(self) -> int:
        """The bytes of the GPU that nobody uses."""
        return int(self._cuda.mem_get_info()[0])

    def _release(self) -> None:
        """Give the primary context back: pushed, popped, and only then released.

        A release destroys the context when it is the last, "regardless of how many threads it is current to", and does
        not "pop the context from stack in any circumstances" (CUDA driver API, cuDevicePrimaryCtxRelease). pycuda's
        `detach` (cuda.hpp, 2026.1) releases a context that is the top of pycuda's own stack, in any thread, and pushes
        nothing. One that is not it pushes onto the driver's stack and leaves there, and in another thread than the
        maker's it releases nothing. So the context is made the top of pycuda's stack, taken off the driver's alone, and
        released.
        """
        context, self._context, self._current = self._context, None, None
        try:
            context.push()
            libcuda.pop_context(self._driver)
        except self._cuda.Error as error:
            log.debug("the context is broken, and can't be made current to be released: %s", error)
        finally:
            context.detach()


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
            f"the GPU's memory is full: {error}",
            hint="end other programs on it, or build with a smaller --batch",
            code="TP4061",
        )
    return RunFailed(f"the GPU failed: {error}", hint="check it with nvidia-smi", code="TP4062")


def load_pycuda() -> Any:
    """The driver module of pycuda. Raises MissingDependency that says how to install it."""
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise MissingDependency(
            f"TensorRT engines run through pycuda, and it does not import here: {error}",
            hint="pip install 'trtpoets[harness]', with CUDA's nvcc on the PATH",
            code="TP4063",
        ) from error
    return cuda
