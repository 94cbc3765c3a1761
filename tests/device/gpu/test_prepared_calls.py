"""Driver calls with prepared arguments. The real ctypes calls are tested in `driver_scenarios.py`."""

from __future__ import annotations

import pytest

from tests.fakes.gpu import FakeGpu
from tests.fakes.gpu_driver import FakeDriver
from tests.support.errors import raises
from trtpoets.core.errors import RunFailed
from trtpoets.device.gpu.cuda import CudaSession
from trtpoets.device.gpu.prepared_calls import PreparedCalls


def test_the_context_of_construction_is_pushed_and_popped(gpu: FakeGpu) -> None:
    driver = FakeDriver(gpu)
    with CudaSession() as session:
        with session.current():
            calls = PreparedCalls(driver)
        gpu.journal.clear()
        assert (calls.push(), calls.pop()) == (0, 0)
        assert gpu.journal == ["push driver", "pop driver"]


def test_a_waiter_waits_for_its_stream(gpu: FakeGpu) -> None:
    with CudaSession() as session, session.current():
        wait = PreparedCalls(FakeDriver(gpu)).waiter(session.stream)
        gpu.journal.clear()
        assert wait() == 0
        assert gpu.journal == ["synchronize"]


def test_without_a_context_there_are_no_calls(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeDriver, "cuCtxGetCurrent", lambda *_: 700)
    with raises(RunFailed, "TP4068", "cuCtxGetCurrent", "CUDA_ERROR_ILLEGAL_ADDRESS"):
        PreparedCalls(FakeDriver(gpu))


def test_the_error_of_a_call_has_the_driver_s_name(gpu: FakeGpu) -> None:
    with CudaSession() as session, session.current():
        error = PreparedCalls(FakeDriver(gpu)).failed("cuGraphLaunch", 700)
    assert error.code == "TP4069"
    assert "cuGraphLaunch" in error.message and "CUDA_ERROR_ILLEGAL_ADDRESS" in error.message
