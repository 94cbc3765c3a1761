"""Frames of cameras and videos."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.cameras import CAMERA, answered, frames
from tests.support.errors import raises
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.onboard.classify import video
from trtpoets.onboard.classify.sources import Kind, Source, source_of


def test_a_camera_that_is_faster_than_the_engine_loses_frames(opencv: Any) -> None:
    opencv([frames(200)], pace=0.002)
    lines, count = answered(CAMERA, runner=FakeRunner(tiny_spec(), delay_seconds=0.02), frames=5)
    assert (len(lines), count.classified) == (5, 5)
    numbers = [line["frame"] for line in lines]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] > 10
    assert lines[-1]["dropped"] >= numbers[-1] - len(lines)
    assert all(line["ms"] >= 20 and line["source"] == "camera" for line in lines)
    # At most one frame waits, so that no answer is much older than two inferences.
    assert max(line["ms"] for line in lines[1:]) < 1000


def test_frames_are_bgr(opencv: Any, tmp_path: Path) -> None:
    """A red frame in OpenCV's order gives the scores of a red photo."""
    from PIL import Image

    opencv([frames(1, colour=2)])
    (line, *_), _ = answered(CAMERA, frames=1, top=3)
    red = np.zeros((6, 8, 3), np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(tmp_path / "red.png")
    ((photo,), _) = answered(source_of(str(tmp_path / "red.png")), top=3)
    assert (line["labels"], line["scores"]) == (photo["labels"], photo["scores"])


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 4)])
def test_grey_and_transparent_frames(opencv: Any, shape: tuple[int, ...]) -> None:
    opencv([[np.full(shape, 90, np.uint8)]])
    lines, _ = answered(CAMERA, frames=1)
    assert len(lines) == 1


def test_frames_that_are_no_pictures(opencv: Any) -> None:
    opencv([[np.zeros((6, 8, 2), np.uint8)]])
    with raises(BadInput, "TP7014", "uint8", "(6, 8, 2)"):
        answered(CAMERA)


def test_a_camera_that_disappears_is_opened_again(opencv: Any, caplog: pytest.LogCaptureFixture) -> None:
    journal = opencv([frames(2), None, [], frames(3)], pace=0.005)
    with caplog.at_level(logging.WARNING), raises(RunFailed, "TP7013", "camera", "0.3"):
        answered(CAMERA, patience=0.3)
    assert journal.count("open") == journal.count("release") > 4
    assert "camera returns no frames: opening it again in 0.01 s" in caplog.text
    assert "opening it again in 0.02 s" in caplog.text


def test_answers_go_on_after_the_camera_is_back(opencv: Any) -> None:
    opencv([frames(2), None, frames(300)], pace=0.005)
    lines, _ = answered(CAMERA, frames=6, patience=5.0)
    numbers = [line["frame"] for line in lines]
    assert numbers == sorted(numbers)
    assert numbers[-1] >= 5


def test_a_driver_that_hangs_is_given_up(opencv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opencv([frames(1)], pace=1.0)
    monkeypatch.setattr(video, "_GRACE_SECONDS", 0.0)
    begun = time.monotonic()
    with raises(RunFailed, "TP7013"):
        answered(Source(Kind.CAMERA, "videotestsrc ! appsink", "", gstreamer=True), patience=0.1)
    assert time.monotonic() - begun < 5
