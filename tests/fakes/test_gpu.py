"""The fake GPU fails a test whose code breaks a rule of the GPU."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.engine import expected_scores, paper_engine
from tests.fakes.gpu import FakeGpu, nothing_left
from tests.support.errors import raises
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import RunFailed
from trtpoets.device.gpu import cuda, libcuda
from trtpoets.device.gpu.cuda import CudaSession
from trtpoets.device.gpu.prepared_calls import PreparedCalls
from trtpoets.device.runners.trt import TensorRtRunner
from trtpoets.device.runners.trt_lanes import Lane
from trtpoets.device.runners.trt_slots import Slot
from trtpoets.device.tensorrt_session import EngineContext, TensorRtSession


def exercise(gpu: FakeGpu, folder: Path) -> None:
    """Use two runners in turn: equal and other batch sizes, a batch in parts, a failure, overlapping batches."""
    with nothing_left(gpu):
        for _ in range(2):
            with TensorRtRunner(paper_engine(folder)) as runner:
                for number, count in enumerate((2, 2, 2, 4, 20)):
                    gpu.fail_execute = number == 3
                    photos = tiny_photos(count, seed=number)
                    if gpu.fail_execute:
                        with raises(RunFailed, "TP4108"):
                            runner.infer(photos)
                    else:
                        assert np.allclose(runner.infer(photos), expected_scores(photos))
                assert runner.infer_timed(photos)[1].compute_ms > 0
                batches = [tiny_photos(2, seed=seed) for seed in range(5)]
                for _ in range(2):
                    tickets = [runner.submit(batch) for batch in batches]
                    for batch, ticket in zip(batches, tickets, strict=True):
                        assert np.allclose(runner.collect(ticket), expected_scores(batch))


def nothing(*_: Any, **__: Any) -> None:
    """Replaces a method that a rule requires."""


def popped_late(session: CudaSession) -> None:
    """Release a context in the wrong order: pycuda pushes it, and it is popped after it was destroyed."""
    context, session._context, session._current = session._context, None, None
    context.detach()
    libcuda.pop_context(session._driver)


def backwards(session: Any) -> None:
    """Free the engine before its contexts."""
    session._engine = None
    session._contexts.clear()
    session._cache = session._runtime = None


def one_for_all(real: Callable[..., Any]) -> Callable[..., Any]:
    """Give every lane the same execution context."""

    def new_context(self: Any, memory: int = 0) -> Any:
        if not self._contexts:
            real(self, memory)
        return self._contexts[0]

    return new_context


def same_memory(real: Callable[..., Any]) -> Callable[..., Any]:
    """Let the contexts of all slots work in the memory of the first."""

    def new_context(self: Any, memory: int = 0) -> Any:
        self.first = getattr(self, "first", memory)
        return real(self, self.first)

    return new_context


def during(self: Any, enqueue: Callable[[], None], **_: Any) -> Any:
    """Wait within a capture."""

    def waiting() -> None:
        enqueue()
        self.synchronize()

    return libcuda.capture(self._driver, self.stream, waiting)


def late(real: Callable[..., None]) -> Callable[..., None]:
    """Change the source of a copy after the copy was queued."""

    def upload(self: CudaSession, address: int, source: np.ndarray) -> None:
        real(self, address, source)
        source += 1

    return upload


BROKEN: dict[str, tuple[Any, str, Any, str]] = {
    "scores are read before they are there": (
        PreparedCalls,
        "waiter",
        lambda self, stream: lambda: 0,
        "",
    ),
    "work stays queued after a failure": (
        CudaSession,
        "drain",
        nothing,
        "memory has changed while it was being copied",
    ),
    "memory is pageable": (
        CudaSession,
        "pinned",
        lambda self, shape, dtype, **_: np.zeros(shape, dtype),
        "memory that is not page-locked",
    ),
    "photos change while they are copied": (
        CudaSession,
        "upload",
        late(CudaSession.upload),
        "memory has changed while it was being copied",
    ),
    "the default stream": (CudaSession, "stream", 0, "execute on stream 0, which is not one of ours"),
    "a stream that waits for the default one": (
        cuda,
        "_NON_BLOCKING",
        0,
        "a blocking stream waits for the default stream",
    ),
    "the context stays with the thread": (
        cuda._Current,
        "__exit__",
        nothing,
        "a context is released while it is current",
    ),
    "the context is never made current": (
        cuda._Current,
        "__enter__",
        nothing,
        "without the primary context in this thread",
    ),
    "a context that is on the stack while it is released": (
        libcuda,
        "pop_context",
        nothing,
        "a context is released while it is on the driver's stack",
    ),
    "a context is popped after it was released": (
        CudaSession,
        "_release",
        popped_late,
        "a context is popped after it was released",
    ),
    "a capture that other threads spoil": (libcuda, "_THREAD_LOCAL", 0, "a capture that is not thread-local"),
    "a graph that outlives its shape": (
        Lane,
        "close",
        nothing,
        "things on it",
    ),
    "one context for two sizes": (
        TensorRtSession,
        "new_context",
        one_for_all(TensorRtSession.new_context),
        "is set while work is queued that needs it",
    ),
    "two slots that share the memory of contexts": (
        TensorRtSession,
        "new_context",
        same_memory(TensorRtSession.new_context),
        "races with the work of another stream",
    ),
    "a context without memory": (
        TensorRtSession,
        "memory_bytes",
        16,
        "too little memory for a context",
    ),
    "a slot that is filled again too soon": (
        Slot,
        "free",
        True,
        "memory has changed while it was being copied",
    ),
    "waiting within a capture": (
        cuda.CudaStream,
        "capture",
        during,
        "waiting for a stream while this thread captures",
    ),
    "a graph that is not freed": (
        libcuda.CudaGraph,
        "close",
        nothing,
        "things on it",
    ),
    "an engine that is not freed": (TensorRtSession, "close", nothing, "things on it"),
    "an engine that is freed before its context": (
        TensorRtSession,
        "close",
        backwards,
        "the engine is freed before what was made from it",
    ),
    "a tensor without memory": (EngineContext, "bind", nothing, "run before it is set up"),
    "a shape that is never set": (EngineContext, "set_shape", nothing, "an address is set before the shape"),
}
"""By rule: the class, its member, the replacement that breaks the rule, and the message of the fake.

The message is empty where the fake reports no broken rule, and `exercise` itself fails.
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    owner, name, broken, result = BROKEN[rule]
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises((AssertionError, RunFailed)) as caught:
        exercise(gpu, tmp_path)
    assert any(result in item for item in gpu.broken) if result else not gpu.broken
    del caught
    gc.collect()  # destructors of objects that were not freed may raise errors here


def test_code_that_keeps_the_rules_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch)
    exercise(gpu, tmp_path)
