"""The fake GPU is worth its tests: a harness that breaks a rule does not get past it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fake_gpu import FakeGpu, nothing_left
from tests.paper_engine import expected_scores, paper_engine
from tests.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import RunFailed
from trtpoets.device import cuda, libcuda
from trtpoets.device.cuda import CudaSession
from trtpoets.device.runners import trt
from trtpoets.device.runners.trt import TensorRtRunner
from trtpoets.device.tensorrt_session import TensorRtSession


def exercise(gpu: FakeGpu, folder: Path) -> None:
    """Two lives of a runner: sizes that stay and change, a batch in pieces, a failure in the middle."""
    with nothing_left(gpu):
        for _ in range(2):
            with TensorRtRunner(paper_engine(folder)) as runner:
                for number, count in enumerate((2, 2, 2, 4, 20)):
                    gpu.fail_execute = number == 3
                    photos = tiny_photos(count, seed=number)
                    if gpu.fail_execute:
                        with pytest.raises(RunFailed, match="can't run the engine"):
                            runner.infer(photos)
                    else:
                        assert np.allclose(runner.infer(photos), expected_scores(photos))
                assert runner.infer_timed(photos)[1].compute_ms > 0


def nothing(*_: Any, **__: Any) -> None:
    """A rule that is not kept."""


def popped_late(session: CudaSession) -> None:
    """Release a context as versions before did: pycuda pushes it, and it is popped when it is gone."""
    context, session._context, session._current = session._context, None, None
    context.detach()
    libcuda.pop_context(session._driver)


def backwards(session: Any) -> None:
    """Free the engine before its context."""
    session._engine = None
    session._context = session._cache = session._runtime = None


def late(real: Callable[..., None]) -> Callable[..., None]:
    """Change what was queued to be copied."""

    def upload(self: CudaSession, address: int, source: np.ndarray) -> None:
        real(self, address, source)
        source += 1

    return upload


BROKEN: dict[str, tuple[Any, str, Any, str]] = {
    "scores are read before they are there": (
        CudaSession,
        "synchronize",
        nothing,
        "the context is freed while work is queued that needs it",
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
        lambda self, shape, dtype: np.zeros(shape, dtype),
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
        trt._Room,
        "_drop_graph",
        nothing,
        "the primary context is destroyed before 1 things on it",
    ),
    "a graph that is not freed": (
        libcuda.Graph,
        "close",
        nothing,
        "the primary context is destroyed before 1 things on it",
    ),
    "an engine that is not freed": (TensorRtSession, "close", nothing, "is freed before what was made from it"),
    "an engine that is freed before its context": (
        TensorRtSession,
        "close",
        backwards,
        "the engine is freed before what was made from it",
    ),
    "a tensor without memory": (TensorRtSession, "bind", nothing, "run before it is set up"),
    "a shape that is never set": (TensorRtSession, "set_shape", nothing, "an address is set before the shape"),
}
"""What is broken: where, by what, and what the fake says to it (nothing where only what is left over tells)."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    owner, name, broken, said = BROKEN[rule]
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises((AssertionError, RunFailed)) as caught:
        exercise(gpu, tmp_path)
    assert any(said in each for each in gpu.broken) if said else not gpu.broken
    del caught
    gc.collect()  # what was left dies here, with its complaints


def test_a_harness_that_keeps_the_rules_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch)
    exercise(gpu, tmp_path)
