"""The CUDA session and libcuda: order of calls and clean-up on the fake GPU, and on a real one if there is one."""

from __future__ import annotations

import builtins
import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.gpu import TICK, FakeGpu
from tests.fakes.gpu_pycuda import CudaError
from tests.support.errors import raises
from trtpoets.core.errors import MissingDependency, RunFailed
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.cuda import CudaSession, load_pycuda

DEVICE = Path(libcuda.__file__).parents[1]


def test_pycuda_is_in_one_file_and_never_initialises_itself() -> None:
    users = [path.name for path in sorted(DEVICE.rglob("*.py")) if "import pycuda" in path.read_text()]
    assert users == ["cuda.py"]
    assert not [path for path in DEVICE.rglob("*.py") if "import pycuda.autoinit" in path.read_text()]


def test_the_primary_context_is_taken_and_given_back_in_order(gpu: FakeGpu) -> None:
    with CudaSession() as session:
        assert gpu.journal == ["init", "retain", "push", "new stream", "pop"]
        with session.current():
            session.pinned((2, 3), np.float32)
            session.device_memory(24)
        gpu.journal.clear()
    assert gpu.journal[:6] == ["push", "synchronize", "free memory", "free pinned", "free stream", "pop"]
    assert gpu.journal[6:] == ["push", "pop driver", "detach"]


def test_copies_go_there_and_back(gpu: FakeGpu) -> None:
    with CudaSession() as session, session.current():
        there, back = session.pinned((2, 3), np.float32), session.pinned((2, 3), np.float32)
        there[:] = [[1, 2, 3], [4, 5, 6]]
        address = session.device_memory(there.nbytes)
        first, second = session.event(), session.event()
        session.upload(address, there)
        session.mark(first)
        session.download(back, address)
        session.mark(second)
        session.synchronize()
        assert back.tolist() == there.tolist()
        assert session.milliseconds(first, second) == TICK


def test_everything_is_freed_when_the_body_raises(gpu: FakeGpu) -> None:
    with pytest.raises(ZeroDivisionError), CudaSession() as session, session.current():
        session.pinned((4,), np.uint8)
        session.device_memory(4)
        raise ZeroDivisionError


@pytest.mark.parametrize("moment", ["Stream", "Device"])
def test_everything_is_freed_when_entering_fails(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise CudaError("cuInit failed: unknown error")

    monkeypatch.setattr(sys.modules["pycuda.driver"], moment, broken)
    with raises(RunFailed, "TP4062", "cuInit failed: unknown error"), CudaSession():
        pass


def in_a_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_the_context_stays_with_no_thread(gpu: FakeGpu) -> None:
    def work() -> list[object]:
        with session.current():
            session.synchronize()
        return list(gpu.stacks.driver)

    with CudaSession() as session:
        assert gpu.stacks.driver == [] and in_a_thread(work) == []


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_sessions_overlap_in_any_order(gpu: FakeGpu, first_to_leave: int) -> None:
    """pycuda's own context stack would refuse to pop the outer session first."""
    sessions = [CudaSession(), CudaSession()]
    for session in sessions:
        session.__enter__()
        with session.current():
            session.device_memory(4)
    for session in (sessions[first_to_leave], sessions[1 - first_to_leave]):
        with session.current():
            session.synchronize()
        session.__exit__(None, None, None)
    assert gpu.stacks.driver == []


def test_a_session_may_end_in_another_thread(gpu: FakeGpu) -> None:
    session = CudaSession()
    session.__enter__()
    with session.current():
        session.device_memory(4)
    in_a_thread(lambda: session.__exit__(None, None, None))
    assert gpu.journal[-3:] == ["push", "pop driver", "detach"]


def test_tensorflow_keeps_its_context(gpu: FakeGpu) -> None:
    """The primary context is current in this thread before, during and after our session."""
    gpu.retain()
    theirs, gpu.stacks.driver[:] = gpu.primary, [gpu.primary]
    for _ in range(3):
        with CudaSession() as session:
            with session.current():
                session.device_memory(4)
            assert gpu.stacks.driver == [theirs]
        assert gpu.stacks.driver == [theirs] and theirs.alive and gpu.holds == 1
    gpu.stacks.driver.clear()
    gpu.let_go()


def test_a_session_that_is_not_entered(gpu: FakeGpu) -> None:
    with raises(RunFailed, "TP4060"):
        CudaSession().current()


def test_cuda_errors_become_run_failed(gpu: FakeGpu) -> None:
    with CudaSession() as session, raises(RunFailed, "TP4062", "illegal address"), session.current():
        raise CudaError("illegal address")


def test_a_capture_that_raises_is_ended(gpu: FakeGpu) -> None:
    """The stream must stay usable and the incomplete graph must be freed."""

    def enqueue() -> None:
        raise ZeroDivisionError

    with CudaSession() as session, session.current():
        with pytest.raises(ZeroDivisionError):
            session.capture(enqueue)
        assert gpu.journal[-3:] == ["begin capture", "end capture", "destroy graph"]
        session.synchronize()


def test_no_driver_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    with raises(RunFailed, "TP4065", "libcuda.so.1: cannot open shared object file"):
        libcuda.gpus()
    with raises(RunFailed, "TP4065"), CudaSession():
        pass


"""/proc/driver/nvidia/version of a Jetson Orin with L4T 36.4.3, as in public reports."""


def test_pycuda_that_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def broken(name: str, *args: Any) -> Any:
        if name.startswith("pycuda"):
            raise ImportError("libcuda.so.1: cannot open shared object file")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", broken)
    with raises(MissingDependency, "TP4063", "pycuda", "libcuda.so.1: cannot open shared object file"):
        load_pycuda()
