"""Several batches of an engine in progress, padding and graph capture, on the fake GPU."""

from __future__ import annotations

import gc
import json
import logging
import tempfile
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.engine import expected_scores, paper_engine
from tests.fakes.gpu import TICK, FakeGpu, nothing_left
from tests.support.photos import make_photo
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.core.images import photo_batches
from trtpoets.core.serialization import to_json
from trtpoets.core.types import BatchRange, Flavour, Photo, Split
from trtpoets.device.gpu.cuda import CudaSession
from trtpoets.device.gpu.gpu_wait import Wait
from trtpoets.device.runners import open_runner
from trtpoets.device.runners.trt import TensorRtRunner, _finite
from trtpoets.device.runners.trt_batches import BatchRun
from trtpoets.device.runners.trt_lanes import Sizes
from trtpoets.judge.bench import bench_child
from trtpoets.judge.bench.bench_child import description_from_artefact
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.judge.bench.meter import Meter
from trtpoets.judge.evaluation import scores_from_runner
from trtpoets.onboard import commands
from trtpoets.onboard.classify.classify_command import ClassifyConfig, classify
from trtpoets.onboard.classify.sources import source_of


def warmed(gpu: FakeGpu, runner: TensorRtRunner, count: int = 4) -> None:
    """Both slots made, and their graphs captured; nothing in the journal."""
    for _ in range(3):
        for ticket in [runner.submit(tiny_photos(count)) for _ in range(2)]:
            runner.collect(ticket)
    gpu.journal.clear()


def calls(gpu: FakeGpu) -> list[str]:
    found = [call for call in gpu.journal if call.partition(" ")[0] not in ("push", "pop")]
    gpu.journal.clear()
    return found


