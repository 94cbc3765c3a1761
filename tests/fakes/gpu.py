"""A fake GPU: libcuda and pycuda, strict about CUDA's documented rules (`tensorrt_runtime.py` has TensorRT).

Queued work is done when the stream is waited for, not before. Breaking a rule (a copy from pageable
memory or from memory that has changed meanwhile, a call in a thread without the context, a graph launched after it was
freed, memory freed while work is queued or after its context) raises immediately and is also kept in `broken`, because
exceptions in destructors are lost. The context stacks behave like pycuda 2026.1's: at most one entry of a thread's
driver stack is pycuda's; a release of the top of pycuda's own stack pushes nothing, any other release pushes the
context and leaves it there, and releases nothing in another thread. Nothing is popped after it was destroyed.

Stands for an NVIDIA GPU with its driver. The context rules are compared with the real pycuda over `libcuda.c`
(`tests/device/gpu/test_driver.py`); `tests/test_on_gpu.py` checks the same code on a GPU if there is one.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trtpoets.core.types import ModelSpec
from trtpoets.device.gpu import libcuda

if TYPE_CHECKING:
    import pytest

DEVICEMAP = 2
"""CU_MEMHOSTALLOC_DEVICEMAP."""

_ERRORS = {
    100: b"CUDA_ERROR_NO_DEVICE",
    101: b"CUDA_ERROR_INVALID_DEVICE",
    700: b"CUDA_ERROR_ILLEGAL_ADDRESS",
    708: b"CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE",
    900: b"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
}

TICK = 0.25
"""Milliseconds that one piece of work takes, on the fake GPU's clock."""


class CudaError(Exception):
    """pycuda.driver.Error."""


class CudaMemoryError(CudaError):
    """pycuda.driver.MemoryError."""


class Allocation(bytearray):
    """Pinned memory: the `base` of a pinned array."""

    gpu: FakeGpu
    flags: int
    address: int

    def get_device_pointer(self) -> int:
        self.gpu.current("device pointer")
        self.gpu.rule(bool(self.flags & DEVICEMAP), "the address of memory that is not mapped")
        if not self.address:
            self.address = self.gpu.number()
            self.gpu.memory[self.address] = np.frombuffer(self, np.uint8)
            self.gpu.mapped.add(self.address)
        return self.address

    def free(self) -> None:
        self.gpu.idle("pinned memory is freed", self.address or id(self))
        self.gpu.release(self, "pinned")
        if self.address:
            del self.gpu.memory[self.address]


class Primary:
    """One life of the primary context: from the first retain to the last release."""

    alive = True
    number = 1 << 20


class Stacks:
    """The contexts of one thread: the driver's stack, and pycuda's own."""

    def __init__(self) -> None:
        self.driver: list[Any] = []
        self.pycuda: list[Any] = []


Job = Callable[[], None]


class Work(NamedTuple):
    """Something that can be queued, and by number what may not be freed or changed before it is done.

    `begin` is called when it is queued (a graph's, at each launch), and gives what to do when its turn comes.
    """

    begin: Callable[[], Job]
    needs: frozenset[int]


class Queued(NamedTuple):
    """Work on a stream, and the time at which the host had queued it."""

    do: Job
    needs: frozenset[int]
    at: float


