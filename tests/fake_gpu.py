"""A GPU that isn't there: libcuda, pycuda and TensorRT's runtime, strict about the documented rules.

A rule that is broken (a copy from pageable memory, a call in a thread without the context, a launch of a graph whose
shape has changed, memory freed after its context) fails the test at once. Networks are computed by `FakeRunner`.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trtpoets.core.spec import ModelSpec
from trtpoets.device import libcuda
from trtpoets.device.runners.fake import FakeRunner

VERSION = "10.3.0"


class CudaError(Exception):
    """pycuda.driver.Error."""


class CudaMemoryError(CudaError):
    """pycuda.driver.MemoryError."""


class Allocation(bytearray):
    """Page-locked memory: what a pinned array's `base` is."""

    gpu: FakeGpu

    def free(self) -> None:
        self.gpu.release(self, "pinned")


class FakeGpu:
    """The GPU's state, and every call in order (`journal`)."""

    def __init__(self, spec: ModelSpec, batch: tuple[int, int, int] = (1, 4, 8)) -> None:
        self.spec = spec
        self.batch = batch
        self.journal: list[str] = []
        self.alive: list[object] = []
        self.memory: dict[int, np.ndarray] = {}
        self.capturing: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.fail_capture = self.fail_execute = self.fail_memory = False
        self.cache_out = b"compiled kernels"
        self.cache_in: bytes | None = None
        self.cache_accepted = self.cache_taken = True
        self._threads = threading.local()

    @property
    def stack(self) -> list[object]:
        if not hasattr(self._threads, "stack"):
            self._threads.stack = []
        stack: list[object] = self._threads.stack
        return stack

    def current(self, call: str) -> None:
        assert self.stack, f"{call} without a current context in this thread"
        self.journal.append(call)

    def hold(self, thing: object, what: str) -> None:
        self.current(f"new {what}")
        self.alive.append(thing)

    def release(self, thing: object, what: str) -> None:
        self.current(f"free {what}")
        position = next((i for i, each in enumerate(self.alive) if each is thing), None)
        assert position is not None, f"{what} is freed twice"
        del self.alive[position]

    def submit(self, what: str, work: Callable[[], None]) -> None:
        """Queue work on the one stream: recorded while capturing, else done."""
        self.current(what)
        if self.capturing is not None:
            self.capturing.append(work)
        else:
            work()

    def install(self, monkeypatch: pytest.MonkeyPatch, *, rtx: bool = False) -> None:
        """Put the fakes where `import pycuda.driver`, `import tensorrt` and libcuda are looked for."""
        driver_module = _pycuda(self)
        package = ModuleType("pycuda")
        package.driver = driver_module  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver_module)
        name = "tensorrt_rtx" if rtx else "tensorrt"
        monkeypatch.setitem(sys.modules, name, _tensorrt(self, name, rtx))
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
        value._obj.value = {75: 8, 76: 6}[which]
        return 0

    def cuStreamBeginCapture_v2(self, stream: Any, mode: int) -> int:
        self.gpu.current("begin capture")
        assert mode == 1, "other threads would spoil a capture that is not thread-local"
        assert self.gpu.capturing is None
        self.gpu.capturing = []
        return 0

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:
        self.gpu.current("end capture")
        recorded, self.gpu.capturing = self.gpu.capturing, None
        assert recorded is not None
        if self.gpu.fail_capture:
            return 900
        graph._obj.value = 1000 + len(self.gpu.journal)
        self.gpu.graphs[graph._obj.value] = recorded
        self.gpu.alive.append(graph._obj.value)
        return 0

    def _instantiate(self, executable: Any, graph: ctypes.c_void_p, *flags: Any) -> int:
        self.gpu.current("instantiate")
        assert graph.value is not None
        executable._obj.value = graph.value + 1_000_000
        self.gpu.graphs[executable._obj.value] = self.gpu.graphs[graph.value]
        self.gpu.alive.append(executable._obj.value)
        return 0

    def cuGraphDestroy(self, graph: ctypes.c_void_p) -> int:
        self.gpu.current("destroy graph")
        assert graph.value is not None
        self.gpu.alive.remove(graph.value)
        del self.gpu.graphs[graph.value]
        return 0

    def cuGraphExecDestroy(self, executable: ctypes.c_void_p) -> int:
        self.gpu.current("destroy executable")
        assert executable.value is not None
        self.gpu.alive.remove(executable.value)
        del self.gpu.graphs[executable.value]
        return 0

    def cuGraphLaunch(self, executable: ctypes.c_void_p, stream: Any) -> int:
        assert executable.value in self.gpu.alive, "a freed graph is launched"
        work = self.gpu.graphs[executable.value]
        self.gpu.submit("launch", lambda: [each() for each in work] and None)
        return 0


