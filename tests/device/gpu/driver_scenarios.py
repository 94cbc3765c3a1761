"""Scenarios that `test_driver.py` runs in a child process, over the libcuda of `tests/fakes/libcuda.c`.

    LD_LIBRARY_PATH=FOLDER python -m tests.device.gpu.driver_scenarios SCENARIO

Exits with code 0 and without output on stderr if the scenario succeeded and everything was freed.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.engine import expected_scores, paper_engine
from tests.fakes.gpu import FakeGpu
from tests.fakes.tensorrt_runtime import fake_tensorrt
from tests.support.errors import raises
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import RunFailed
from trtpoets.device.gpu import gpu_wait, libcuda
from trtpoets.device.gpu.cuda import CudaSession
from trtpoets.device.gpu.gpu_wait import Wait
from trtpoets.device.gpu.prepared_calls import PreparedCalls
from trtpoets.device.runners.trt import TensorRtRunner

_CALL = ctypes.CFUNCTYPE(None)


class DriverGpu(FakeGpu):
    """TensorRT's side of the fake GPU, with its work on the streams of the library in C."""

    def __init__(self) -> None:
        super().__init__(tiny_spec())
        self.kept: list[Any] = []

    def current(self, call: str) -> None:
        self.rule(DRIVER.fake_depth() == 1, f"{call} without a context in this thread")

    def idle(self, what: str, number: int) -> None:
        """The library in C refuses to free what is in use."""

    def at(self, address: int, size: int) -> np.ndarray:
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def submit(
        self,
        stream: int,
        what: str,
        do: Callable[[], None] | None,
        *needs: int,
        ticks: int = 1,
        begin: Callable[[], Callable[[], None]] | None = None,
    ) -> None:
        self.kept.append(_CALL(do or (lambda: begin()() if begin else None)))
        self.rule(DRIVER.fake_call(ctypes.c_void_p(stream), self.kept[-1]) == 0, f"{what} is refused")


def the_gpu_describes_itself() -> None:
    (gpu,) = libcuda.gpus()
    assert gpu == libcuda.Gpu("Paper GPU", (8, 6), 8 << 30, multiprocessors=28), gpu
    assert libcuda.cuda_version() == "13.0"


def copies_and_graphs() -> None:
    with CudaSession() as session:
        assert DRIVER.fake_depth() == 0, "between uses the thread is as it was"
        with session.current():
            there, back = (session.pinned((2, 3), np.float32) for _ in range(2))
            there[:] = [[1, 2, 3], [4, 5, 6]]
            address = session.device_memory(there.nbytes)
            marks = [session.event() for _ in range(3)]

            def copies() -> None:
                session.upload(address, there)
                session.download(back, address)

            session.mark(marks[0])
            session.upload(address, there)
            session.mark(marks[1])
            session.download(back, address)
            session.mark(marks[2])
            assert np.isnan(back).all()
            session.synchronize()
            assert np.array_equal(there, back)
            assert [session.milliseconds(marks[0], mark) for mark in marks[1:]] == [0.25, 0.5]
            graph = session.capture(copies)
            assert graph is not None
            for value in (7, 8):
                there[:] = value
                graph.launch(session.stream)
                session.synchronize()
                assert (back == value).all()
            graph.close()


