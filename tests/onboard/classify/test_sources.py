"""Folders, pipes, cameras and videos as sources of photos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.cameras import answered, frames
from tests.support.errors import raises
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import BadInput
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.onboard.classify.sources import Kind, Source, photos_in, source_of


def test_a_folder_with_things_that_are_no_photos(photos: Path) -> None:
    lines, count = answered(source_of(str(photos)), top=2, batch=2)
    names = [str(Path(line["photo"]).relative_to(photos)) for line in lines]
    assert names == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "b/deep.png", "b/notes.txt"]
    assert [name for name, line in zip(names, lines, strict=True) if "error" in line] == ["2.jpg", "b/notes.txt"]
    assert "is not a photo that can be read" in lines[2]["error"]
    assert (count.classified, count.failed) == (5, 2)
    first = lines[0]
    assert (first["runner"], len(first["labels"]), len(first["scores"])) == ("fake", 2, 2)
    assert first["scores"] == sorted(first["scores"], reverse=True)
    one, _ = answered(source_of(str(photos / "0.jpg")), top=2)
    assert one == [first]


def test_a_pipe_in_a_folder_is_not_waited_for(photos: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    (problem,) = [problem for path, problem in photos_in(photos) if path.name == "pipe.jpg"]
    assert problem is not None
    assert problem.message == f"{photos / 'pipe.jpg'} is not a regular file"
    (photos / "gone.jpg").symlink_to("/nowhere")
    lines, count = answered(source_of(str(photos)), top=1)
    assert [line["error"].split(" can't")[0] for line in lines if "gone.jpg" in line["photo"]] == [
        str(photos / "gone.jpg")
    ]
    assert (count.classified, count.failed) == (5, 4)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_may_not_be_read(photos: Path) -> None:
    (photos / "b").chmod(0)
    lines, _ = answered(source_of(str(photos)))
    (photos / "b").chmod(0o755)
    assert "can't be read: Permission denied" in lines[-1]["error"]


def test_a_folder_that_goes_away(tmp_path: Path) -> None:
    ((path, problem),) = photos_in(tmp_path / "gone")
    assert path == tmp_path / "gone"
    assert problem is not None
    assert "can't be read: No such file" in problem.message


def test_sources(photos: Path, tmp_path: Path) -> None:
    assert source_of("camera") == Source(Kind.CAMERA, "camera", 0)
    assert source_of("camera:3").opened == 3
    csi = source_of("csi:1")
    elements = str(csi.opened).split(" ! ")
    assert elements[:3] == [
        "nvarguscamerasrc sensor-id=1",
        "video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1,format=NV12",
        "nvvidconv",
    ]
    assert elements[3] == "video/x-raw,width=1280,height=720,format=BGRx"
    assert elements[-1].startswith("appsink")
    assert csi.gstreamer
    assert source_of("/dev/null").kind is Kind.CAMERA
    assert source_of("rtsp://10.0.0.1/live") == Source(Kind.CAMERA, "rtsp://10.0.0.1/live", "rtsp://10.0.0.1/live")
    assert source_of("videotestsrc ! appsink").gstreamer
    assert source_of(str(photos)).kind is Kind.FOLDER
    assert source_of(str(photos / "0.jpg")).kind is Kind.PHOTO
    heads = {
        "a.mp4": b"\0\0\0\x20ftypisom",
        "a.mkv": b"\x1aE\xdf\xa3rest",
        "a.avi": b"RIFF\0\0\0\0AVI LIST",
    }
    for name, head in heads.items():
        (tmp_path / name).write_bytes(head)
        assert source_of(str(tmp_path / name)).kind is Kind.VIDEO, name
    for name, head in {"a.heic": b"\0\0\0\x18ftypheic", "a.webp": b"RIFF\0\0\0\0WEBPVP8 "}.items():
        (tmp_path / name).write_bytes(head)
        assert source_of(str(tmp_path / name)).kind is Kind.PHOTO, name
    for word in ("no-such-thing", "a\0b"):
        with raises(BadInput, "TP7008"):
            source_of(word)
    os.mkfifo(tmp_path / "pipe")
    with raises(BadInput, "TP7009"):
        source_of(str(tmp_path / "pipe"))


def test_of_a_video_every_frame_is_answered(opencv: Any) -> None:
    opencv([frames(20)])
    slow = FakeRunner(tiny_spec(), delay_seconds=0.002)
    lines, count = answered(Source(Kind.VIDEO, "a.mp4", "a.mp4"), runner=slow)
    assert [line["frame"] for line in lines] == list(range(20))
    assert count.dropped == 0
    opencv([[]])
    with raises(BadInput, "TP7012", "a.mp4"):
        answered(Source(Kind.VIDEO, "a.mp4", "a.mp4"))
