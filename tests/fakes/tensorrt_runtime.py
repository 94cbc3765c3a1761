"""TensorRT's runtime on the fake GPU, strict about the order of calls; `FakeRunner` computes the scores.

Rules: objects are freed before the objects that created them; one context per profile before 10.1; a context without
its own memory is given enough, and contexts that share memory do not run at the same time; shapes are set before
addresses, both before running, and neither changes while work is queued; a shape runs once before it is captured, a
context is in at most one graph, and a graph is launched only while the context is unchanged; an engine on the DLA
is never captured; the stream is not the default one.

Stands for the runtimes of TensorRT 8.5 to 11 and TensorRT-RTX on a GPU. Its members are compared with the real bindings
(`bindings.py`); its behaviour is from NVIDIA's documentation, and `tests/test_on_gpu.py` checks the same code on a GPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.fakes.gpu import FakeGpu
from trtpoets.device.runners.fake import FakeRunner

VERSION = "10.3.0"


class Owned:
    """An object on the GPU that must be freed before its owner."""

    def __init__(self, gpu: FakeGpu, what: str, owner: Owned | None = None) -> None:
        gpu.hold(self.__dict__, what)
        self.gpu, self.what, self.children = gpu, what, 0
        self.owner = weakref.ref(owner) if owner else None
        if owner:
            owner.children += 1

    def __del__(self) -> None:
        gpu = self.gpu
        gpu.idle(f"the {self.what} is freed", id(self.__dict__))
        gpu.rule(not self.children, f"the {self.what} is freed before what was made from it")
        if self.owner:
            owner = self.owner()
            gpu.rule(owner is not None, f"the {self.what} is freed after what it was made from")
            assert owner is not None
            owner.children -= 1
        gpu.release(self.__dict__, self.what)


class Logger:
    """The base class of loggers."""

    INTERNAL_ERROR, ERROR, WARNING = range(3)

    def log(self, severity: int, text: str) -> None:
        raise NotImplementedError


class Context(Owned):
    """An execution context of the only profile."""

    def __init__(self, gpu: FakeGpu, engine: Engine, *, given: bool) -> None:
        gpu.rule(not engine.children or not gpu.one_context, "a second context for the one profile")
        super().__init__(gpu, "context", engine)
        self.rtx, self.dla = engine.rtx, engine.dla
        self.scratch = 0
        self.given = given
        preprocess = gpu.spec.preprocess
        self.photo = (preprocess.height, preprocess.width, 3)
        self.addresses: dict[str, int] = {}
        self.size = self.version = 0
        self.warm = False

    def set_input_shape(self, tensor: str, shape: tuple[int, ...]) -> bool:
        gpu = self.gpu
        gpu.current(f"shape {shape[0]}")
        gpu.idle("a shape is set", id(self.__dict__))
        gpu.rule(tensor == "photos", f"{tensor} is no input")
        gpu.rule(tuple(shape[1:]) == self.photo, f"photos of shape {shape}")
        if gpu.fail_shape or not gpu.batch[0] <= shape[0] <= gpu.batch[2]:
            return False
        self.warm = False
        self.version += 1
        self.size = shape[0]
        return True

    def get_tensor_shape(self, tensor: str) -> tuple[int, ...]:
        self.gpu.rule(self.size > 0, "the shape of the scores is asked for before that of the photos is set")
        return (self.size, len(self.gpu.spec.labels))

    def set_tensor_address(self, tensor: str, address: int) -> bool:
        self.gpu.current(f"address of {tensor}")
        self.gpu.idle("an address is set", id(self.__dict__))
        self.gpu.rule(self.size > 0, "an address is set before the shape")
        self.gpu.at(address, 1)
        self.version += 1
        self.addresses[tensor] = address
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        gpu = self.gpu
        gpu.current("context memory")
        gpu.rule(self.given, "memory for a context that has its own")
        gpu.idle("a context's memory is set", id(self.__dict__))
        gpu.at(memory, size)
        gpu.rule(size >= SCRATCH and memory not in gpu.mapped, "too little memory for a context")
        self.scratch = memory
        self.version += 1

    def execute_async_v3(self, stream: int) -> bool:
        gpu = self.gpu
        gpu.rule(set(self.addresses) == {"photos", "scores"} and self.size > 0, "run before it is set up")
        gpu.rule(bool(self.scratch) == self.given, "run without the memory that it works in")
        gpu.rule(not gpu.capturing or self.dla is None, "an engine on the DLA is captured")
        graphs = [work for graph in gpu.graphs.values() for work in graph]
        again = any(id(self.__dict__) in work.needs for work in graphs)
        gpu.rule(not gpu.capturing or not again, "a second graph of one context")
        gpu.rule(not gpu.capturing or self.warm, "captured before this shape has run once")
        gpu.rule(not (self.rtx and gpu.capturing), "TensorRT-RTX captures by itself")
        if gpu.fail_execute or (gpu.capturing and gpu.fail_captured_execute):
            return False
        me, size, version = weakref.ref(self), self.size, self.version

        def work() -> None:
            context = me()
            gpu.rule(context is not None, "the context is gone before its work is done")
            assert context is not None
            context.compute(size, version)

        def begin() -> Callable[[], None]:
            context = me()
            assert context is not None
            return context.watched(work)

        needs = (id(self.__dict__), *self.addresses.values(), *([self.scratch] if self.scratch else []))
        gpu.submit(stream, "execute", None, *needs, begin=begin)
        self.warm = True
        return True

    def watched(self, work: Callable[[], None]) -> Callable[[], None]:
        """Mapped memory is also host memory: photos do not change while they wait, and scores are not read."""
        gpu, photos, scores = self.gpu, self.addresses["photos"], self.addresses["scores"]
        before = gpu.memory[photos].copy() if photos in gpu.mapped else None
        if scores in gpu.mapped:
            gpu.memory[scores][:] = 255

        def run() -> None:
            if before is not None:
                gpu.rule(np.array_equal(before, gpu.memory[photos]), "mapped photos have changed before they were read")
            work()

        return run

    def compute(self, size: int, version: int) -> None:
        gpu = self.gpu
        gpu.rule(version == self.version, "a graph is launched for a context that has changed")
        shape = (size, *self.photo)
        photos = gpu.at(self.addresses["photos"], int(np.prod(shape))).reshape(shape)
        with FakeRunner(gpu.spec) as runner:
            scores = runner.infer(photos)
        gpu.at(self.addresses["scores"], scores.nbytes)[:] = scores.reshape(-1).view(np.uint8)


SCRATCH = 4096
"""Bytes that a context works in."""


class Engine(Owned):
    """An engine with one profile, for libraries before 10.1."""

    num_io_tensors = 2

    def __init__(self, gpu: FakeGpu, runtime: Owned, *, rtx: bool) -> None:
        super().__init__(gpu, "engine", runtime)
        self.rtx = rtx
        self.dla = getattr(runtime, "DLA_core", None)

    def get_tensor_name(self, index: int) -> str:
        return ("photos", "scores")[index]

    def get_tensor_dtype(self, tensor: str) -> str:
        return {"photos": "DataType.UINT8", "scores": "DataType.FLOAT"}[tensor]

    def get_tensor_profile_shape(self, tensor: str, profile: int) -> list[tuple[int, ...]]:
        self.gpu.rule(profile == 0, "there is one profile")
        preprocess = self.gpu.spec.preprocess
        return [(size, preprocess.height, preprocess.width, 3) for size in self.gpu.batch]

    def create_execution_context(self, config: Any = None) -> Context:
        given = config == "user managed"
        self.gpu.rule((config is not None and not given) == self.rtx, "a runtime configuration is TensorRT-RTX's")
        self.gpu.rule(not given or not self.gpu.one_context, "memory can't be given before 10.1")
        return None if self.gpu.fail_context else Context(self.gpu, self, given=given)  # type: ignore[return-value]

    def create_runtime_config(self) -> Any:
        gpu = self.gpu
        gpu.rule(self.rtx, "a runtime configuration is TensorRT-RTX's")

        def deserialize(content: bytes) -> bool:
            gpu.current("read runtime cache")
            gpu.cache_in = bytes(content)
            return gpu.cache_accepted

        def serialize() -> bytes:
            gpu.current("write runtime cache")
            return gpu.cache_out

        cache = SimpleNamespace(serialize=serialize, deserialize=deserialize)
        return SimpleNamespace(
            cuda_graph_strategy="disabled",
            create_runtime_cache=lambda: cache,
            set_runtime_cache=lambda given: given is cache and gpu.cache_taken,
        )


class SharingEngine(Engine):
    """An engine of 10.1 and later, whose contexts can share memory."""

    device_memory_size_v2 = SCRATCH


def fake_tensorrt(gpu: FakeGpu, name: str, *, rtx: bool) -> Any:
    """The module `tensorrt` or `tensorrt_rtx`, only the runtime."""

    class Runtime(Owned):
        def __init__(self, logger: Logger) -> None:
            super().__init__(gpu, "runtime")
            self.logger = weakref.ref(logger)

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if plan.startswith(b"plan"):
                return module.ICudaEngine(gpu, self, rtx=rtx)
            logger = self.logger()
            gpu.rule(logger is not None, "the logger is gone before its runtime")
            assert logger is not None
            logger.log(
                Logger.ERROR,
                "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
                "magicTag == kPLAN_MAGIC_TAG failed. In verifyHeader at /_src/runtime/api/coreReadArchive.cpp:31)",
            )
            return None

    module: Any = ModuleType(name)
    module.__version__ = VERSION
    module.ILogger, module.Runtime, module.IExecutionContext = Logger, Runtime, Context
    module.ICudaEngine = Engine if gpu.one_context else SharingEngine
    if not gpu.one_context:
        module.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")
    module.NetworkDefinitionCreationFlag = SimpleNamespace(__members__={"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1})
    if rtx:
        module.IRuntimeCache = object
        module.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    return module
