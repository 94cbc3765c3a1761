"""Memory of an engine that photos are written into."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.engine import expected_scores, paper_engine
from tests.fakes.gpu import FakeGpu
from tests.support.engine_runs import warmed
from tests.support.errors import raises
from tests.support.gpu_calls import new_calls
from tests.support.photos import make_photo
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import RunFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.core.images import photo_batches
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Photo, Split
from trtpoets.device.runners.trt import TensorRtRunner
from trtpoets.device.runners.trt_batches import BatchRun
from trtpoets.judge.bench.meter import Meter
from trtpoets.judge.evaluation import scores_from_runner
from trtpoets.onboard.classify.classify_command import ClassifyConfig, classify
from trtpoets.onboard.classify.sources import source_of


def test_what_is_written_into_a_slot_is_not_copied(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(4)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        warmed(gpu, runner)
        buffer = runner.input_buffer(4)
        slot = next(item for item in runner._resources._slots if item.lent)  # type: ignore[union-attr]
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


def test_lent_memory_is_not_reused_until_it_is_submitted_or_dropped(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(4, seed=7)
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        warmed(gpu, runner)
        first, second = runner.input_buffer(4), runner.input_buffer(4)
        first[:], second[:] = 11, 22
        for _ in range(3):
            assert np.allclose(runner.infer(photos), expected_scores(photos)), "through a slot beside those two"
        assert (first == 11).all() and (second == 22).all() and len(gpu.queues) == 3
        more = [runner.input_buffer(4) for _ in range(3)]
        assert all(item.base is None for item in more), "no more than two are lent: others always find a slot"
        assert np.allclose(runner.infer(photos), expected_scores(photos)) and len(gpu.queues) == 3
        del first, second
        gc.collect()
        new_calls(gpu)
        for _ in range(5):
            runner.infer(photos)
        assert new_calls(gpu)[-2:] == ["launch", "synchronize"] and len(gpu.queues) == 3


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
            assert (count.classified, count.failed) == (11, 1)
            meter = Meter(runner, pixels, 4, paths)
            assert len(meter._end_to_end()) > 0 and meter.fault == ""
        assert not copied
    values = [line["scores"][0] for line in lines if "scores" in line]
    assert np.allclose(values, expected.max(axis=1))


def test_no_photo_is_decoded_into_memory_that_is_freed(gpu: FakeGpu, tmp_path: Path) -> None:
    """A failing evaluation leaves no thread behind, even while its exception is still referenced."""
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    for number, path in enumerate(paths):
        make_photo(0, number).save(path)
    photos = [Photo(path, "", Split.TEST, sha256_of_file(path)) for path in paths]
    with TensorRtRunner(paper_engine(tmp_path)) as runner:
        gpu.fail_execute = True
        with raises(RunFailed, "TP4108") as caught:
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
