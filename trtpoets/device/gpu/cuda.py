"""A CUDA session on the primary context: streams, memory, events and graphs. Only this module imports pycuda.

TensorFlow, TensorRT and all users of the CUDA runtime share the primary context, so the session also uses it, and not
`pycuda.autoinit`, which creates a separate context that the others can't use.
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
from trtpoets.device.gpu.prepared_calls import PreparedCalls

log = logging.getLogger(__name__)

_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream does not synchronise with the default stream, which TensorFlow may use."""


class CudaStream:
    """A CUDA stream with asynchronous copies, events and graph capture. Use it inside `current()` of its session."""

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
        """The handle of the stream, for TensorRT."""
        return int(self._stream.handle)

    def upload(self, address: int, source: np.ndarray) -> None:
        """Queue a copy of pinned memory to the GPU."""
        self._cuda.memcpy_htod_async(address, source, self._stream)

    def download(self, target: np.ndarray, address: int) -> None:
        """Queue a copy from the GPU to pinned memory."""
        self._cuda.memcpy_dtoh_async(target, address, self._stream)

    def synchronize(self) -> None:
        """Wait until all queued work is finished."""
        self._stream.synchronize()

    def drain(self) -> None:
        """`synchronize` before memory is freed. An error of a broken stream is only logged: it was raised before."""
        try:
            self._stream.synchronize()
        except self._cuda.Error as error:
            log.debug("the stream was broken when it was left: %s", error)

    def event(self) -> int:
        """Create an event and return its number, for `mark(event)` and `milliseconds(first, second)`."""
        self._events.append(self._cuda.Event())
        return len(self._events) - 1

    def mark(self, event: int) -> None:
        """Queue an event."""
        self._events[event].record(self._stream)

    def milliseconds(self, first: int, second: int) -> float:
        """The time on the GPU between two finished events."""
        return float(self._events[second].time_since(self._events[first]))

    def capture(
        self, enqueue: Callable[[], None], *, instead: str = "without a CUDA graph"
    ) -> libcuda.CudaGraph | None:
        """Capture the work that `enqueue` queues as a CUDA graph; None, with a warning, if it can't be captured.

        The warning says what is done `instead`. The caller must close the graph.
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
    """Retains the primary context on entering and frees all memory, streams and events on leaving, also after errors.

    The session is itself a stream; `another_stream` creates more. The primary context is current only inside
    `current()`, in the calling thread: outside, the thread's contexts are unchanged, and sessions may overlap in any
    order. Memory, streams and events are created and used inside `current()` and freed with the session. Graphs must be
    closed before.

    `wait` is how threads wait for the GPU (`gpu_wait.set_wait`); None leaves it unchanged. `waits` is the mode in
    effect, which differs if another library had already created the context.
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
            gpu_wait.set_wait(driver, self._index, self._wait)
        try:
            self._cuda.init()
            self._context = self._cuda.Device(self._index).retain_primary_context()
        except self._cuda.Error as error:
            raise _run_failed(self._cuda, error) from error
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

    def as_run_failed(self, error: BaseException) -> BaseException:
        """A CUDA error as RunFailed; any other error unchanged."""
        return _run_failed(self._cuda, error) if isinstance(error, self._cuda.Error) else error

    def current(self) -> _Current:
        """Make the session's context current in the calling thread inside the block; CUDA errors become RunFailed."""
        if self._current is None:
            raise RunFailed(
                "the CUDA session was used before it was entered",
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
        """Whether GPU and CPU share memory, so that the GPU can access pinned memory directly (on a Jetson)."""
        return libcuda.maps_host_memory(self._driver, self._index)

    def another_stream(self) -> CudaStream:
        """Create another stream, independent of the others. Freed with the session."""
        stream = CudaStream()
        stream._open(self._cuda, self._driver)
        self._more.append(stream)
        return stream

    def calls(self) -> PreparedCalls:
        """Prepared driver calls with low overhead. Use inside `current()`."""
        return PreparedCalls(self._driver)

    def pinned(self, shape: tuple[int, ...], dtype: Any, *, mapped: bool = False) -> np.ndarray:
        """Pinned (page-locked) host memory, needed for asynchronous copies. Freed with the session.

        With `mapped`, the GPU can access it directly at `device_address`, if `maps_memory` is true.
        """
        flags = {"mem_flags": int(self._cuda.host_alloc_flags.DEVICEMAP)} if mapped else {}
        array: np.ndarray = self._cuda.pagelocked_empty(shape, dtype, **flags)
        allocation: Any = array.base
        self._held.callback(allocation.free)
        return array

    def device_address(self, array: np.ndarray) -> int:
        """The device address of `mapped` pinned memory (cuMemHostGetDevicePointer)."""
        allocation: Any = array.base
        return int(allocation.get_device_pointer())

    def device_memory(self, size: int) -> int:
        """Allocate `size` bytes on the GPU and return their address. Freed with the session."""
        memory = self._cuda.mem_alloc(size)
        self._held.callback(memory.free)
        return int(memory)

    def free_memory(self) -> int:
        """The number of free bytes of GPU memory."""
        return int(self._cuda.mem_get_info()[0])

    def _release(self) -> None:
        """Release the primary context, after pushing it with pycuda and popping it with the driver.

        The last release destroys the context, "regardless of how many threads it is current to", and does not "pop the
        context from stack in any circumstances" (CUDA driver API, cuDevicePrimaryCtxRelease). pycuda's `detach`
        (cuda.hpp, 2026.1) releases a context correctly only if it is the top of pycuda's own stack. Otherwise it pushes
        the context onto the driver's stack and leaves it there, and in another thread than the creator's it does not
        release it. So the context is pushed onto both stacks, popped from the driver's, and then released.
        """
        context, self._context, self._current = self._context, None, None
        try:
            context.push()
            libcuda.pop_context(self._driver)
        except self._cuda.Error as error:
            log.debug("the context is broken and can't be made current for its release: %s", error)
        finally:
            context.detach()


class _Current:
    """Makes a context current inside a block. One object is used by all threads and for every batch."""

    __slots__ = ("_cuda", "_pop", "_push")

    def __init__(self, cuda: Any, context: Any) -> None:
        self._cuda = cuda
        self._push = context.push
        self._pop = cuda.Context.pop

    def __enter__(self) -> None:
        try:
            self._push()
        except self._cuda.Error as error:
            raise _run_failed(self._cuda, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._pop()
        except self._cuda.Error as failed:
            error = error or failed
        if error is not None and isinstance(error, self._cuda.Error):
            raise _run_failed(self._cuda, error) from error


def _run_failed(cuda: Any, error: BaseException) -> RunFailed:
    """The RunFailed for a CUDA error."""
    if isinstance(error, cuda.MemoryError):
        return RunFailed(
            f"the GPU is out of memory: {error}",
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
            f"running TensorRT engines needs pycuda, but it can't be imported: {error}",
            hint="put CUDA's nvcc on the PATH, and: pip install 'trtpoets[harness]'",
            code="TP4063",
        ) from error
    return cuda
