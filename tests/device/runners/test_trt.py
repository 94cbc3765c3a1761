"""The runner of engines, on the fake GPU: batches, threads, failures, and what it frees."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.engine import expected_scores, paper_engine
from tests.fakes.gpu import TICK, FakeGpu, nothing_left
from tests.support.errors import raises
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import BadArtefact, MissingArtefact, RunFailed
from trtpoets.core.types import Engine, Flavour
from trtpoets.device.build.engine_card import platform_name
from trtpoets.device.runners import open_runner
from trtpoets.device.runners.base import TimedRunner
from trtpoets.device.runners.trt import TensorRtRunner, _finite


def test_nothing_is_allocated_and_little_is_called_for_a_batch(gpu: FakeGpu, tmp_path: Path) -> None:
    with open_runner(paper_engine(tmp_path)) as runner:
        runner.infer(tiny_photos(4))
        runner.infer(tiny_photos(4))
        gpu.journal.clear()
        runner.infer(tiny_photos(4))
        assert gpu.journal == ["push driver", "launch", "synchronize", "pop driver"]


def test_timings(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(20)
    runner = open_runner(paper_engine(tmp_path))
    assert isinstance(runner, TimedRunner)
    with runner:
        scores, timing = runner.infer_timed(photos)
        assert np.allclose(scores, expected_scores(photos))
        assert (timing.h2d_ms, timing.compute_ms, timing.d2h_ms) == (3 * TICK, 3 * TICK, 3 * TICK), "three pieces"
        assert timing.device_ms == 9 * TICK and timing.graph is False
        assert 0 < timing.enqueue_ms < 1000
    with runner:
        for graph in (False, True, True):
            scores, timing = runner.infer_timed(photos[:2])
            assert timing.graph is graph and timing.compute_ms == TICK
            assert np.allclose(scores, expected_scores(photos[:2]))


def test_two_engines_at_once(gpu: FakeGpu, tmp_path: Path) -> None:
    """Both on one GPU, used alternately and from threads, left in the order of entering."""
    first, second = (open_runner(paper_engine(tmp_path / name)) for name in "ab")
    photos = tiny_photos(5)
    first.__enter__()
    with second:
        for _ in range(3):
            assert np.allclose(first.infer(photos), expected_scores(photos))
            assert np.allclose(second.infer(photos[:2]), expected_scores(photos[:2]))
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(runner.infer, photos[:3]) for _ in range(8) for runner in (first, second)]
            assert all(np.allclose(job.result(), expected_scores(photos[:3])) for job in jobs)
        first.__exit__(None, None, None)
        assert np.allclose(second.infer(photos), expected_scores(photos))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["infer", "timed", "thread", "no run", "no shape"]), st.integers(1, 20))),
    smallest=st.sampled_from([1, 3]),
)
def test_any_order_of_sizes_threads_and_failures(steps: list[tuple[str, int]], smallest: int) -> None:
    gpu = FakeGpu(tiny_spec(), batch=(smallest, 4, 8))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        gpu.install(patch)
        runner = TensorRtRunner(paper_engine(Path(folder), batch=gpu.batch))
        with nothing_left(gpu), runner, ThreadPoolExecutor(1) as pool:
            for number, (step, count) in enumerate(steps):
                photos = tiny_photos(count, seed=number)
                gpu.fail_execute, gpu.fail_shape = step == "no run", step == "no shape"
                try:
                    if step == "thread":
                        scores = pool.submit(runner.infer, photos).result()
                    else:
                        scores = runner.infer_timed(photos)[0] if step == "timed" else runner.infer(photos)
                except RunFailed:
                    assert step.startswith("no ")
                else:
                    assert np.allclose(scores, expected_scores(photos))


def test_leaving_waits_for_a_thread_that_is_asking(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, leave = threading.Event(), threading.Event()
    real = gpu.finish

    def slow(stream: int) -> None:
        asked.set()
        leave.wait(5)
        real(stream)

    with ThreadPoolExecutor(1) as pool:
        with open_runner(paper_engine(tmp_path)) as runner:
            monkeypatch.setattr(gpu, "finish", slow)
            job = pool.submit(runner.infer, tiny_photos(2))
            assert asked.wait(5)
            threading.Timer(0.05, leave.set).start()
        assert job.result().shape == (2, 3)


@pytest.mark.parametrize(
    ("changes", "code", "values"),
    [
        ({"tensorrt_version": "10.0.1"}, "TP4016", ("tensorrt 10.0.1", "TensorRT 10.3.0")),
        ({"platform": "linux-aarch64"}, "TP4017", ("linux-aarch64", platform_name())),
        ({"targets": ("sm87",)}, "TP4018", ("sm87", "Paper GPU is sm86")),
        ({"targets": ("sm90+",)}, "TP4018", ("sm90+", "Paper GPU is sm86")),
        ({"targets": ()}, "TP4018", ("unknown GPU", "Paper GPU is sm86")),
    ],
)
def test_an_engine_for_elsewhere_is_never_loaded(
    gpu: FakeGpu, tmp_path: Path, changes: dict[str, Any], code: str, values: tuple[str, str]
) -> None:
    engine = paper_engine(tmp_path, **changes)
    with raises(RunFailed, code, engine.path, *values) as caught, open_runner(engine):
        pass
    assert caught.value.hint.startswith("build it again on this machine: trtpoets build tiny --force --engines /")
    assert "new engine" not in gpu.journal


@pytest.mark.parametrize(("targets", "runs"), [(("sm80+",), True), (("sm86", "sm89"), True), (("sm120",), False)])
def test_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, targets: tuple[str, ...], runs: bool) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    runner = open_runner(paper_engine(tmp_path, Flavour.RTX, targets=targets))
    with nothing_left(gpu):
        if runs:
            with runner:
                runner.infer(tiny_photos(1))
        else:
            with raises(RunFailed, "TP4018", "sm120"), runner:
                pass


def test_an_engine_that_changed_since_it_was_opened(gpu: FakeGpu, tmp_path: Path) -> None:
    engine = paper_engine(tmp_path)
    runner = open_runner(engine)
    engine.path.write_bytes(b"plan of another network")
    with raises(BadArtefact, "TP4095"), runner:
        pass
    engine.path.unlink()
    with raises(MissingArtefact, "TP4094"), runner:
        pass
    assert gpu.journal == [], "nothing of an unknown engine may reach the GPU"


def test_an_engine_that_tensorrt_refuses(gpu: FakeGpu, tmp_path: Path) -> None:
    engine = paper_engine(tmp_path)
    engine.path.write_bytes(b"damaged before its card was written")
    changed = replace(engine.card, engine_sha256=hashlib.sha256(engine.path.read_bytes()).hexdigest())
    reason = "Serialization assertion magicTag == kPLAN_MAGIC_TAG failed"
    with raises(RunFailed, "TP4102", "TensorRT 10.3.0", reason), open_runner(Engine(engine.path, changed)):
        pass


def test_without_a_driver_an_engine_says_so(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    from trtpoets.device.gpu import libcuda

    try:
        libcuda.gpus()
    except RunFailed:
        import tensorrt_rtx

        engine = paper_engine(tmp_path, Flavour.RTX, tensorrt_version=tensorrt_rtx.__version__)
        with raises(RunFailed, "TP4065"), open_runner(engine):
            pass
    else:
        pytest.skip("there is a GPU here")


@pytest.mark.parametrize("classes", [3, 9000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_found_wherever_it_is(classes: int, value: float) -> None:
    scores = np.full((2, classes), 0.5, np.float32)
    assert _finite(scores)
    for place in (0, classes - 1, classes):
        wrong = scores.copy()
        wrong.reshape(-1)[place] = value
        assert not _finite(wrong)