class Queue:
    """One stream: its queued work, and what is being captured, by which thread."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.waiting: list[Queued] = []
        self.captured: list[Work] | None = None
        self.capturer = 0


class FakeGpu:
    """The GPU's state, and every call in order (`journal`)."""

    def __init__(
        self,
        spec: ModelSpec,
        batch: tuple[int, int, int] = (1, 4, 8),
        *,
        one_context: bool = False,
        integrated: bool = False,
        cuda: int = 12060,
    ) -> None:
        self.spec = spec
        self.batch = batch
        self.one_context, self.integrated, self.cuda = one_context, integrated, cuda
        self.host_ms = self.host_clock = 0.0
        self.wait_flags = 0
        self.mapped: set[int] = set()
        self.free_memory = 4 << 30
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
        self.fail_captured_execute = self.fail_captured_copy = self.fail_context = False
        self.cache_out = b"compiled kernels"
        self.cache_in: bytes | None = None
        self.cache_accepted = self.cache_taken = True
        self._numbers = itertools.count(1)

    def number(self) -> int:
        """A unique number for an address or handle, larger than 32 bits."""
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
        position = next((i for i, item in enumerate(self.alive) if item is thing), None)
        self.rule(position is not None, f"{what} is freed twice")
        del self.alive[position]  # type: ignore[arg-type]

    def idle(self, what: str, number: int) -> None:
        """Check that no queued work uses the object with this number."""
        waiting = [work for queue in list(self.queues.values()) for work in list(queue.waiting)]
        self.rule(not any(number in work.needs for work in waiting), f"{what} while work is queued that needs it")

    def at(self, address: int, size: int) -> np.ndarray:
        """The bytes at an address of GPU memory."""
        self.rule(address in self.memory, "memory of the GPU that is not there")
        self.rule(size <= self.memory[address].size, "beyond the end of the GPU's memory")
        return self.memory[address][:size]

    @property
    def capturing(self) -> bool:
        """Whether this thread captures. Captures are thread-local, so other threads may allocate meanwhile."""
        me = threading.get_ident()
        return any(queue.captured is not None and queue.capturer == me for queue in self.queues.values())

    def submit(
        self,
        stream: int,
        what: str,
        do: Job | None,
        *needs: int,
        ticks: int = 1,
        begin: Callable[[], Job] | None = None,
    ) -> None:
        """Queue work on a stream, or record it while the stream is captured: `do`, or what `begin` gives when queued.

        Queueing takes the host `host_ms`, and no work begins before it is queued.
        """
        self.current(what)
        self.rule(stream in self.queues, f"{what} on stream {stream}, which is not one of ours")

        def timed() -> Job:
            job = begin() if begin else do
            assert job is not None

            def run() -> None:
                self.clock += ticks * TICK
                job()

            return run

        queue, work = self.queues[stream], Work(timed, frozenset(needs))
        if queue.captured is None:
            self.queue(queue, work, what)
        else:
            self.rule(queue.capturer == threading.get_ident(), f"{what} on a stream that another thread captures")
            queue.captured.append(work)

    def queue(self, queue: Queue, work: Work, what: str, *more: int) -> None:
        """Queue work now. Memory of the GPU that other streams' work needs is theirs until they were waited for."""
        needs = work.needs.union(more)
        shared = needs.intersection(self.memory)
        others = [item for other in list(self.queues.values()) if other is not queue for item in list(other.waiting)]
        self.rule(not any(shared & item.needs for item in others), f"{what} races with the work of another stream")
        self.host_clock += self.host_ms
        queue.waiting.append(Queued(work.begin(), needs, self.host_clock))

    def finish(self, stream: int) -> None:
        """Do the queued work of a stream."""
        self.current("synchronize")
        queue = self.queues[stream]
        self.rule(queue.captured is None and not self.capturing, "waiting for a stream while this thread captures")
        while queue.waiting:
            self.clock = max(self.clock, queue.waiting[0].at)
            queue.waiting[0].do()
            del queue.waiting[0]
        self.host_clock = max(self.host_clock, self.clock)

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
        """Install the fakes for `import pycuda.driver`, `import tensorrt` and libcuda."""
        from tests.fakes.tensorrt_runtime import fake_tensorrt

        driver_module = _pycuda(self)
        package = ModuleType("pycuda")
        package.driver = driver_module  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver_module)
        name = "tensorrt_rtx" if rtx else "tensorrt"
        monkeypatch.setitem(sys.modules, name, fake_tensorrt(self, name, rtx=rtx))
        monkeypatch.setattr(libcuda, "load_driver", lambda: FakeDriver(self))
        monkeypatch.setattr(libcuda, "keeping_gil", lambda driver: driver)


