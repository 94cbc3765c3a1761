"""A fake GPU, strict about CUDA's documented rules.

This module has its state: memory, streams, graphs, contexts, and what may be done with them. `gpu_driver.py` has
libcuda, `gpu_pycuda.py` pycuda, `tensorrt_runtime.py` TensorRT.

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

import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, NamedTuple  # noqa: UP035 - `Job` is evaluated, also by Python 3.8

import numpy as np

from trtpoets.core.types import ModelSpec
from trtpoets.device.gpu import libcuda

if TYPE_CHECKING:
    import pytest

TICK = 0.25
"""Milliseconds that one piece of work takes, on the fake GPU's clock."""


class Primary:
    """The primary context between its first retain and its last release."""

    alive = True
    number = 1 << 20


class Stacks:
    """The contexts of one thread: the driver's stack, and pycuda's own."""

    def __init__(self) -> None:
        self.driver: list[Any] = []
        self.pycuda: list[Any] = []


Job = Callable[[], None]


class Work(NamedTuple):
    """Work that can be queued, and the numbers of the objects that must not be freed or changed before it is done.

    `begin` is called when it is queued (for a graph: at each launch), and returns the function that does it later.
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
        self.rule(address in self.memory, "memory of the GPU that does not exist")
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
        """Queue `do` on a stream, or what `begin` returns; record it if the stream is captured.

        Queueing takes `host_ms` of the host's time, and no work begins before it is queued.
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
        """Queue work now. Memory that other streams' work needs must not be used before the host waited for them."""
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
        from tests.fakes.gpu_driver import FakeDriver
        from tests.fakes.gpu_pycuda import fake_pycuda
        from tests.fakes.tensorrt_runtime import fake_tensorrt

        driver_module = fake_pycuda(self)
        package = ModuleType("pycuda")
        package.driver = driver_module  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver_module)
        name = "tensorrt_rtx" if rtx else "tensorrt"
        monkeypatch.setitem(sys.modules, name, fake_tensorrt(self, name, rtx=rtx))
        monkeypatch.setattr(libcuda, "load_driver", lambda: FakeDriver(self))
        monkeypatch.setattr(libcuda, "keeping_gil", lambda driver: driver)


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