def test_the_second_batch_is_queued_while_the_first_is_under_way(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = [tiny_photos(4, seed=seed) for seed in range(3)]
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        assert runner.slots == 2
        warmed(gpu, runner)
        first, second = runner.submit(photos[0]), runner.submit(photos[1])
        assert calls(gpu) == ["launch", "launch"]
        assert sum(bool(queue.waiting) for queue in gpu.queues.values()) == 2, "each on a stream of its own"
        third = runner.submit(photos[2])
        assert calls(gpu) == ["synchronize", "launch"], "the one that was begun first makes room"
        for ticket, given_photos in ((third, photos[2]), (first, photos[0]), (second, photos[1])):
            assert np.allclose(runner.collect(ticket), expected_scores(given_photos))
        assert calls(gpu) == ["synchronize"] * 2


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
        calls(gpu)
        runner.infer(photos)
        assert calls(gpu) == ["launch", "launch", "synchronize", "launch", "synchronize", "synchronize"]


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
        found = [runner.collect(ticket) for ticket in tickets]
        assert runner.slots == 1 and len(gpu.queues) == 1
    assert all(np.allclose(scores, expected_scores(tiny_photos(4, seed=seed))) for seed, scores in enumerate(found))
    with pytest.raises(BadInput, match="the number of slots must be at least 1"):
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


# Memory that is lent


def test_what_is_written_into_a_slot_is_not_copied(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(4)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        warmed(gpu, runner)
        buffer = runner.input_buffer(4)
        slot = next(each for each in runner._resources._slots if each.lent)  # type: ignore[union-attr]
        assert np.shares_memory(buffer, slot.photos)
        buffer[:] = photos
        views = [slot.photos, *(shot.photos for shot in slot.ready.values())]
        for view in views:
            view.flags.writeable = False  # a copy into it would raise
        for _ in range(5):
            assert np.allclose(runner.infer(buffer), expected_scores(photos)), "also again and again"
        for view in views:
            view.flags.writeable = True
        assert np.array_equal(buffer, photos), "its content stays until the runner is used again"


def test_lent_memory_is_nobody_elses_until_it_is_handed_in_or_dropped(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(4, seed=7)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        warmed(gpu, runner)
        first, second = runner.input_buffer(4), runner.input_buffer(4)
        first[:], second[:] = 11, 22
        for _ in range(3):
            assert np.allclose(runner.infer(photos), expected_scores(photos)), "through a slot beside those two"
        assert (first == 11).all() and (second == 22).all() and len(gpu.queues) == 3
        more = [runner.input_buffer(4) for _ in range(3)]
        assert all(each.base is None for each in more), "no more than two are lent: others always find a slot"
        assert np.allclose(runner.infer(photos), expected_scores(photos)) and len(gpu.queues) == 3
        del first, second
        gc.collect()
        calls(gpu)
        for _ in range(5):
            runner.infer(photos)
        assert calls(gpu)[-2:] == ["launch", "synchronize"] and len(gpu.queues) == 3


def test_more_than_the_engine_takes_is_ordinary_memory(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(20)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        buffer = runner.input_buffer(20)
        buffer[:] = photos
        assert np.allclose(runner.infer(buffer), expected_scores(photos))


def test_decoders_write_into_slots(gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In evaluation, classification and benchmarks from files, photos are not copied between decoding and slot."""
    paths = [tmp_path / "photos" / f"{number:02}.png" for number in range(11)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        make_photo(number % 3, number).save(path)
    photos = [Photo(path, "", Split.TEST, sha256_of_file(path)) for path in paths]
    pixels = next(photo_batches(paths, tiny_spec().preprocess, 11))
    expected = expected_scores(pixels)
    copied: list[np.ndarray] = []
    lines: list[Any] = []
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        with monkeypatch.context() as patch:
            patch.setattr(BatchRun, "start", watched(BatchRun.start, copied))
            patch.setattr(BatchRun, "run", watched(BatchRun.run, copied))
            assert np.allclose(scores_from_runner(runner, photos, 4), expected)
            (tmp_path / "photos" / "05.jpg").write_bytes(b"no photo")
            config, source = ClassifyConfig(batch=4), source_of(str(tmp_path / "photos"))
            count = classify(runner, [source], config, lambda line: lines.append(to_json(line)), threading.Event())
            assert (count.answered, count.failed) == (11, 1)
            meter = Meter(runner, pixels, 4, paths)
            assert len(meter._end_to_end()) > 0 and meter.fault == ""
        assert not copied
    found = [line["scores"][0] for line in lines if "scores" in line]
    assert np.allclose(found, expected.max(axis=1))


def test_nobody_decodes_into_memory_that_goes(gpu: FakeGpu, tmp_path: Path) -> None:
    """A failing evaluation leaves no thread behind, even while its exception is still referenced."""
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    for number, path in enumerate(paths):
        make_photo(0, number).save(path)
    photos = [Photo(path, "", Split.TEST, sha256_of_file(path)) for path in paths]
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        gpu.fail_execute = True
        with pytest.raises(RunFailed, match="can't run the engine") as caught:
            scores_from_runner(runner, photos, 2)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("trtpoets")]
        assert caught.value.hint == "check nvidia-smi"


def watched(real: Callable[..., Any], copied: list[np.ndarray]) -> Callable[..., Any]:
    """`start` or `run` of a shot, which notes photos that do not lie in its slot already."""

    def begin(self: BatchRun, photos: np.ndarray) -> Any:
        if not self.slot.holds(photos):
            copied.append(photos)
        return real(self, photos)

    return begin


# Sizes


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
        calls(gpu)
        for count in counts[100:]:
            photos = tiny_photos(int(count), seed=int(count))
            assert np.allclose(runner.infer(photos), expected_scores(photos))
        assert calls(gpu) == ["launch", "synchronize"] * 100, "no size is set up or captured again"


def test_a_size_that_comes_again_and_again_is_not_padded(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(3)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        for _ in range(4):
            runner.infer(photos)
        assert "shape 3" not in gpu.journal
        for _ in range(3):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
        assert gpu.journal.count("shape 3") == 1
        calls(gpu)
        runner.infer(photos[:2])
        runner.infer(photos)
        assert calls(gpu)[-2:] == ["launch", "synchronize"]


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


# Graphs


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

    found = [host_cost.measure(224, True, tmp_path / f"{number}") for number in range(3)]
    assert min(each["host"] for each in found) <= 3 * host_cost.LIMIT


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


@pytest.mark.parametrize("classes", [3, 9000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_found_wherever_it_is(classes: int, value: float) -> None:
    scores = np.full((2, classes), 0.5, np.float32)
    assert _finite(scores)
    for place in (0, classes - 1, classes):
        wrong = scores.copy()
        wrong.reshape(-1)[place] = value
        assert not _finite(wrong)


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


# Waiting for the GPU


@pytest.mark.parametrize("cuda", [10020, 12060])
@pytest.mark.parametrize("wait", [Wait.SPIN, Wait.BLOCKING])
def test_the_wait_mode_is_set_before_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: Wait, cuda: int
) -> None:
    gpu = FakeGpu(tiny_spec(), cuda=cuda)
    gpu.install(monkeypatch)
    gpu.wait_flags = 16  # another flag, which stays
    with nothing_left(gpu), TensorRtRunner(paper_engine(tmp_path), wait=wait) as runner:
        flags = {Wait.SPIN: 17, Wait.BLOCKING: 20}[wait]
        assert gpu.journal[:3] == [f"wait flags {flags}", "init", "retain"]
        assert runner.waits is wait
    with nothing_left(gpu), TensorRtRunner(paper_engine(tmp_path)) as runner:
        assert runner.waits is wait, "None leaves it as it is"
    with pytest.raises(RunFailed, match="before it was entered"):
        _ = runner.waits


@pytest.mark.parametrize(("cuda", "found"), [(10020, Wait.AUTO), (11000, Wait.SPIN)])
def test_a_context_that_is_there_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cuda: int, found: Wait
) -> None:
    """Before CUDA 11 its flags can't be changed; the mode in effect is reported."""
    gpu = FakeGpu(tiny_spec(), cuda=cuda)
    gpu.install(monkeypatch)
    gpu.retain()
    with caplog.at_level(logging.INFO), TensorRtRunner(paper_engine(tmp_path), wait=Wait.SPIN) as runner:
        assert runner.waits is found
    assert ("CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE" in caplog.text) is (found is Wait.AUTO)
    gpu.let_go()


def test_benchmarks_spin_and_cameras_block(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Exception):
        pass

    def runner_in(*given: Any) -> Any:
        raise Asked(*given)

    assert bench_child._OPENER.keywords["wait"] is Wait.SPIN  # type: ignore[attr-defined]
    monkeypatch.setattr(commands, "bundle_here", lambda: "bundle")
    monkeypatch.setattr(commands, "runner_in", runner_in)
    with pytest.raises(Asked) as caught:
        commands.run(["classify", "camera"])
    assert caught.value.args == ("bundle", "engine", None, Wait.BLOCKING)


@pytest.mark.parametrize("wait", [None, Wait.SPIN])
def test_a_child_says_how_it_waits_and_what_it_can_have_under_way(
    gpu: FakeGpu, tmp_path: Path, wait: Wait | None
) -> None:
    make_photo(0, 0).save(tmp_path / "photo.png")
    photo, told = tmp_path / "photo.png", []
    request = {
        "artefact": description_from_artefact(paper_engine(tmp_path)),
        "way": "plain",
        "photos": [[str(photo), sha256_of_file(photo)]],
        "prepared": False,
        "config": asdict(BenchConfig()),
        "energy": False,
        "bus_id": None,
    }
    opener = partial(open_runner, wait=wait)
    bench_child._serve(StringIO(json.dumps(request) + "\n"), opener, lambda **reply: told.append(reply))
    (loaded,) = told
    assert (loaded["waits"], loaded["slots"]) == ("spin" if wait else "auto", 2)


# Failures


def test_what_breaks_is_told_to_whoever_collects_it(
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
        with pytest.raises(RunFailed, match="cuStreamSynchronize failed: CUDA_ERROR_ILLEGAL_ADDRESS"):
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
        with pytest.raises(RunFailed, match="was interrupted"):
            runner.collect(ticket)
        assert np.allclose(runner.collect(other), expected_scores(photos))
        assert np.allclose(runner.infer(photos), expected_scores(photos))


def test_a_large_batch_that_fails_half_way(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(20)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        runner.infer(photos)
        gpu.fail_shape = True
        with pytest.raises(RunFailed, match="rejects the input shape"):
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