def _pycuda(gpu: FakeGpu) -> Any:
    module: Any = ModuleType("pycuda.driver")

    class Context:
        def push(self) -> None:
            gpu.stack.append(self)
            gpu.journal.append("push")

        @staticmethod
        def pop() -> None:
            gpu.current("pop")
            gpu.stack.pop()

        def detach(self) -> None:
            assert self not in gpu.stack, "the context is released while it is current"
            assert not gpu.alive, f"the context is released before {gpu.alive}"
            gpu.journal.append("detach")

    class Stream:
        handle = 77

        def __init__(self, flags: int) -> None:
            assert flags == 1, "a blocking stream waits for the default stream"
            gpu.current("new stream")

        def synchronize(self) -> None:
            assert gpu.capturing is None, "waiting for a stream that is being captured"
            gpu.current("synchronize")

    class Device:
        def __init__(self, index: int) -> None:
            assert index == 0

        def retain_primary_context(self) -> Context:
            gpu.journal.append("retain")
            return Context()

    class Memory:
        def __init__(self, size: int) -> None:
            self.address = 4096 * (len(gpu.memory) + 1)
            gpu.memory[self.address] = np.full(size, 255, np.uint8)
            gpu.hold(self, "memory")

        def __int__(self) -> int:
            return self.address

        def free(self) -> None:
            gpu.release(self, "memory")
            del gpu.memory[self.address]

    class Event:
        def record(self, stream: Stream) -> None:
            gpu.submit("event", lambda: None)

        def time_since(self, other: Event) -> float:
            return 0.25

    def pagelocked_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        if gpu.fail_memory:
            raise CudaMemoryError("cuMemHostAlloc failed: out of memory")
        allocation = Allocation(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        allocation.gpu = gpu
        gpu.hold(allocation, "pinned")
        return np.ndarray(shape, dtype, buffer=allocation)

    def pinned_bytes(array: np.ndarray) -> np.ndarray:
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        assert any(base is each for each in gpu.alive), "a copy from or to memory that is not page-locked"
        return array.reshape(-1).view(np.uint8)

    def to_device(address: int, source: np.ndarray, stream: Stream) -> None:
        content = pinned_bytes(source)
        gpu.submit("upload", lambda: gpu.memory[address].__setitem__(slice(content.size), content))

    def to_host(target: np.ndarray, address: int, stream: Stream) -> None:
        content = pinned_bytes(target)
        gpu.submit("download", lambda: content.__setitem__(slice(None), gpu.memory[address][: content.size]))

    module.init = lambda: gpu.journal.append("init")
    module.get_version = lambda: (12, 6, 0)
    module.Context, module.Device, module.Stream, module.Event = Context, Device, Stream, Event
    module.Error, module.MemoryError = CudaError, CudaMemoryError
    module.mem_alloc, module.pagelocked_empty = Memory, pagelocked_empty
    module.memcpy_htod_async, module.memcpy_dtoh_async = to_device, to_host
    return module


def _tensorrt(gpu: FakeGpu, name: str, rtx: bool) -> Any:
    module: Any = ModuleType(name)
    module.__version__ = VERSION

    class Logger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    class Context:
        def __init__(self, config: Any = None) -> None:
            self.addresses: dict[str, int] = {}
            self.size = 0
            self.warm = False
            self.token = object()
            gpu.hold(self.token, "context")

        def set_tensor_address(self, tensor: str, address: int) -> bool:
            self.addresses[tensor] = address
            return address in gpu.memory

        def set_input_shape(self, tensor: str, shape: tuple[int, ...]) -> bool:
            gpu.current(f"shape {shape[0]}")
            self.warm = False
            self.size = shape[0]
            return gpu.batch[0] <= shape[0] <= gpu.batch[2]

        def get_tensor_shape(self, tensor: str) -> tuple[int, ...]:
            return (self.size, len(gpu.spec.labels))

        def execute_async_v3(self, stream: int) -> bool:
            assert stream == 77, "not the session's stream"
            assert set(self.addresses) == {"photos", "scores"} and self.size, "run before it is set up"
            assert gpu.capturing is None or self.warm, "captured before this shape has run once"
            assert not (rtx and gpu.capturing is not None), "TensorRT-RTX captures by itself"
            if gpu.fail_execute:
                return False
            size = self.size
            gpu.submit("execute", lambda: self.compute(size))
            self.warm = True
            return True

        def compute(self, size: int) -> None:
            assert size == self.size, "a graph is launched for a shape that has changed"
            preprocess = gpu.spec.preprocess
            shape = (size, preprocess.height, preprocess.width, 3)
            photos = gpu.memory[self.addresses["photos"]][: int(np.prod(shape))].reshape(shape)
            with FakeRunner(gpu.spec) as runner:
                scores = runner.infer(photos)
            gpu.memory[self.addresses["scores"]][: scores.nbytes] = scores.reshape(-1).view(np.uint8)

        def __del__(self) -> None:
            gpu.release(self.token, "context")

    class Engine:
        num_io_tensors = 2

        def __init__(self) -> None:
            self.token = object()
            gpu.hold(self.token, "engine")

        def get_tensor_name(self, index: int) -> str:
            return ("photos", "scores")[index]

        def get_tensor_dtype(self, tensor: str) -> str:
            return {"photos": "DataType.UINT8", "scores": "DataType.FLOAT"}[tensor]

        def get_tensor_profile_shape(self, tensor: str, profile: int) -> list[tuple[int, ...]]:
            return [(size, 16, 16, 3) for size in gpu.batch]

        def create_execution_context(self, config: Any = None) -> Context:
            assert (config is not None) == rtx
            return Context(config)

        def create_runtime_config(self) -> Any:
            assert rtx
            config = SimpleNamespace(cuda_graph_strategy=None, set_runtime_cache=lambda cache: gpu.cache_taken)
            config.create_runtime_cache = lambda: SimpleNamespace(serialize=lambda: gpu.cache_out, deserialize=read)
            return config

        def __del__(self) -> None:
            gpu.release(self.token, "engine")

    def read(content: bytes) -> bool:
        gpu.cache_in = bytes(content)
        return gpu.cache_accepted

    class Runtime:
        def __init__(self, logger: Logger) -> None:
            self.logger: Any = logger
            gpu.current("new runtime")

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if not plan.startswith(b"plan"):
                self.logger.log(
                    Logger.ERROR,
                    "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
                    "magicTag == kPLAN_MAGIC_TAG failed. In verifyHeader at /_src/runtime/api/coreReadArchive.cpp:31)",
                )
                return None
            return Engine()

    module.ILogger, module.Runtime = Logger, Runtime
    module.NetworkDefinitionCreationFlag = SimpleNamespace(__members__={"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1})
    if rtx:
        module.IRuntimeCache = object
        module.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    return module


@contextmanager
def nothing_left(gpu: FakeGpu) -> Any:
    """Everything on the GPU is freed, in any case, when the block is left."""
    try:
        yield
    finally:
        assert gpu.alive == [] and gpu.stack == [] and gpu.memory == {}, gpu.journal
