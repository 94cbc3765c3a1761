"""A GPU that isn't there: libcuda and pycuda, strict about the documented rules (`fake_runtime.py` has TensorRT).

Work that is queued is done when the stream is waited for, not before. A rule that is broken (a copy from pageable
memory or from memory that has changed meanwhile, a call in a thread without the context, a graph launched after it was
freed, memory freed while work is queued or after its context) raises at once and is kept in `broken`, since what is
raised in a destructor goes unseen. The context stacks behave as pycuda 2026.1's do: one entry at most of a thread's
driver stack is pycuda's, a release pushes the context and leaves it there, and releases nothing in another thread.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trtpoets.core.spec import ModelSpec
from trtpoets.device import libcuda

if TYPE_CHECKING:
    import pytest

TICK = 0.25
"""Milliseconds that one piece of work takes, on the fake GPU's clock."""


class CudaError(Exception):
    """pycuda.driver.Error."""


class CudaMemoryError(CudaError):
    """pycuda.driver.MemoryError."""


class Allocation(bytearray):
    """Page-locked memory: what a pinned array's `base` is."""

    gpu: FakeGpu

    def free(self) -> None:
        self.gpu.idle("pinned memory is freed", id(self))
        self.gpu.release(self, "pinned")


class Primary:
    """One life of the primary context: from the first hold on it to the last."""

    alive = True


class Stacks:
    """One thread's contexts: the driver's stack, and what pycuda believes."""

    def __init__(self) -> None:
        self.driver: list[object] = []
        self.pycuda: list[object] = []


class Work(NamedTuple):
    """Something queued, and by number what may not be freed or changed before it is done."""

    do: Callable[[], None]
    needs: frozenset[int]


