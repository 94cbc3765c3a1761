"""On a real GPU (`-m gpu`): the harness with kernels of our own, then engines in each precision.

The first tests need a driver and pycuda only, and `test_driver.py` runs them over its stand-in for the driver. An
engine's test builds and runs it in a process of its own, as `benchmarks/first_contact.py` does. With `-s` each prints
what it found, so that a first run on a new GPU tells the most.
"""

# ruff: noqa: T201

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tiny import tiny_onnx
from trtpoets.core.errors import MissingDependency, RunFailed
from trtpoets.core.types import Flavour, Precision
from trtpoets.device.build.engine import flavour_available
from trtpoets.device.gpu import gpu_wait, libcuda
from trtpoets.device.gpu.cuda import CudaSession, load_pycuda
from trtpoets.device.gpu.gpu_wait import Wait
from trtpoets.device.runners import open_runner

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from contact.question_inputs import QuestionInputs  # noqa: E402
from contact.question_process import child_command, run_question  # noqa: E402
from contact.questions import question_of  # noqa: E402

PTX = """
.version 5.0
.target sm_50
.address_size 64

.visible .entry affine(.param .u64 to, .param .u64 from, .param .u32 count)
{
  .reg .pred %stop;
  .reg .b32 %i, %n, %block, %size, %thread;
  .reg .b64 %t, %f, %offset;
  .reg .f32 %x;
  ld.param.u64 %t, [to];
  ld.param.u64 %f, [from];
  ld.param.u32 %n, [count];
  mov.u32 %block, %ctaid.x;
  mov.u32 %size, %ntid.x;
  mov.u32 %thread, %tid.x;
  mad.lo.u32 %i, %block, %size, %thread;
  setp.ge.u32 %stop, %i, %n;
  @%stop ret;
  mul.wide.u32 %offset, %i, 4;
  add.u64 %f, %f, %offset;
  add.u64 %t, %t, %offset;
  ld.global.f32 %x, [%f];
  fma.rn.f32 %x, %x, 0f40000000, 0f3F800000;
  st.global.f32 [%t], %x;
  ret;
}

.visible .entry spin(.param .u64 cycles)
{
  .reg .pred %again;
  .reg .b64 %begun, %now, %wanted;
  ld.param.u64 %wanted, [cycles];
  mov.u64 %begun, %clock64;
wait:
  mov.u64 %now, %clock64;
  sub.u64 %now, %now, %begun;
  setp.lt.u64 %again, %now, %wanted;
  @%again bra wait;
  ret;
}
"""
"""affine: to[i] = 2 from[i] + 1. spin: keeps the GPU busy for so many of its cycles. PTX runs on any later GPU."""

COUNT = 100_003


@pytest.mark.skipif(not shutil.which("ptxas"), reason="needs NVIDIA's ptxas")
@pytest.mark.parametrize("target", ["sm_75", "sm_90", "sm_120"])
def test_the_kernels_assemble(tmp_path: Path, target: str) -> None:
    (tmp_path / "k.ptx").write_text(PTX)
    subprocess.run(["ptxas", "-arch", target, tmp_path / "k.ptx", "-o", tmp_path / "k.cubin"], check=True)


@pytest.fixture
def session() -> Iterator[CudaSession]:
    try:
        libcuda.gpus()
        load_pycuda()
    except (RunFailed, MissingDependency) as error:
        pytest.skip(error.message)
    with CudaSession() as session:
        yield session


