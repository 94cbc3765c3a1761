"""CUDA graphs of an engine: what is captured when, and how batches are padded."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.engine import expected_scores, paper_engine
from tests.fakes.gpu import FakeGpu, nothing_left
from tests.support.gpu_calls import new_calls
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.types import BatchRange
from trtpoets.device.runners import open_runner
from trtpoets.device.runners.trt import TensorRtRunner
from trtpoets.device.runners.trt_lanes import Sizes


def test_a_batch_is_captured_with_its_copies_at_the_second_time(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(4)
    copies = ["upload", "execute", "download"]
    with open_runner(paper_engine(tmp_path)) as runner:
        gpu.journal.clear()
        runner.infer(photos)
        new = ["new context", "context memory", "shape 4", "address of photos", "address of scores"]
        assert new_calls(gpu) == [*new, *copies, "synchronize"]
        assert np.allclose(runner.infer(photos), expected_scores(photos))
        # The fake notes work when it is queued: what is captured shows, though nothing of it runs.
        capture = ["begin capture", *copies, "end capture", "instantiate", "destroy graph"]
        assert new_calls(gpu) == [*capture, "launch", "synchronize"]
        other = tiny_photos(4, seed=9)
        assert np.allclose(runner.infer(other), expected_scores(other)), "a graph must work on the new photos"
        assert new_calls(gpu) == ["launch", "synchronize"]
        runner.infer(photos[:2])
        runner.infer(photos[:2])
        new_calls(gpu)
        for count in (4, 2, 4):
            assert np.allclose(runner.infer(photos[:count]), expected_scores(photos[:count]))
        assert new_calls(gpu) == ["launch", "synchronize"] * 3, "each size has a context and a graph of its own"


def test_with_one_context_a_graph_is_of_the_computing_and_goes_with_its_size(
    one_context: FakeGpu, tmp_path: Path
) -> None:
    gpu, photos = one_context, tiny_photos(4)
    with open_runner(paper_engine(tmp_path)) as runner:
        assert runner.slots == 1
        gpu.journal.clear()
        runner.infer(photos)
        new = ["shape 4", "address of photos", "address of scores"]
        assert new_calls(gpu) == [*new, "upload", "execute", "download", "synchronize"]
        assert np.allclose(runner.infer(photos), expected_scores(photos))
        capture = ["begin capture", "execute", "end capture", "instantiate", "destroy graph"]
        assert new_calls(gpu) == [*capture, "upload", "launch", "download", "synchronize"]
        runner.infer(photos[:2])
        assert new_calls(gpu)[:2] == ["destroy executable", "shape 2"]


@pytest.mark.parametrize("count", [20, 9, 33])
def test_sizes_that_alternate_are_not_captured_again_and_again(
    one_context: FakeGpu, tmp_path: Path, count: int
) -> None:
    gpu, photos = one_context, tiny_photos(count)
    with open_runner(paper_engine(tmp_path)) as runner:
        for _ in range(70):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
        new_calls(gpu)
        for _ in range(20):
            runner.infer(photos)
        captures = new_calls(gpu).count("begin capture")
        assert captures == 0 if count < 33 else captures <= 1, "three replays don't pay for making a graph"
        for _ in range(100):
            runner.infer(photos[:8])
        assert new_calls(gpu).count("begin capture") == 1, "a size that stays is captured in the end"


def test_a_graph_that_pays_is_made_at_once(one_context: FakeGpu, tmp_path: Path) -> None:
    gpu = one_context
    with open_runner(paper_engine(tmp_path)) as runner:
        for count in (1, 2, 4, 8) * 3:
            new_calls(gpu)
            for _ in range(6):
                runner.infer(tiny_photos(count))
            result = new_calls(gpu)
            assert (result.count("execute"), result.count("begin capture"), result.count("launch")) == (2, 1, 5)


def test_a_runner_without_graphs(gpu: FakeGpu, tmp_path: Path) -> None:
    with TensorRtRunner(paper_engine(tmp_path), graphs=False) as runner:
        for _ in range(4):
            _, timing = runner.infer_timed(tiny_photos(2))
            assert timing.graph is False
    assert "begin capture" not in gpu.journal


def test_a_failed_capture_is_reported_once_and_the_runner_continues(
    gpu: FakeGpu, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.fail_capture = True
    photos = tiny_photos(3)
    with caplog.at_level(logging.WARNING), open_runner(paper_engine(tmp_path)) as runner:
        for _ in range(4):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
    why = "cuStreamEndCapture failed: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
    assert [record.message for record in caplog.records] == [
        f"running with a CUDA graph of the computing alone: {why}",
        f"running without a CUDA graph: {why}",
    ]


def test_copies_that_cannot_be_captured(gpu: FakeGpu, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gpu.fail_captured_copy = True
    photos, why = tiny_photos(4), "cuMemcpyAsync failed: operation not permitted when stream is capturing"
    with caplog.at_level(logging.WARNING), open_runner(paper_engine(tmp_path)) as runner:
        for _ in range(4):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
        new_calls(gpu)
        runner.infer(photos)
        assert new_calls(gpu) == ["upload", "launch", "download", "synchronize"]
    assert [record.message for record in caplog.records] == [f"running with a CUDA graph of the computing alone: {why}"]


def test_an_enqueue_that_cannot_be_captured(gpu: FakeGpu, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Engines with loops or weight streaming fail only during capture."""
    gpu.fail_captured_execute = True
    photos = tiny_photos(3)
    with caplog.at_level(logging.WARNING), open_runner(paper_engine(tmp_path)) as runner:
        for _ in range(4):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
    assert [record.message for record in caplog.records] == [
        "running with a CUDA graph of the computing alone: TensorRT 10.3.0 can't run the engine: it gave no reason",
        "running without a CUDA graph: TensorRT 10.3.0 can't run the engine: it gave no reason",
    ]