def what_ctypes_calls() -> None:
    """Without pycuda: how threads wait, copies within a graph, mapped memory, and the calls around a batch."""
    driver = libcuda.load_driver()
    gpu_wait.set_wait(driver, 0, Wait.SPIN)
    context, stream, device_memory, popped = (ctypes.c_void_p() for _ in range(4))
    driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
    assert gpu_wait.waits(driver, 0) is Wait.SPIN
    driver.fake_old(1)
    gpu_wait.set_wait(driver, 0, Wait.BLOCKING)
    assert gpu_wait.waits(driver, 0) is Wait.SPIN, "before CUDA 11 what is active stays as it is"
    driver.fake_old(0)
    assert not libcuda.maps_host_memory(driver, 0)
    driver.fake_integrated(1)
    assert libcuda.maps_host_memory(driver, 0)
    driver.cuCtxPushCurrent_v2(context)
    calls = PreparedCalls(driver)
    host, mapped, address = (ctypes.c_void_p() for _ in range(3))
    size = ctypes.c_size_t(4)
    libcuda.check(driver, driver.cuStreamCreate(ctypes.byref(stream), 1), "stream")
    libcuda.check(driver, driver.cuMemHostAlloc(ctypes.byref(host), size, 0), "pinned")
    libcuda.check(driver, driver.cuMemHostAlloc(ctypes.byref(mapped), size, 2), "mapped")
    libcuda.check(driver, driver.cuMemAlloc_v2(ctypes.byref(device_memory), size), "memory")
    libcuda.check(driver, driver.cuMemHostGetDevicePointer_v2(ctypes.byref(address), mapped, 0), "address")
    there, back = (np.ctypeslib.as_array((ctypes.c_uint8 * 4).from_address(item.value or 0)) for item in (host, mapped))

    def copies() -> None:
        libcuda.check(driver, driver.cuMemcpyHtoDAsync_v2(device_memory, host, size, stream), "up")
        libcuda.check(driver, driver.cuMemcpyDtoHAsync_v2(mapped, device_memory, size, stream), "down")

    graph = libcuda.capture(driver, stream.value or 0, copies)
    launch, wait = graph.launcher(stream.value or 0), calls.waiter(stream.value or 0)
    driver.cuCtxPopCurrent_v2(ctypes.byref(popped))
    for value in (7, 8):
        there[:] = value
        assert calls.push() == 0 and launch() == 0 and (back == 255).all()
        assert wait() == 0 and calls.pop() == 0 and (back == value).all()
        assert driver.fake_depth() == 0
    driver.cuCtxPushCurrent_v2(context)
    graph.close()
    driver.cuStreamDestroy_v2(stream), driver.cuMemFreeHost(host), driver.cuMemFreeHost(mapped)
    driver.cuMemFree_v2(device_memory)
    driver.cuCtxPopCurrent_v2(ctypes.byref(popped))
    driver.cuDevicePrimaryCtxRelease_v2(0)
    assert "CUDA_ERROR" in calls.failed("cuGraphLaunch", 900).message


def sessions_come_and_go() -> None:
    for _ in range(50):
        with CudaSession() as session, session.current():
            session.device_memory(4)
            session.pinned((4,), np.uint8)
        assert (DRIVER.fake_depth(), DRIVER.fake_holds(), DRIVER.fake_objects()) == (0, 0, 0)


def sessions_overlap() -> None:
    for order in ((0, 1), (1, 0)):
        sessions = [CudaSession(), CudaSession()]
        for session in sessions:
            session.__enter__()
            with session.current():
                session.device_memory(4)
        for number in order:
            with sessions[number].current():
                sessions[number].synchronize()
            sessions[number].__exit__(None, None, None)


def someone_else_holds_the_context() -> None:
    theirs, c_void_p = ctypes.c_void_p(), ctypes.c_void_p()
    DRIVER.cuDevicePrimaryCtxRetain(ctypes.byref(theirs), 0)
    DRIVER.cuCtxPushCurrent_v2(theirs)
    sessions_overlap()
    assert (DRIVER.fake_depth(), DRIVER.fake_holds()) == (1, 1)
    DRIVER.cuCtxPopCurrent_v2(ctypes.byref(c_void_p))
    assert c_void_p.value == theirs.value
    DRIVER.cuDevicePrimaryCtxRelease_v2(0)


def other_threads() -> None:
    def in_a_thread(work: Callable[[], Any]) -> None:
        def whole() -> None:
            work()
            depths.append(DRIVER.fake_depth())

        thread = threading.Thread(target=whole)
        thread.start()
        thread.join()

    def use() -> None:
        with session.current():
            session.upload(address, there)
            session.synchronize()

    depths: list[int] = []
    session = CudaSession()
    session.__enter__()
    with session.current():
        there, address = session.pinned((4,), np.uint8), session.device_memory(4)
    in_a_thread(use)
    in_a_thread(lambda: session.__exit__(None, None, None))
    assert depths == [0, 0]


def errors() -> None:
    with CudaSession() as session:
        for call, code, function in (
            (lambda: session.device_memory(1 << 40), "TP4061", "cuMemAlloc"),
            (lambda: session.upload(session.device_memory(4), np.zeros(4, np.uint8)), "TP4062", "cuMemcpyHtoD"),
        ):
            with raises(RunFailed, code, function), session.current():
                call()
    assert DRIVER.fake_violation() == b"a copy of pageable memory"
    try:
        with CudaSession() as session, session.current():
            session.device_memory(4)
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass


def engines() -> None:
    gpu = DriverGpu()
    sys.modules["tensorrt"] = fake_tensorrt(gpu, "tensorrt", rtx=False)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        runners = [TensorRtRunner(paper_engine(Path(folder) / name)) for name in "ab"]
        for runner in runners:
            stack.enter_context(runner)
        for count in (1, 1, 1, 8, 8, 20, 3):
            photos = tiny_photos(count, seed=count)
            for runner in runners:
                assert np.allclose(runner.infer(photos), expected_scores(photos)), count
        photos = tiny_photos(1)
        before = DRIVER.fake_objects()
        for _ in range(1000):
            runners[0].infer(photos)
        assert DRIVER.fake_objects() == before, "nothing is new after 1,000 batches of a size that was captured"
        batches = [tiny_photos(3, seed=seed) for seed in range(6)]
        tickets = [runners[0].submit(batch) for batch in batches]
        for batch, ticket in zip(batches, tickets, strict=True):
            assert np.allclose(runners[0].collect(ticket), expected_scores(batch))
        runners[0].infer_timed(photos)
        scores, timing = runners[0].infer_timed(photos)
        assert np.allclose(scores, expected_scores(photos))
        assert (timing.h2d_ms, timing.compute_ms, timing.d2h_ms, timing.graph) == (0.25, 0.25, 0.25, True)
    assert gpu.broken == []


def a_gpu_that_breaks() -> None:
    """After an illegal access every call fails until the process ends: only the first error is reported."""
    gpu = DriverGpu()
    sys.modules["tensorrt"] = fake_tensorrt(gpu, "tensorrt", rtx=False)
    with tempfile.TemporaryDirectory() as folder:
        runner = TensorRtRunner(paper_engine(Path(folder)))
        with pytest.raises(RunFailed) as caught, runner:
            runner.infer(tiny_photos(2))
            DRIVER.fake_break(700)
            runner.infer(tiny_photos(2))
        assert caught.value.code in ("TP4062", "TP4069"), caught.value  # by pycuda, by the prepared calls
        assert "cuCtxPushCurrent" in caught.value.message
    os._exit(0)  # nothing can be freed any more, as on a GPU; pycuda warns of that


def the_gpu_script() -> None:
    """What `benchmarks/first_contact.py` measures of an engine on a first GPU, but for building."""
    sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
    from contact import engines as script
    from contact.networks import Network
    from contact.question_inputs import QuestionInputs

    gpu = DriverGpu()
    gpu.batch = (1, 8, 16)
    sys.modules["tensorrt"] = fake_tensorrt(gpu, "tensorrt", rtx=False)
    vars(script)["CYCLES"] = 10
    photos = tiny_photos(21)
    reference = (photos, expected_scores(photos), 0.02)
    setattr(Network, "reference", lambda self, precision: reference)  # noqa: B010
    with tempfile.TemporaryDirectory() as folder:
        given = QuestionInputs((), Path(folder), 50, 0.01)
        engine = paper_engine(Path(folder), batch=(1, 8, 16))
        document = json.loads(json.dumps(script._measured(given, Network("tiny", {}), engine)))
    assert document["worst_difference"] < 1e-6 and document["same_answers"] == 1
    assert document["batches_leak_bytes"] == document["cycles_leak_bytes"] == 0
    assert document["with_graph"]["graph"] is True and document["without_graph"]["graph"] is False
    assert document["with_graph"]["device_p50"] == 0.75


SCENARIOS = [
    the_gpu_describes_itself,
    what_ctypes_calls,
    *(copies_and_graphs, sessions_come_and_go, sessions_overlap, someone_else_holds_the_context, other_threads),
    *(errors, engines, a_gpu_that_breaks, the_gpu_script),
]


if __name__ == "__main__":
    DRIVER = ctypes.CDLL("libcuda.so.1")
    DRIVER.fake_violation.restype = ctypes.c_char_p
    (scenario,) = [candidate for candidate in SCENARIOS if candidate.__name__ == sys.argv[1]]
    scenario()
    if scenario is not errors:
        assert not DRIVER.fake_violation(), DRIVER.fake_violation()
    assert (DRIVER.fake_depth(), DRIVER.fake_holds(), DRIVER.fake_objects()) == (0, 0, 0)