class Kernels:
    """The two kernels on a session's stream, with memory for one run of `affine`. Use inside `session.current()`."""

    def __init__(self, session: CudaSession) -> None:
        self.session = session
        module = load_pycuda().module_from_buffer(PTX.encode() + b"\0")
        self._affine, self._spin = module.get_function("affine"), module.get_function("spin")
        self.there, self.back = (session.pinned((COUNT,), np.float32) for _ in range(2))
        self.source, self.target = (session.device_memory(self.there.nbytes) for _ in range(2))
        self.there[:] = np.random.default_rng(0).normal(size=COUNT)

    def affine(self) -> None:
        """Queue the kernel."""
        blocks = (-(-COUNT // 256), 1)
        arguments = (np.uint64(self.target), np.uint64(self.source), np.uint32(COUNT))
        self._affine(*arguments, block=(256, 1, 1), grid=blocks, stream=self.session._stream)

    def spin(self, cycles: int) -> None:
        """Queue the kernel."""
        self._spin(np.uint64(cycles), block=(1, 1, 1), grid=(1, 1), stream=self.session._stream)

    def run(self, kernel: Callable[[], None]) -> np.ndarray:
        """Photos there, the kernel, scores back."""
        self.session.upload(self.source, self.there)
        kernel()
        self.session.download(self.back, self.target)
        self.session.synchronize()
        return self.back.copy()

    @property
    def expected(self) -> np.ndarray:
        """Exactly: doubling is exact, so the fused sum rounds once, as this does."""
        return 2 * self.there + np.float32(1)


def current_context(driver: Any) -> int | None:
    address = ctypes.c_void_p()
    libcuda.check(driver, driver.cuCtxGetCurrent(ctypes.byref(address)), "cuCtxGetCurrent")
    return address.value


def primary_is_active(driver: Any) -> bool:
    flags, active = ctypes.c_uint(), ctypes.c_int()
    libcuda.check(driver, driver.cuDevicePrimaryCtxGetState(0, ctypes.byref(flags), ctypes.byref(active)), "GetState")
    return bool(active.value)


@pytest.mark.gpu
def test_the_gpu_is_taken_through_its_primary_context(session: CudaSession) -> None:
    driver = libcuda.load_driver()
    print(session.gpu(), "CUDA", libcuda.cuda_version(), "driver", libcuda.driver_version())
    primary = ctypes.c_void_p()
    libcuda.check(driver, driver.cuDevicePrimaryCtxRetain(ctypes.byref(primary), 0), "cuDevicePrimaryCtxRetain")
    try:
        before = current_context(driver)
        with session.current():
            assert current_context(driver) == primary.value
        assert current_context(driver) == before
    finally:
        libcuda.check(driver, driver.cuDevicePrimaryCtxRelease_v2(0), "cuDevicePrimaryCtxRelease")


@pytest.mark.gpu
def test_nothing_is_left_on_the_thread_or_the_gpu(session: CudaSession) -> None:
    """Entering and leaving, also in another order and another thread; the memory that is free stays the same."""
    driver, free = libcuda.load_driver(), []
    before = current_context(driver)
    for turn in range(50):
        first, second = CudaSession(), CudaSession()
        for item in (first, second):
            item.__enter__()
            with item.current():
                item.device_memory(32 << 20)
                item.pinned((1 << 20,), np.uint8)
        first.__exit__(None, None, None)
        if turn % 2:
            thread = threading.Thread(target=second.__exit__, args=(None, None, None))
            thread.start()
            thread.join()
        else:
            second.__exit__(None, None, None)
        with session.current():
            free.append(load_pycuda().mem_get_info()[0])
        assert current_context(driver) == before
    assert free[5] - free[-1] < 1 << 20


@pytest.mark.gpu
def test_the_primary_context_ends_when_it_is_released(session: CudaSession) -> None:
    """In a process of its own: other tests here, or their libraries, may hold it."""
    code = (
        "import ctypes; from tests.test_on_gpu import CudaSession, Kernels, libcuda, primary_is_active\n"
        "driver = libcuda.load_driver()\n"
        "for _ in range(5):\n"
        "    with CudaSession() as session, session.current():\n"
        "        kernels = Kernels(session)\n"
        "        assert (kernels.run(kernels.affine) == kernels.expected).all() and primary_is_active(driver)\n"
        "        del kernels\n"
        "    assert not primary_is_active(driver)\n"
    )
    folder = Path(__file__).parent.parent
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.gpu
@pytest.mark.parametrize("size", [1, 150_528, 64 << 20])
def test_copies(session: CudaSession, size: int) -> None:
    with session.current():
        there, back = session.pinned((size,), np.uint8), session.pinned((size,), np.uint8)
        there[:] = np.random.default_rng(size).integers(0, 256, size, np.uint8)
        address = session.device_memory(size)
        marks = [session.event() for _ in range(3)]
        for _ in range(2):
            session.mark(marks[0])
            session.upload(address, there)
            session.mark(marks[1])
            session.download(back, address)
            session.mark(marks[2])
            session.synchronize()
        assert np.array_equal(there, back)
        for name, first, second in (("up", 0, 1), ("down", 1, 2)):
            taken = session.milliseconds(marks[first], marks[second])
            print(f"{size} bytes {name}: {taken:.4f} ms, {size / taken / 1e6:.1f} GB/s")
            assert taken > 0


@pytest.mark.gpu
def test_events_tell_the_gpus_time(session: CudaSession) -> None:
    with session.current():
        kernels, marks, took = Kernels(session), [session.event() for _ in range(2)], {}
        for cycles in (1_000_000, 1_000_000, 4_000_000):
            session.mark(marks[0])
            kernels.spin(cycles)
            session.mark(marks[1])
            session.synchronize()
            took[cycles] = session.milliseconds(*marks)
    print({cycles: f"{taken:.3f} ms" for cycles, taken in took.items()})
    assert 3 < took[4_000_000] / took[1_000_000] < 5


@pytest.mark.gpu
def test_a_kernel_is_captured_and_replayed(session: CudaSession) -> None:
    """Also while another thread asks for memory, which would spoil a capture that is not this thread's own."""
    with session.current():
        kernels = Kernels(session)
        assert np.array_equal(kernels.run(kernels.affine), kernels.expected)

        def enqueue() -> None:
            kernels.affine()
            thread = threading.Thread(target=allocate)
            thread.start()
            thread.join()

        def allocate() -> None:
            with CudaSession() as other, other.current():
                other.device_memory(1 << 20)

        graph = session.capture(enqueue)
        assert graph is not None
        for seed in range(3):
            kernels.there[:] = np.random.default_rng(seed).normal(size=COUNT)
            result = kernels.run(lambda: graph.launch(session.stream))
            assert np.array_equal(result, kernels.expected)
        graph.close()


@pytest.mark.gpu
def test_copies_are_captured_with_the_kernel(session: CudaSession) -> None:
    """The addresses of pinned memory are in the graph; what lies there is copied at each launch."""
    with session.current():
        kernels = Kernels(session)
        kernels.run(kernels.affine)

        def whole() -> None:
            session.upload(kernels.source, kernels.there)
            kernels.affine()
            session.download(kernels.back, kernels.target)

        graph = session.capture(whole)
        assert graph is not None
        launch, calls = graph.launcher(session.stream), session.calls()
        wait = calls.waiter(session.stream)
    for seed in range(3):
        kernels.there[:] = np.random.default_rng(seed).normal(size=COUNT)
        kernels.back[:] = 0
        assert (calls.push(), launch(), wait(), calls.pop()) == (0, 0, 0, 0)
        assert np.array_equal(kernels.back, kernels.expected)
    with session.current():
        graph.close()


@pytest.mark.gpu
def test_a_kernel_reads_and_writes_mapped_memory(session: CudaSession) -> None:
    """On a GPU of its own too, over PCIe; whether it pays is another question."""
    with session.current():
        kernels = Kernels(session)
        kernels.there, kernels.back = (session.pinned((COUNT,), np.float32, mapped=True) for _ in range(2))
        kernels.there[:] = np.random.default_rng(1).normal(size=COUNT)
        kernels.source, kernels.target = (session.device_address(item) for item in (kernels.there, kernels.back))
        kernels.affine()
        session.synchronize()
        assert np.array_equal(kernels.back, kernels.expected)
    print("the GPU shares the CPU's memory" if session.maps_memory else "the GPU has memory of its own")


@pytest.mark.gpu
@pytest.mark.parametrize("wait", [Wait.SPIN, Wait.BLOCKING])
def test_ways_to_wait(session: CudaSession, wait: Wait) -> None:
    """The context is active here: it can still be given another way to wait, from CUDA 11 on."""
    before = session.waits
    with CudaSession(wait=wait) as second:
        print(f"asked for {wait.value}: waits by {second.waits.value}")
        assert second.waits is wait or libcuda.cuda_version() < "11"
    gpu_wait.set_wait(libcuda.load_driver(), 0, before)


@pytest.mark.gpu
def test_a_capture_that_fails_leaves_the_stream_usable(session: CudaSession) -> None:
    with session.current():
        kernels = Kernels(session)
    with session.current():
        assert session.capture(session.synchronize) is None
        assert np.array_equal(kernels.run(kernels.affine), kernels.expected)


@pytest.mark.gpu
def test_allocating_too_much_memory_fails(session: CudaSession) -> None:
    with raises(RunFailed, "TP4061"), session.current():
        session.device_memory(2 * session.gpu().memory_bytes)
    with session.current():
        kernels = Kernels(session)
        assert np.array_equal(kernels.run(kernels.affine), kernels.expected)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("flavour", Flavour)
def test_engines_match_onnx_runtime_without_leaks(
    tmp_path: Path, flavour: Flavour, precision: Precision, session: CudaSession
) -> None:
    reason = flavour_available(flavour)
    if reason:
        pytest.skip(reason)
    tiny_onnx(tmp_path / "tiny" / f"{precision.value}.onnx", precision)
    question = question_of(f"{flavour.value}-{precision.value}")
    given = QuestionInputs((tmp_path / "tiny",), tmp_path / "work", count=1000, seconds=0.2)
    result = run_question(question, given, child_command(str(BENCHMARKS / "first_contact.py")))
    print(json.dumps(result, indent=1))
    assert result["answered"], result["because"]
    (value,) = result["answer"]["networks"].values()
    if not value["runs"]:
        pytest.skip(value["because"])
    assert value["worst_difference"] < {Precision.FP32: 2e-3, Precision.FP16: 0.01, Precision.INT8: 0.02}[precision]
    assert value["batches_leak_bytes"] < 1 << 20 and value["cycles_leak_bytes"] < 1 << 20
    with_graph = value["with_graph"]
    assert all(with_graph[f"{part}_p50"] > 0 for part in ("infer", "h2d", "compute", "d2h", "enqueue"))
    assert with_graph["graph"] is (True if flavour is Flavour.TENSORRT else None)


@pytest.mark.gpu
def test_tensorflow_first_then_an_engine(tmp_path: Path, session: CudaSession) -> None:
    """Both on the GPU in one process; TensorFlow works on as before."""
    tf = pytest.importorskip("tensorflow")
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("this TensorFlow sees no GPU")
    with tf.device("GPU:0"):
        before = tf.reduce_sum(tf.ones((256, 256)) @ tf.ones((256, 256))).numpy()
        with session.current():
            kernels = Kernels(session)
            assert np.array_equal(kernels.run(kernels.affine), kernels.expected)
        assert tf.reduce_sum(tf.ones((256, 256)) @ tf.ones((256, 256))).numpy() == before


@pytest.mark.gpu
def test_two_engines_at_once(tmp_path: Path, session: CudaSession) -> None:
    """Two runners in one process, in turn and from threads, left in the order in which they were entered."""
    from contact.networks import BATCH, photos_of

    from trtpoets.device.build.engine import engine_from_onnx
    from trtpoets.device.build.engine_config import EngineConfig

    flavour = next((item for item in Flavour if flavour_available(item) is None), None)
    if flavour is None:
        pytest.skip("no TensorRT library is installed")
    model = tiny_onnx(tmp_path / "fp16.onnx", Precision.FP16)
    engine = engine_from_onnx(model, EngineConfig(flavour, batch=BATCH), tmp_path / "fp16.engine")
    photos, answers = photos_of(model, 20), []
    first, second = open_runner(engine), open_runner(engine)
    first.__enter__()
    with second:
        expected = first.infer(photos)
        threads = [
            threading.Thread(target=lambda runner=runner: answers.append(runner.infer(photos)))
            for runner in (first, second) * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        first.__exit__(None, None, None)
        answers.append(second.infer(photos))
    assert len(answers) == 9 and all(np.allclose(answer, expected, atol=2e-3) for answer in answers)