@pytest.mark.parametrize(
    ("batch", "padded"),
    [
        ((1, 8, 32), {1: 1, 2: 2, 3: 4, 5: 8, 9: 16, 17: 32, 32: 32}),
        ((1, 12, 20), {1: 1, 9: 12, 12: 12, 13: 16, 17: 20}),
        ((4, 4, 6), {1: 4, 4: 4, 5: 6}),
        ((3, 5, 5), {1: 3, 4: 4, 5: 5}),
    ],
)
def test_batches_are_padded(batch: tuple[int, int, int], padded: dict[int, int]) -> None:
    sizes = Sizes(BatchRange(*batch))
    assert {count: sizes.padded(count) for count in padded} == padded


def test_a_server_needs_one_graph_for_each_power_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec(), batch=(1, 8, 32))
    gpu.install(monkeypatch)
    counts = np.random.default_rng(0).integers(1, 33, 200)
    with nothing_left(gpu), TensorRtRunner(paper_engine(tmp_path, batch=(1, 8, 32))) as runner:
        for count in counts[:100]:
            runner.infer(tiny_photos(int(count)))
        assert gpu.journal.count("begin capture") == 6 and len(gpu.graphs) == 6
        new_calls(gpu)
        for count in counts[100:]:
            photos = tiny_photos(int(count), seed=int(count))
            assert np.allclose(runner.infer(photos), expected_scores(photos))
        assert new_calls(gpu) == ["launch", "synchronize"] * 100, "no size is set up or captured again"


def test_a_size_that_comes_again_and_again_is_not_padded(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(3)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        for _ in range(4):
            runner.infer(photos)
        assert "shape 3" not in gpu.journal
        for _ in range(3):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
        assert gpu.journal.count("shape 3") == 1
        new_calls(gpu)
        runner.infer(photos[:2])
        runner.infer(photos)
        assert new_calls(gpu)[-2:] == ["launch", "synchronize"]


def test_graphs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot never has more than its maximum of lanes, whatever batch sizes occur."""
    gpu = FakeGpu(tiny_spec(), batch=(1, 32, 64))
    gpu.install(monkeypatch)
    with nothing_left(gpu), TensorRtRunner(paper_engine(tmp_path, batch=(1, 32, 64))) as runner:
        for count in range(33, 55):
            for _ in range(16):
                runner.infer(tiny_photos(count))
        assert len(gpu.graphs) == 16
        assert len([thing for thing in gpu.alive if isinstance(thing, dict) and thing.get("what") == "context"]) == 16
        photos = tiny_photos(30, seed=3)
        assert np.allclose(runner.infer(photos), expected_scores(photos))


def test_an_engine_on_the_dla_is_never_captured(gpu: FakeGpu, tmp_path: Path) -> None:
    engine = paper_engine(tmp_path)
    engine = replace(engine, card=replace(engine.card, dla_core=0))
    photos = tiny_photos(4)
    with TensorRtRunner(engine) as runner:
        for _ in range(4):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
            assert runner.infer_timed(photos)[1].graph is False
        assert runner.slots == 1
    assert "begin capture" not in gpu.journal