class FakeDriver:
    """libcuda through ctypes: the calls of `libcuda.py`."""

    def __init__(self, gpu: FakeGpu, *, old: bool = False) -> None:
        self.gpu = gpu
        # CUDA before 11.4 has the other name, with more arguments; before 11.0, no second version of the flags.
        setattr(self, "cuGraphInstantiate" if old else "cuGraphInstantiateWithFlags", self._instantiate)
        second = "" if gpu.cuda < 11000 else "_v2"
        setattr(self, f"cuDevicePrimaryCtxSetFlags{second}", self._set_flags)

    def cuInit(self, flags: int) -> int:
        return 0

    def cuGetErrorName(self, code: int, text: Any) -> int:
        text._obj.value = _ERRORS.get(code)
        return 0

    def cuDriverGetVersion(self, number: Any) -> int:
        number._obj.value = self.gpu.cuda
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 101 if index else 0

    def cuDeviceGetPCIBusId(self, text: Any, length: int, device: Any) -> int:
        text.value = b"0000:3B:00.0"
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = b"Paper GPU"
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:
        memory._obj.value = 8 << 30
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> int:
        value._obj.value = {16: 28, 18: int(self.gpu.integrated), 19: 1, 75: 8, 76: 6}[which]
        return 0

    def cuDevicePrimaryCtxGetState(self, device: ctypes.c_int, flags: Any, active: Any) -> int:
        self.gpu.rule(isinstance(device, ctypes.c_int), "a device is passed by its index")
        flags._obj.value, active._obj.value = self.gpu.wait_flags, int(self.gpu.holds > 0)
        return 0

    def _set_flags(self, device: ctypes.c_int, flags: ctypes.c_uint) -> int:
        if self.gpu.holds and self.gpu.cuda < 11000:
            return 708
        self.gpu.rule(flags.value & 7 in (0, 1, 2, 4), "more than one way to wait")
        self.gpu.journal.append(f"wait flags {flags.value}")
        self.gpu.wait_flags = flags.value
        return 0

    def cuCtxGetCurrent(self, context: Any) -> int:
        stack = self.gpu.stacks.driver
        context._obj.value = stack[-1].number if stack else None
        return 0

    def cuCtxPushCurrent_v2(self, context: ctypes.c_void_p) -> int:
        primary = self.gpu.primary
        self.gpu.rule(context.value == primary.number and primary.alive, "a context that is not there is pushed")
        self.gpu.stacks.driver.append(primary)
        self.gpu.journal.append("push driver")
        return 0

    def cuStreamSynchronize(self, stream: ctypes.c_void_p) -> int:
        self.gpu.finish(self._queue(stream).handle)
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: ctypes.c_int) -> int:
        self.gpu.rule(isinstance(device, ctypes.c_int), "a device is passed by its index")
        self.gpu.retain()
        context._obj.value = self.gpu.primary.number
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: Any) -> int:
        self.gpu.let_go()
        self.gpu.journal.append("release")
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        self.gpu.rule(bool(self.gpu.stacks.driver), "a context is popped off an empty stack")
        top = self.gpu.stacks.driver[-1:]
        self.gpu.rule(not top or top[0].alive, "a context is popped after it was released")
        self.gpu.stacks.driver.pop()
        self.gpu.journal.append("pop driver")
        return 0

    def cuStreamBeginCapture_v2(self, stream: ctypes.c_void_p, mode: int) -> int:
        self.gpu.current("begin capture")
        self.gpu.rule(mode == 1, "other threads would spoil a capture that is not thread-local")
        queue = self._queue(stream)
        self.gpu.rule(not self.gpu.capturing, "a capture is begun within a capture")
        queue.captured, queue.capturer = [], threading.get_ident()
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
        queue = self._queue(stream)
        self.gpu.current("launch")
        self.gpu.rule(queue.captured is None, "a graph is launched into a capture")
        for item in work:
            self.gpu.queue(queue, item, "launch", known)
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
            gpu.rule(self not in gpu.stacks.pycuda[:-1], "a context is released while it is current")
            self.valid = False
            gpu.journal.append("detach")
            stacks = gpu.stacks
            if stacks.pycuda[-1:] == [self]:
                gpu.let_go()
                gone = self.life.alive or self.life not in stacks.driver
                gpu.rule(gone, "a context is released while it is on the driver's stack")
                stacks.pycuda.pop()
                if stacks.pycuda:
                    stacks.driver.append(stacks.pycuda[-1].life)
            elif self.thread == threading.get_ident():
                stacks.driver.append(self.life)
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
            gpu.rule(gpu.queues[stream.handle].captured is None, "an event in a graph has no time")
            self.at = None
            gpu.submit(stream.handle, "event", lambda: setattr(self, "at", gpu.clock), id(self), ticks=0)

        def time_since(self, other: Event) -> float:
            if self.at is None or other.at is None:
                raise CudaError("cuEventElapsedTime failed: device not ready")
            return self.at - other.at

        def __del__(self) -> None:
            gpu.release(self.__dict__, "event")

    def pagelocked_empty(shape: tuple[int, ...], dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
        if gpu.fail_memory:
            raise CudaMemoryError("cuMemHostAlloc failed: out of memory")
        allocation = Allocation(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        allocation.gpu, allocation.flags, allocation.address = gpu, mem_flags, 0
        gpu.hold(allocation, "pinned")
        return np.ndarray(shape, dtype, buffer=allocation)

    def owner(array: np.ndarray) -> Any:
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        return base

    def pinned_bytes(array: np.ndarray) -> np.ndarray:
        base = owner(array)
        gpu.rule(any(base is item for item in gpu.alive), "a copy from or to memory that is not page-locked")
        gpu.rule(array.flags.c_contiguous, "a copy of memory that is not in one piece")
        return array.reshape(-1).view(np.uint8)

    def to_device(address: int, source: np.ndarray, stream: Stream) -> None:
        content = pinned_bytes(source)
        gpu.at(address, content.size)
        refuse_captured(stream)

        def begin() -> Job:
            before = content.copy()

            def copy() -> None:
                gpu.rule(np.array_equal(content, before), "memory has changed while it was being copied")
                gpu.at(address, content.size)[:] = pinned_bytes(source)

            return copy

        gpu.submit(stream.handle, "upload", None, id(owner(source)), address, begin=begin)

    def refuse_captured(stream: Stream) -> None:
        if gpu.fail_captured_copy and gpu.queues[stream.handle].captured is not None:
            raise CudaError("cuMemcpyAsync failed: operation not permitted when stream is capturing")

    def to_host(target: np.ndarray, address: int, stream: Stream) -> None:
        content = pinned_bytes(target)
        gpu.at(address, content.size)
        refuse_captured(stream)

        def begin() -> Job:
            content[:] = 255  # not a number as float32: nobody may read it before the stream is waited for
            return copy

        def copy() -> None:
            pinned_bytes(target)[:] = gpu.at(address, content.size)

        gpu.submit(stream.handle, "download", None, id(owner(target)), address, begin=begin)

    module.init = lambda: gpu.journal.append("init")
    module.get_version = lambda: (12, 6, 0)
    module.Context, module.Device, module.Stream, module.Event = Context, Device, Stream, Event
    module.Error, module.MemoryError = CudaError, CudaMemoryError
    module.mem_alloc, module.pagelocked_empty = Memory, pagelocked_empty
    module.mem_get_info = lambda: (gpu.free_memory, 8 << 30)
    module.host_alloc_flags = SimpleNamespace(DEVICEMAP=DEVICEMAP)
    module.memcpy_htod_async, module.memcpy_dtoh_async = to_device, to_host
    return module


@contextmanager
def nothing_left(gpu: FakeGpu) -> Iterator[None]:
    """Check at the end of the block that everything on the GPU is freed and that no rule was broken."""
    holds = gpu.holds
    try:
        yield
    finally:
        assert gpu.broken == []
        assert not gpu.alive and gpu.memory == {} and gpu.queues == {} and gpu.graphs == {}, gpu.journal[-40:]
        assert gpu.holds == holds, "the primary context was not released"
        assert not any(stack.pycuda for stack in gpu.threads.values())
        assert not any(isinstance(item, Primary) for stack in gpu.threads.values() for item in stack.driver)