class Queue:
    """One stream: what waits to be done, and what is being captured."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.waiting: list[Work] = []
        self.captured: list[Work] | None = None


class FakeGpu:
    """The GPU's state, and every call in order (`journal`)."""

    def __init__(self, spec: ModelSpec, batch: tuple[int, int, int] = (1, 4, 8)) -> None:
        self.spec = spec
        self.batch = batch
        self.journal: list[str] = []
        self.broken: list[str] = []
        self.alive: list[object] = []
        self.memory: dict[int, np.ndarray] = {}
        self.queues: dict[int, Queue] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.clock = 0.0
        self.holds = 0
        self.primary = Primary()
        self.threads: dict[int, Stacks] = {}
        self.fail_capture = self.fail_execute = self.fail_memory = self.fail_shape = False
        self.fail_captured_execute = False
        self.cache_out = b"compiled kernels"
        self.cache_in: bytes | None = None
        self.cache_accepted = self.cache_taken = True
        self._numbers = itertools.count(1)

    def number(self) -> int:
        """A number that nothing else has: an address or a handle, far from 32 bits."""
        return next(self._numbers) << 36

    def rule(self, kept: bool, what: str) -> None:
        if not kept:
            self.broken.append(what)
            raise AssertionError(what)

    @property
    def stacks(self) -> Stacks:
        return self.threads.setdefault(threading.get_ident(), Stacks())

    def current(self, call: str) -> None:
        top = self.stacks.driver[-1:]
        self.rule(top == [self.primary] and self.primary.alive, f"{call} without the primary context in this thread")
        self.journal.append(call)

    def hold(self, thing: object, what: str) -> None:
        self.current(f"new {what}")
        self.rule(not self.capturing, f"new {what} while this thread captures a graph")
        self.alive.append(thing)

    def release(self, thing: object, what: str) -> None:
        self.current(f"free {what}")
        position = next((i for i, each in enumerate(self.alive) if each is thing), None)
        self.rule(position is not None, f"{what} is freed twice")
        del self.alive[position]  # type: ignore[arg-type]

    def idle(self, what: str, number: int) -> None:
        """Nothing that is queued needs the thing of this number."""
        waiting = [work for queue in list(self.queues.values()) for work in list(queue.waiting)]
        self.rule(not any(number in work.needs for work in waiting), f"{what} while work is queued that needs it")

    def at(self, address: int, size: int) -> np.ndarray:
        """Memory of the GPU, as bytes."""
        self.rule(address in self.memory, "memory of the GPU that is not there")
        self.rule(size <= self.memory[address].size, "beyond the end of the GPU's memory")
        return self.memory[address][:size]

    @property
    def capturing(self) -> bool:
        return any(queue.captured is not None for queue in self.queues.values())

    def submit(self, stream: int, what: str, do: Callable[[], None], *needs: int, ticks: int = 1) -> None:
        """Queue work on a stream, or record it while the stream is captured."""
        self.current(what)
        self.rule(stream in self.queues, f"{what} on stream {stream}, which is not one of ours")

        def timed() -> None:
            self.clock += ticks * TICK
            do()

        queue = self.queues[stream]
        (queue.waiting if queue.captured is None else queue.captured).append(Work(timed, frozenset(needs)))

    def finish(self, stream: int) -> None:
        """Do what waits on a stream."""
        self.current("synchronize")
        queue = self.queues[stream]
        self.rule(queue.captured is None, "waiting for a stream that is being captured")
        while queue.waiting:
            queue.waiting[0].do()
            del queue.waiting[0]

    def retain(self) -> None:
        if not self.holds:
            self.primary = Primary()
        self.holds += 1

    def let_go(self) -> None:
        self.rule(self.holds > 0, "the primary context is released more often than it was retained")
        self.holds -= 1
        if not self.holds:
            self.primary.alive = False
            self.rule(not self.alive, f"the primary context is destroyed before {len(self.alive)} things on it")

    def install(self, monkeypatch: pytest.MonkeyPatch, *, rtx: bool = False) -> None:
        """Put the fakes where `import pycuda.driver`, `import tensorrt` and libcuda are looked for."""
        from tests.fake_runtime import fake_tensorrt

        driver_module = _pycuda(self)
        package = ModuleType("pycuda")
        package.driver = driver_module  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver_module)
        name = "tensorrt_rtx" if rtx else "tensorrt"
        monkeypatch.setitem(sys.modules, name, fake_tensorrt(self, name, rtx=rtx))
        monkeypatch.setattr(libcuda, "load_driver", lambda: FakeDriver(self))


