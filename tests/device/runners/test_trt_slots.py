"""Several batches of an engine in progress, padding and graph capture, on the fake GPU."""

from __future__ import annotations

import logging
import tempfile
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.engine import expected_scores, paper_engine
from tests.fakes.gpu import TICK, FakeGpu, nothing_left
from tests.support.engine_runs import warmed
from tests.support.errors import raises
from tests.support.gpu_calls import new_calls
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.types import Flavour
from trtpoets.device.gpu.cuda import CudaSession
from trtpoets.device.runners.trt import TensorRtRunner


def test_the_second_batch_is_queued_while_the_first_is_under_way(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = [tiny_photos(4, seed=seed) for seed in range(3)]
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        assert runner.slots == 2
        warmed(gpu, runner)
        first, second = runner.submit(photos[0]), runner.submit(photos[1])
        assert new_calls(gpu) == ["launch", "launch"]
        assert sum(bool(queue.waiting) for queue in gpu.queues.values()) == 2, "each on a stream of its own"
        third = runner.submit(photos[2])
        assert new_calls(gpu) == ["synchronize", "launch"], "the one that was begun first makes room"
        for ticket, given_photos in ((third, photos[2]), (first, photos[0]), (second, photos[1])):
            assert np.allclose(runner.collect(ticket), expected_scores(given_photos))
        assert new_calls(gpu) == ["synchronize"] * 2


def test_the_second_slot_is_made_when_it_is_needed(gpu: FakeGpu, tmp_path: Path) -> None:
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        for _ in range(5):
            runner.infer(tiny_photos(3))
            runner.collect(runner.submit(tiny_photos(8)))
        assert len(gpu.queues) == 1
        tickets = [runner.submit(tiny_photos(3)) for _ in range(2)]
        assert len(gpu.queues) == 2
        assert [runner.collect(ticket).shape for ticket in tickets] == [(3, 3)] * 2


def test_a_batch_in_pieces_goes_through_both(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(20)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        for _ in range(4):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
        new_calls(gpu)
        runner.infer(photos)
        assert new_calls(gpu) == ["launch", "launch", "synchronize", "launch", "synchronize", "synchronize"]


def test_one_slot_where_memory_is_short(gpu: FakeGpu, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gpu.free_memory = 8192
    photos = tiny_photos(4)
    with caplog.at_level(logging.WARNING), TensorRtRunner(paper_engine(tmp_path)) as runner:
        for _ in range(2):
            tickets = [runner.submit(photos) for _ in range(3)]
            assert all(np.allclose(runner.collect(ticket), expected_scores(photos)) for ticket in tickets)
        assert runner.slots == 1 and len(gpu.queues) == 1
        assert runner.input_buffer(4).base is None, "the only slot is not lent"
    assert caplog.text.count("the runner uses only 1 slots: another slot needs") == 1


def test_one_slot_where_a_second_can_not_be_made(
    gpu: FakeGpu, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = tiny_photos(4)
    with caplog.at_level(logging.WARNING), TensorRtRunner(paper_engine(tmp_path)) as runner:
        gpu.fail_memory = True
        tickets = [runner.submit(photos) for _ in range(3)]
        assert all(np.allclose(runner.collect(ticket), expected_scores(photos)) for ticket in tickets)
        assert runner.slots == 1
    assert "uses only 1 slots: the GPU is out of memory" in caplog.text


@pytest.mark.parametrize("options", [{"slots": 1}, {}])
def test_one_slot_by_choice_or_with_one_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    gpu = FakeGpu(tiny_spec(), one_context=not options)
    gpu.install(monkeypatch)
    with nothing_left(gpu), TensorRtRunner(paper_engine(tmp_path), **options) as runner:
        tickets = [runner.submit(tiny_photos(4, seed=seed)) for seed in range(3)]
        answers = [runner.collect(ticket) for ticket in tickets]
        assert runner.slots == 1 and len(gpu.queues) == 1
    assert all(np.allclose(scores, expected_scores(tiny_photos(4, seed=seed))) for seed, scores in enumerate(answers))
    with raises(BadInput, "TP4093"):
        TensorRtRunner(paper_engine(tmp_path), slots=0)


def test_rtx_has_two_slots_and_captures_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    photos = tiny_photos(4)
    with nothing_left(gpu), TensorRtRunner(paper_engine(tmp_path, Flavour.RTX)) as runner:
        for _ in range(3):
            tickets = [runner.submit(photos) for _ in range(2)]
            assert all(np.allclose(runner.collect(ticket), expected_scores(photos)) for ticket in tickets)
        assert runner.slots == 2 and len(gpu.queues) == 2
        assert "begin capture" not in gpu.journal


# Graphs


def test_events_do_not_wait_for_the_host(gpu: FakeGpu, tmp_path: Path) -> None:
    """Queueing takes more than half of the copy here: if the GPU were idle meanwhile, the times would show it."""
    photos = tiny_photos(4)
    gpu.host_ms = 0.14
    for graphs in (True, False):
        with TensorRtRunner(paper_engine(tmp_path), graphs=graphs) as runner:
            for number in range(4):
                scores, timing = runner.infer_timed(photos)
                assert np.allclose(scores, expected_scores(photos))
                assert (timing.h2d_ms, timing.compute_ms, timing.d2h_ms) == pytest.approx((TICK, TICK, TICK))
                assert timing.graph is (graphs and number > 0)


def test_timing_and_running_take_turns(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(4)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        for _ in range(3):
            runner.infer(photos)
            runner.infer_timed(photos)
        gpu.journal.clear()
        for _ in range(3):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
            assert np.allclose(runner.infer_timed(photos)[0], expected_scores(photos))
        assert not {"begin capture", "shape 4", "destroy executable"} & set(gpu.journal), "each has its graph"


# What a batch costs the host


def test_the_host_adds_little_to_a_batch(tmp_path: Path) -> None:
    """`benchmarks/host_cost.py` has the numbers. The fastest of a few rounds is used: other programs run too."""
    from benchmarks import host_cost

    measures = [host_cost.measure(224, True, tmp_path / f"{number}") for number in range(3)]
    assert min(item["host"] for item in measures) <= 3 * host_cost.LIMIT


@pytest.mark.parametrize("graphs", [True, False])
def test_nothing_is_allocated_for_a_batch_but_its_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graphs: bool
) -> None:
    """numpy reports its memory to tracemalloc in a separate domain."""
    from benchmarks import host_cost

    gpu, photos = FakeGpu(tiny_spec(64)), np.zeros((1, 64, 64, 3), np.uint8)
    gpu.install(monkeypatch)
    host_cost.silence(gpu, monkeypatch)
    with TensorRtRunner(paper_engine(tmp_path, side=64), graphs=graphs) as runner:
        for _ in range(20):
            runner.infer(photos)
        tracemalloc.start()
        try:
            runner.infer(photos)
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            for _ in range(100):
                runner.infer(photos)
            after, peak = tracemalloc.get_traced_memory()
            kept = [runner.infer(photos) for _ in range(10)]
            arrays = tracemalloc.take_snapshot().filter_traces(
                [tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)]
            )
        finally:
            tracemalloc.stop()
    assert after - before < 1024, "100 batches leave nothing behind"
    assert peak - before < 2048, "the scores of one batch, and a few small objects, and no photo"
    assert sum(trace.size for trace in arrays.traces) == sum(scores.nbytes for scores in kept)


# Mapped memory


def test_an_integrated_gpu_reads_photos_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec(), integrated=True)
    gpu.install(monkeypatch)
    photos = tiny_photos(4)
    with nothing_left(gpu):
        with TensorRtRunner(paper_engine(tmp_path)) as runner:
            for seed in range(4):
                other = tiny_photos(4, seed=seed)
                assert np.allclose(runner.infer(other), expected_scores(other))
            tickets = [runner.submit(photos) for _ in range(3)]
            assert all(np.allclose(runner.collect(ticket), expected_scores(photos)) for ticket in tickets)
            _, timing = runner.infer_timed(photos)
            assert (timing.h2d_ms, timing.compute_ms, timing.d2h_ms) == (0, TICK, 0)
        assert not {"upload", "download"} & set(gpu.journal)
        assert "launch" in gpu.journal
        gpu.journal.clear()
        with TensorRtRunner(paper_engine(tmp_path), zero_copy=False) as runner:
            runner.infer(photos)
        assert {"upload", "download"} <= set(gpu.journal)


def test_the_address_of_memory_that_is_not_mapped(gpu: FakeGpu) -> None:
    with CudaSession() as session, session.current():
        assert not session.maps_memory
        with pytest.raises(AssertionError, match="not mapped"):
            session.device_address(session.pinned((4,), np.uint8))
    gpu.broken.clear()


# Failures


def test_an_error_is_raised_where_its_batch_is_collected(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tiny_photos(4)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        warmed(gpu, runner)
        first, second = runner.submit(photos), runner.submit(photos)
        slot = runner._resources._slots[0]  # type: ignore[union-attr]
        flight = slot.work
        assert flight is not None

        def broken() -> int:
            gpu.finish(slot.stream.stream)
            return 700

        monkeypatch.setattr(flight.batch_run, "_wait", broken)
        assert np.allclose(runner.collect(second), expected_scores(photos))
        with raises(RunFailed, "TP4069", "cuStreamSynchronize", "CUDA_ERROR_ILLEGAL_ADDRESS"):
            runner.collect(first)


def test_an_interruption_while_waiting_loses_its_batch_alone(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tiny_photos(4)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        warmed(gpu, runner)
        ticket, other = runner.submit(photos), runner.submit(photos)
        flight = runner._resources._slots[0].work  # type: ignore[union-attr]
        assert flight is not None

        def interrupted() -> int:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(flight.batch_run, "_wait", interrupted)
            runner.collect(ticket)
        with raises(RunFailed, "TP4097"):
            runner.collect(ticket)
        assert np.allclose(runner.collect(other), expected_scores(photos))
        assert np.allclose(runner.infer(photos), expected_scores(photos))


def test_a_large_batch_that_fails_half_way(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(20)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        runner.infer(photos)
        gpu.fail_shape = True
        with raises(RunFailed, "TP4106"):
            runner.submit(tiny_photos(17))
        gpu.fail_shape = False
        assert np.allclose(runner.infer(photos), expected_scores(photos))


Step = tuple[str, int]


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["infer", "submit", "collect", "lend", "hand in", "timed", "no run", "thread"]),
            st.integers(1, 20),
        ),
        max_size=30,
    ),
    one=st.booleans(),
    integrated=st.booleans(),
)
def test_any_order_of_everything(steps: list[Step], one: bool, integrated: bool) -> None:
    gpu = FakeGpu(tiny_spec(), one_context=one, integrated=integrated)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        gpu.install(patch)
        with nothing_left(gpu), TensorRtRunner(paper_engine(Path(folder))) as runner:
            Anything(gpu, runner).do(steps)


class Anything:
    """Steps in any order, each held against what it should answer."""

    def __init__(self, gpu: FakeGpu, runner: TensorRtRunner) -> None:
        self.gpu, self.runner = gpu, runner
        self.under_way: list[tuple[Any, np.ndarray]] = []
        self.lent: list[tuple[np.ndarray, np.ndarray]] = []

    def do(self, steps: list[Step]) -> None:
        for number, (step, count) in enumerate(steps):
            photos = tiny_photos(count, seed=number)
            self.gpu.fail_execute = step == "no run"
            try:
                self.step(step, photos, number)
            except RunFailed as error:
                assert "can't run the engine" in error.message and self.gpu.fail_execute
            for buffer, content in self.lent:
                assert np.array_equal(buffer, content), "lent memory is left alone"
        self.gpu.fail_execute = False
        for ticket, photos in self.under_way:
            assert np.allclose(self.runner.collect(ticket), expected_scores(photos))

    def step(self, step: str, photos: np.ndarray, number: int) -> None:
        runner = self.runner
        if step == "submit":
            self.under_way.append((runner.submit(photos), photos))
        elif step == "collect" and self.under_way:
            ticket, given_photos = self.under_way.pop(number % len(self.under_way))
            assert np.allclose(runner.collect(ticket), expected_scores(given_photos))
        elif step == "lend" and len(self.lent) < 3:
            buffer = runner.input_buffer(len(photos))
            buffer[:] = photos
            self.lent.append((buffer, photos))
        elif step == "hand in" and self.lent:
            buffer, content = self.lent.pop(number % len(self.lent))
            self.under_way.append((runner.submit(buffer), content))
        elif step == "timed":
            assert np.allclose(runner.infer_timed(photos)[0], expected_scores(photos))
        elif step == "thread":
            answers: list[np.ndarray] = []
            thread = threading.Thread(target=lambda: answers.append(runner.infer(photos)))
            thread.start()
            thread.join()
            assert np.allclose(answers[0], expected_scores(photos))
        else:
            assert np.allclose(runner.infer(photos), expected_scores(photos))
