"""pycuda of the fake GPU: contexts, streams, events, memory and copies."""

from __future__ import annotations

import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.fakes.gpu import FakeGpu, Job, Queue

DEVICEMAP = 2
"""CU_MEMHOSTALLOC_DEVICEMAP."""


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


def fake_pycuda(gpu: FakeGpu) -> Any:
    """The module `pycuda.driver` of a fake GPU."""
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
            content[:] = 255  # not a number as float32: it must not be read before the stream is waited for
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