class FakeDriver:
    """libcuda through ctypes: the calls of `libcuda.py`."""

    def __init__(self, gpu: FakeGpu, *, old: bool = False) -> None:
        self.gpu = gpu
        # CUDA before 11.4 has the other name, with more arguments.
        setattr(self, "cuGraphInstantiate" if old else "cuGraphInstantiateWithFlags", self._instantiate)

    def cuInit(self, flags: int) -> int:
        return 0

    def cuGetErrorName(self, code: int, text: Any) -> int:
        text._obj.value = {900: b"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", 100: b"CUDA_ERROR_NO_DEVICE"}.get(code)
        return 0

    def cuDriverGetVersion(self, number: Any) -> int:
        number._obj.value = 12060
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = b"Paper GPU"
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:
        memory._obj.value = 8 << 30
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> int:
        value._obj.value = {16: 28, 18: 0, 75: 8, 76: 6}[which]
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: Any) -> int:
        self.gpu.let_go()
        self.gpu.journal.append("release")
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        self.gpu.rule(bool(self.gpu.stacks.driver), "a context is popped off an empty stack")
        self.gpu.stacks.driver.pop()
        return 0

    def cuStreamBeginCapture_v2(self, stream: ctypes.c_void_p, mode: int) -> int:
        self.gpu.current("begin capture")
        self.gpu.rule(mode == 1, "other threads would spoil a capture that is not thread-local")
        queue = self._queue(stream)
        self.gpu.rule(queue.captured is None, "a capture is begun within a capture")
        queue.captured = []
        return 0

    def cuStreamEndCapture(self, stream: ctypes.c_void_p, graph: Any) -> int:
        self.gpu.current("end capture")
        queue = self._queue(stream)
        recorded, queue.captured = queue.captured, None
        self.gpu.rule(recorded is not None, "a capture is ended that was not begun")
        if self.gpu.fail_capture:
            return 900
        graph._obj.value = self._keep(recorded)
        return 0

    def _instantiate(self, executable: Any, graph: ctypes.c_void_p, *flags: Any) -> int:
        self.gpu.current("instantiate")
        executable._obj.value = self._keep(self.gpu.graphs[self._known(graph)])
        return 0

    def cuGraphDestroy(self, graph: ctypes.c_void_p) -> int:
        return self._destroy(graph, "graph")

    def cuGraphExecDestroy(self, executable: ctypes.c_void_p) -> int:
        self.gpu.idle("a graph is freed", executable.value or 0)
        return self._destroy(executable, "executable")

    def cuGraphLaunch(self, executable: ctypes.c_void_p, stream: ctypes.c_void_p) -> int:
        known = self._known(executable)
        work = self.gpu.graphs[known]
        needs = frozenset().union(*(each.needs for each in work))

        def replay() -> None:
            for each in work:
                each.do()

        self.gpu.submit(self._queue(stream).handle, "launch", replay, known, *needs, ticks=0)
        return 0

    def _keep(self, work: Any) -> int:
        handle = self.gpu.number()
        self.gpu.graphs[handle] = work
        self.gpu.alive.append(handle)
        return handle

    def _known(self, handle: ctypes.c_void_p) -> int:
        self.gpu.rule(handle.value in self.gpu.graphs, "a freed graph is used")
        assert handle.value is not None
        return handle.value

    def _destroy(self, handle: ctypes.c_void_p, what: str) -> int:
        known = self._known(handle)
        self.gpu.current(f"destroy {what}")
        self.gpu.alive.remove(known)
        del self.gpu.graphs[known]
        return 0

    def _queue(self, stream: ctypes.c_void_p) -> Queue:
        self.gpu.rule(stream.value in self.gpu.queues, "a stream that is not one of ours")
        assert stream.value is not None
        return self.gpu.queues[stream.value]


