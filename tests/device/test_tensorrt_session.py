"""Sessions and execution contexts of TensorRT's runtime: what they check, use and free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gpu import FakeGpu, nothing_left
from tests.fakes.tensorrt_runtime import SCRATCH, Engine
from tests.support.errors import raises
from tests.support.tiny import SIDE, tiny_onnx, tiny_spec
from trtpoets.core.errors import BadArtefact, RunFailed, TrtPoetsError
from trtpoets.core.types import BatchRange, Flavour
from trtpoets.device.build.engine import engine_from_onnx
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.cuda import CudaSession
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.device.tensorrt_session import TensorRtSession, shares_memory


def test_the_real_runtime_without_a_gpu(tmp_path: Path) -> None:
    """A damaged engine is reported as damaged; a valid one fails because there is no CUDA."""
    pytest.importorskip("tensorrt_rtx")
    library = load_tensorrt(Flavour.RTX)
    with raises(RunFailed, "TP4102", library.title, "Serialization assertion"):
        TensorRtSession(library, b"no engine at all" * 8)
    try:
        libcuda.load_driver()
    except TrtPoetsError:
        plan = engine_from_onnx(tiny_onnx(tmp_path / "x.onnx"), EngineConfig(Flavour.RTX), tmp_path / "x.engine").path
        with raises(RunFailed, "TP4102", "CUDA does not start: no usable driver"):
            TensorRtSession(library, plan.read_bytes())


PLAN = b"plan of a network"


@contextmanager
def session(gpu: FakeGpu, plan: bytes = PLAN, flavour: Flavour = Flavour.TENSORRT, **options: Any) -> Iterator[Any]:
    """A session on the fake GPU, closed before the CUDA context is released."""
    with CudaSession() as cuda, cuda.current():
        opened = TensorRtSession(load_tensorrt(flavour), plan, **options)
        try:
            yield opened
        finally:
            opened.close()


def test_an_engine_of_a_library_whose_contexts_share_memory(gpu: FakeGpu) -> None:
    with session(gpu) as opened:
        assert opened.batch == BatchRange(1, 4, 8)
        assert (opened.several_contexts, opened.memory_bytes) == (True, SCRATCH)
        assert not opened.captures_itself
        assert opened.runtime_cache() is None


def test_before_10_1_there_is_one_context_with_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec(), one_context=True)
    gpu.install(monkeypatch)
    with nothing_left(gpu), session(gpu) as opened:
        assert (opened.several_contexts, opened.memory_bytes) == (False, 0)
        assert not shares_memory(load_tensorrt(Flavour.TENSORRT))
        context = opened.new_context()
        opened.drop(context)
        opened.new_context()  # else the fake GPU would refuse a second context


def test_shapes_of_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec(), one_context=True)
    gpu.install(monkeypatch)
    with nothing_left(gpu), session(gpu) as opened:
        context = opened.new_context()
        context.set_shape((2, SIDE, SIDE, 3), (2, 3))
        with raises(BadArtefact, "TP4107", "(2, 3)", "(2, 4)"):
            context.set_shape((2, SIDE, SIDE, 3), (2, 4))
        with raises(RunFailed, "TP4106", (9, SIDE, SIDE, 3)):
            context.set_shape((9, SIDE, SIDE, 3), (9, 3))


def test_no_memory_for_a_context(gpu: FakeGpu) -> None:
    gpu.fail_context = True
    with session(gpu) as opened, raises(RunFailed, "TP4103"):
        opened.new_context()


def test_tensors_must_be_those_of_trtpoets(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "get_tensor_dtype", lambda *_: "DataType.HALF")
    with raises(BadArtefact, "TP4104", "uint8", "float16"), session(gpu):
        pass


@pytest.mark.parametrize("graphs", [True, False])
def test_rtx_keeps_its_kernels_and_captures_graphs_itself(graphs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    with nothing_left(gpu), session(gpu, flavour=Flavour.RTX, cache=b"kernels", graphs=graphs) as opened:
        assert gpu.cache_in == b"kernels"
        assert opened.runtime_cache() == gpu.cache_out
        assert (opened.captures_itself, opened.several_contexts) == (graphs, True)
        assert opened._config.cuda_graph_strategy == ("whole" if graphs else "disabled")


@pytest.mark.parametrize(
    ("attribute", "warning"), [("cache_accepted", "is from another GPU"), ("cache_taken", "rejects the runtime cache")]
)
def test_a_runtime_cache_that_is_refused_is_a_warning(
    attribute: str, warning: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    setattr(gpu, attribute, False)
    with nothing_left(gpu), session(gpu, flavour=Flavour.RTX, cache=b"kernels"):
        pass
    assert warning in caplog.text


def test_options_of_the_runtime(gpu: FakeGpu) -> None:
    with session(gpu, host_code=True, dla_core=1) as opened:
        assert opened._runtime.engine_host_code_allowed is True
        assert opened._runtime.DLA_core == 1


def test_an_engine_that_is_refused_is_freed(gpu: FakeGpu) -> None:
    with raises(RunFailed, "TP4102", "Serialization assertion"), session(gpu, b"no engine"):
        pass
