"""The resources of an entered runner of engines, on the fake GPU: pieces of batches, failures, and what is freed."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.engine import expected_scores, paper_engine
from tests.fakes.gpu import FakeGpu, nothing_left
from tests.fakes.gpu_driver import FakeDriver
from tests.fakes.gpu_pycuda import CudaError
from tests.support.errors import raises
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import BadArtefact, RunFailed
from trtpoets.device.runners import open_runner
from trtpoets.device.runners.trt import TensorRtRunner


@pytest.mark.parametrize(("count", "sizes"), [(8, [8]), (9, [8, 1]), (20, [8, 8, 4]), (1, [1])])
def test_large_batches_go_in_pieces(one_context: FakeGpu, tmp_path: Path, count: int, sizes: list[int]) -> None:
    gpu, photos = one_context, tiny_photos(count)
    with open_runner(paper_engine(tmp_path)) as runner:
        gpu.journal.clear()
        assert np.allclose(runner.infer(photos), expected_scores(photos))
        assert gpu.journal.count("upload") == len(sizes)
        shapes = [call for call in gpu.journal if call.startswith("shape")]
        changes = [size for before, size in zip([8, *sizes], sizes, strict=False) if size != before]
        assert shapes == [f"shape {size}" for size in changes], "a new runner is set up for its largest batch"


def test_small_batches_are_filled_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec(), batch=(4, 4, 8))
    gpu.install(monkeypatch)
    photos = tiny_photos(2)
    with nothing_left(gpu), open_runner(paper_engine(tmp_path, batch=(4, 4, 8))) as runner:
        assert np.allclose(runner.infer(photos), expected_scores(photos))
        assert "shape 4" in gpu.journal


def test_a_card_that_promises_other_batches(gpu: FakeGpu, tmp_path: Path) -> None:
    with raises(BadArtefact, "TP4096"), open_runner(paper_engine(tmp_path, batch=(1, 2, 4))):
        pass


def test_a_full_gpu(gpu: FakeGpu, tmp_path: Path) -> None:
    gpu.fail_memory = True
    with raises(RunFailed, "TP4061"), open_runner(paper_engine(tmp_path)):
        pass


def test_an_enqueue_that_fails(gpu: FakeGpu, tmp_path: Path) -> None:
    with open_runner(paper_engine(tmp_path)) as runner:
        gpu.fail_execute = True
        with raises(RunFailed, "TP4108", "TensorRT 10.3.0", "it gave no reason"):
            runner.infer(tiny_photos(2))
        gpu.fail_execute = False
        other = tiny_photos(2, seed=5)
        assert np.allclose(runner.infer(other), expected_scores(other)), "the copy of before must not see these photos"
        gpu.fail_execute = True
        with ThreadPoolExecutor(1) as pool, pytest.raises(RunFailed):
            pool.submit(runner.infer, tiny_photos(2)).result()


@pytest.mark.parametrize("one", [True, False])
def test_a_shape_that_is_refused_is_set_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: bool) -> None:
    gpu, photos = FakeGpu(tiny_spec(), one_context=one), tiny_photos(4)
    gpu.install(monkeypatch)
    with nothing_left(gpu):
        refuse_a_shape(gpu, tmp_path, photos, 4 if one else 2)


def refuse_a_shape(gpu: FakeGpu, tmp_path: Path, photos: np.ndarray, again: int) -> None:
    with open_runner(paper_engine(tmp_path)) as runner:
        runner.infer(photos)
        gpu.fail_shape = True
        with raises(RunFailed, "TP4106", "(2, 16, 16, 3)"):
            runner.infer(photos[:2])
        gpu.fail_shape = False
        gpu.journal.clear()
        for count in (2, 4):
            assert np.allclose(runner.infer(photos[:count]), expected_scores(photos[:count]))
        assert f"shape {again}" in gpu.journal, "after a refused call the shape is unknown"


@pytest.mark.parametrize("call", ["cuCtxPushCurrent_v2", "cuGraphLaunch", "cuStreamSynchronize"])
def test_everything_is_freed_when_a_replay_breaks(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def broken(*_: Any) -> int:
        for queue in gpu.queues.values():
            queue.waiting.clear()
        return 700

    error = "CUDA_ERROR_ILLEGAL_ADDRESS"
    with raises(RunFailed, "TP4069", error), open_runner(paper_engine(tmp_path)) as runner:
        for _ in range(3):
            runner.infer(tiny_photos(2))
        monkeypatch.setattr(FakeDriver, call, broken)
        for slot in runner._resources._slots:  # type: ignore[attr-defined]  # the calls were bound when it was made
            (shot,) = slot.ready.values()
            shot._push = broken if "Push" in call else shot._push
            shot._wait = broken if "Sync" in call else shot._wait
            shot._lane.queue = broken if "Launch" in call else shot._lane.queue
        runner.infer(tiny_photos(2))


@pytest.mark.parametrize("call", ["memcpy_htod_async", "memcpy_dtoh_async", "Stream.synchronize"])
def test_everything_is_freed_when_the_gpu_breaks(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    """The first error is reported, whatever fails afterwards because of it."""

    def broken(*args: Any) -> None:
        del args  # the stream among them would outlive its context in this frame, which pycuda's C++ does not have
        for queue in gpu.queues.values():
            queue.waiting.clear()
        raise CudaError("an illegal memory access was encountered")

    module = sys.modules["pycuda.driver"]
    first = raises(RunFailed, "TP4062", "an illegal memory access was encountered")
    with first, TensorRtRunner(paper_engine(tmp_path), graphs=False) as runner:
        runner.infer(tiny_photos(2))
        runner.infer(tiny_photos(2))
        owner = module.Stream if "." in call else module
        monkeypatch.setattr(owner, call.rpartition(".")[2], broken)
        runner.infer_timed(tiny_photos(2))
    assert runner.name == "tensorrt-fp16.batch1-4-8" and "may not all be free" not in caplog.text


@pytest.mark.parametrize(
    ("zero_copy", "integrated", "dla_core", "mapped"),
    [
        (None, True, None, True),
        (None, False, None, False),
        (None, True, 0, False),
        (True, False, None, True),
        (False, True, None, False),
    ],
)
def test_memory_is_mapped_where_gpu_and_cpu_share_it(
    zero_copy: bool | None,
    integrated: bool,
    dla_core: int | None,
    mapped: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = FakeGpu(tiny_spec(), integrated=integrated)
    gpu.install(monkeypatch)
    engine = paper_engine(tmp_path, dla_core=dla_core)
    with nothing_left(gpu), TensorRtRunner(engine, zero_copy=zero_copy) as runner:
        photos = tiny_photos(2)
        assert np.allclose(runner.infer(photos), expected_scores(photos))
        assert bool(gpu.mapped) == mapped
        assert ("upload" in gpu.journal) != mapped


@pytest.mark.parametrize(("dla_core", "most"), [(None, 3), (0, 1)])
def test_an_engine_on_the_dla_has_one_slot(dla_core: int | None, most: int, gpu: FakeGpu, tmp_path: Path) -> None:
    with TensorRtRunner(paper_engine(tmp_path, dla_core=dla_core), slots=3) as runner:
        assert runner.slots == most