def _pycuda(gpu: FakeGpu) -> Any:
    module: Any = ModuleType("pycuda.driver")

    class Context:
        def __init__(self) -> None:
            self.valid = True
            self.life = gpu.primary
            self.thread = threading.get_ident()

        def push(self) -> None:
            stacks = gpu.stacks
            if stacks.pycuda:
                stacks.driver.pop()
            stacks.driver.append(self.life)
            stacks.pycuda.append(self)
            gpu.journal.append("push")

        @staticmethod
        def pop() -> None:
            stacks = gpu.stacks
            if not stacks.pycuda:
                raise CudaError("context::pop failed: invalid device context - cannot pop non-current context")
            stacks.driver.pop()
            stacks.pycuda.pop()
            if stacks.pycuda:
                top: Any = stacks.pycuda[-1]
                stacks.driver.append(top.life)
            gpu.journal.append("pop")

        def detach(self) -> None:
            gpu.rule(self.valid, "a context is released twice")
            gpu.rule(self not in gpu.stacks.pycuda, "a context is released while it is current")
            self.valid = False
            gpu.journal.append("detach")
            if self.thread == threading.get_ident():
                gpu.stacks.driver.append(self.life)
                gpu.let_go()

    class Stream:
        def __init__(self, flags: int) -> None:
            gpu.rule(flags == 1, "a blocking stream waits for the default stream")
            gpu.hold(self.__dict__, "stream")  # not the stream itself, which must be able to go
            self.handle = gpu.number()
            gpu.queues[self.handle] = Queue(self.handle)

        def synchronize(self) -> None:
            gpu.finish(self.handle)

        def __del__(self) -> None:
            if hasattr(self, "handle"):
                gpu.rule(not gpu.queues[self.handle].waiting, "a stream is freed while work is queued")
                del gpu.queues[self.handle]
                gpu.release(self.__dict__, "stream")

    class Device:
        def __init__(self, index: int) -> None:
            gpu.rule(index == 0, "there is one GPU")

        def retain_primary_context(self) -> Context:
            gpu.journal.append("retain")
            gpu.retain()
            return Context()

    class Memory:
        def __init__(self, size: int) -> None:
            gpu.hold(self, "memory")
            self.address = gpu.number()
            gpu.memory[self.address] = np.full(size, 255, np.uint8)

        def __int__(self) -> int:
            return self.address

        def free(self) -> None:
            gpu.idle("memory is freed", self.address)
            gpu.release(self, "memory")
            del gpu.memory[self.address]

    class Event:
        def __init__(self) -> None:
            gpu.hold(self.__dict__, "event")
            self.at: float | None = None

        def record(self, stream: Stream) -> None:
            self.at = None
            gpu.submit(stream.handle, "event", lambda: setattr(self, "at", gpu.clock), id(self), ticks=0)

        def time_since(self, other: Event) -> float:
            if self.at is None or other.at is None:
                raise CudaError("cuEventElapsedTime failed: device not ready")
            return self.at - other.at

        def __del__(self) -> None:
            gpu.release(self.__dict__, "event")

    def pagelocked_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        if gpu.fail_memory:
            raise CudaMemoryError("cuMemHostAlloc failed: out of memory")
        allocation = Allocation(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        allocation.gpu = gpu
        gpu.hold(allocation, "pinned")
        return np.ndarray(shape, dtype, buffer=allocation)

    def owner(array: np.ndarray) -> Any:
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        return base

    def pinned_bytes(array: np.ndarray) -> np.ndarray:
        base = owner(array)
        gpu.rule(any(base is each for each in gpu.alive), "a copy from or to memory that is not page-locked")
        gpu.rule(array.flags.c_contiguous, "a copy of memory that is not in one piece")
        return array.reshape(-1).view(np.uint8)

    def to_device(address: int, source: np.ndarray, stream: Stream) -> None:
        content = pinned_bytes(source)
        before = content.copy()
        gpu.at(address, content.size)

        def copy() -> None:
            gpu.rule(np.array_equal(content, before), "memory has changed while it was being copied")
            gpu.at(address, content.size)[:] = pinned_bytes(source)

        gpu.submit(stream.handle, "upload", copy, id(owner(source)), address)

    def to_host(target: np.ndarray, address: int, stream: Stream) -> None:
        content = pinned_bytes(target)
        gpu.at(address, content.size)
        content[:] = 255  # not a number as float32: nobody may read it before the stream is waited for

        def copy() -> None:
            pinned_bytes(target)[:] = gpu.at(address, content.size)

        gpu.submit(stream.handle, "download", copy, id(owner(target)), address)

    module.init = lambda: gpu.journal.append("init")
    module.get_version = lambda: (12, 6, 0)
    module.Context, module.Device, module.Stream, module.Event = Context, Device, Stream, Event
    module.Error, module.MemoryError = CudaError, CudaMemoryError
    module.mem_alloc, module.pagelocked_empty = Memory, pagelocked_empty
    module.memcpy_htod_async, module.memcpy_dtoh_async = to_device, to_host
    return module


@contextmanager
def nothing_left(gpu: FakeGpu) -> Iterator[None]:
    """Everything on the GPU is freed, in any case, when the block is left, and no rule was broken on the way."""
    holds = gpu.holds
    try:
        yield
    finally:
        assert gpu.broken == []
        assert not gpu.alive and gpu.memory == {} and gpu.queues == {} and gpu.graphs == {}, gpu.journal[-40:]
        assert gpu.holds == holds, "the primary context was not released"
        assert not any(stacks.pycuda for stacks in gpu.threads.values())
        assert not any(isinstance(each, Primary) for stacks in gpu.threads.values() for each in stacks.driver)
