"""The `classify` command: photos, folders, videos and cameras; dropped frames and errors."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.fakes.board_bundle import PYTHONS, Board, paper_bundle
from tests.support.photos import make_photo
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import BadInput, MissingDependency, RunFailed
from trtpoets.core.serialization import to_json
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.onboard.classify import video
from trtpoets.onboard.classify.classify_command import ClassifyConfig, Count, Line, classify
from trtpoets.onboard.classify.latest_value_queue import LatestValueQueue
from trtpoets.onboard.classify.sources import Kind, Source, photos_in, source_of


def answered(
    *sources: Source, stop: threading.Event | None = None, runner: FakeRunner | None = None, **config: Any
) -> tuple[list[Mapping[str, Any]], Count]:
    lines: list[Mapping[str, Any]] = []
    with runner or FakeRunner(tiny_spec()) as entered:
        count = classify(
            entered,
            sources,
            ClassifyConfig(**config),
            lambda line: lines.append(to_json(line)),
            stop or threading.Event(),
        )
    return lines, count


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for number in range(5):
        make_photo(number % 3, number).save(folder / f"{number}.jpg")
    make_photo(1, 9).save(folder / "b" / "deep.png")
    (folder / "2.jpg").write_bytes(b"no photo at all")
    (folder / "b" / "notes.txt").write_text("neither")
    (folder / ".hidden.jpg").write_bytes(b"left alone")
    return folder


# Photos


def test_a_folder_with_things_that_are_no_photos(photos: Path) -> None:
    lines, count = answered(source_of(str(photos)), top=2, batch=2)
    names = [str(Path(line["photo"]).relative_to(photos)) for line in lines]
    assert names == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "b/deep.png", "b/notes.txt"]
    assert [name for name, line in zip(names, lines, strict=True) if "error" in line] == ["2.jpg", "b/notes.txt"]
    assert "is not a photo that can be read" in lines[2]["error"]
    assert (count.answered, count.failed) == (5, 2)
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
    assert (count.answered, count.failed) == (5, 4)


def test_a_threshold(photos: Path) -> None:
    lines, _ = answered(source_of(str(photos / "0.jpg")), top=3)
    highest = lines[0]["scores"][0]
    lines, _ = answered(source_of(str(photos / "0.jpg")), top=3, threshold=highest)
    assert lines[0]["scores"] == [highest]
    lines, _ = answered(source_of(str(photos / "0.jpg")), top=3, threshold=1.0)
    assert (lines[0]["labels"], lines[0]["scores"]) == ([], [])


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


def test_stopping_in_the_middle_of_a_folder(photos: Path) -> None:
    stop = threading.Event()
    lines: list[Any] = []

    def tell(line: Line) -> None:
        lines.append(line)
        stop.set()

    with FakeRunner(tiny_spec()) as runner:
        count = classify(runner, [source_of(str(photos))] * 2, ClassifyConfig(), tell, stop)
    assert (len(lines), count.answered) == (1, 1)


@pytest.mark.parametrize("change", [{"top": 0}, {"batch": 0}, {"frames": -1}, {"threshold": 2.0}, {"patience": 0.0}])
def test_numbers_that_make_no_sense(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        ClassifyConfig(**change)
    assert caught.value.hint


# Sources


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
        with pytest.raises(BadInput, match="there is no photo, folder, video or camera"):
            source_of(word)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="is not a file, folder or camera"):
        source_of(str(tmp_path / "pipe"))


# The mailbox


def test_the_newest_value_replaces_an_untaken_one() -> None:
    box: LatestValueQueue[int] = LatestValueQueue()
    for number in range(10):
        box.put(number)
    assert (box.take(0.0), box.dropped) == (9, 9)
    assert box.take(0.0) is None
    box.put(10)
    box.close(ValueError("the end"))
    assert (box.closed, box.take(0.0), box.closed) == (False, 10, True)
    with pytest.raises(ValueError, match="the end"):
        box.take(0.0)


def test_put_and_wait_loses_nothing() -> None:
    box: LatestValueQueue[int] = LatestValueQueue()
    sender = threading.Thread(target=lambda: [box.put_and_wait(number) for number in range(50)] and box.close())
    sender.start()
    got = []
    while not box.closed:
        thing = box.take(1.0)
        if thing is not None:
            got.append(thing)
    sender.join()
    assert (got, box.dropped) == (list(range(50)), 0)
    box = LatestValueQueue()
    box.put(1)
    box.close()
    assert box.put_and_wait(2) is False


# Cameras


class Capture:
    """OpenCV's VideoCapture of a script: lists of frames, one for each time that it is opened; None does not open."""

    def __init__(self, script: list[Any], pace: float, journal: list[str]) -> None:
        self._frames = script.pop(0) if script else None
        self._pace, self._journal = pace, journal
        self._journal.append("open")

    def isOpened(self) -> bool:
        return self._frames is not None

    def read(self) -> tuple[bool, Any]:
        time.sleep(self._pace)
        if not self._frames:
            return False, None
        frame = self._frames.pop(0)
        if isinstance(frame, Exception):
            raise frame
        return True, frame

    def release(self) -> None:
        self._journal.append("release")


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`opencv(script, pace)`: from now on cv2 plays a script; returns the journal."""
    journal: list[str] = []

    def play(script: list[Any], pace: float = 0.0) -> list[str]:
        module = SimpleNamespace(
            CAP_ANY=0, CAP_GSTREAMER=1800, VideoCapture=lambda opened, how: Capture(script, pace, journal)
        )
        monkeypatch.setattr(video, "load_opencv", lambda: module)
        return journal

    monkeypatch.setattr(video, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(video, "_GRACE_SECONDS", 0.2)
    yield play
    # The thread that reads has ended, or is told to and hangs in the driver.
    assert not [thread for thread in threading.enumerate() if thread.name == "frames" and not thread.daemon]


def frames(count: int, colour: int = 0) -> list[np.ndarray]:
    made = [np.zeros((6, 8, 3), np.uint8) for _ in range(count)]
    for frame in made:
        frame[..., colour] = 200
    return made


CAMERA = Source(Kind.CAMERA, "camera", 0)


def test_a_camera_that_is_faster_than_the_engine_loses_frames(opencv: Any) -> None:
    opencv([frames(200)], pace=0.002)
    lines, count = answered(CAMERA, runner=FakeRunner(tiny_spec(), delay_seconds=0.02), frames=5)
    assert (len(lines), count.answered) == (5, 5)
    numbers = [line["frame"] for line in lines]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] > 10
    assert lines[-1]["dropped"] >= numbers[-1] - len(lines)
    assert all(line["ms"] >= 20 and line["source"] == "camera" for line in lines)
    # What waits is one frame at most: no answer is much older than two inferences.
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
    with pytest.raises(BadInput, match=r"BGR or BGRA, not uint8 \(6, 8, 2\)"):
        answered(CAMERA)


def test_a_camera_that_disappears_is_opened_again(opencv: Any, caplog: pytest.LogCaptureFixture) -> None:
    journal = opencv([frames(2), None, [], frames(3)], pace=0.005)
    with caplog.at_level(logging.WARNING), pytest.raises(RunFailed, match=r"camera returned no frame for 0\.3 s"):
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
    with pytest.raises(RunFailed, match="returned no frame"):
        answered(Source(Kind.CAMERA, "videotestsrc ! appsink", "", gstreamer=True), patience=0.1)
    assert time.monotonic() - begun < 5


def test_what_the_driver_raises_is_not_swallowed(opencv: Any) -> None:
    opencv([[ValueError("a bug of a driver")]])
    with pytest.raises(ValueError, match="a bug of a driver"):
        answered(CAMERA)


def test_a_camera_ends_when_it_is_told_to(opencv: Any) -> None:
    opencv([frames(10_000)], pace=0.001)
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    lines, _ = answered(CAMERA, stop=stop)
    assert lines


def test_of_a_video_every_frame_is_answered(opencv: Any) -> None:
    opencv([frames(20)])
    slow = FakeRunner(tiny_spec(), delay_seconds=0.002)
    lines, count = answered(Source(Kind.VIDEO, "a.mp4", "a.mp4"), runner=slow)
    assert [line["frame"] for line in lines] == list(range(20))
    assert count.dropped == 0
    opencv([[]])
    with pytest.raises(BadInput, match=r"OpenCV can't read a frame from a\.mp4"):
        answered(Source(Kind.VIDEO, "a.mp4", "a.mp4"))


def test_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingDependency, match="a camera or a video file needs cv2") as caught:
        answered(CAMERA)
    assert caught.value.hint == "sudo apt install -y python3-opencv"


# The program


@pytest.mark.parametrize("python", PYTHONS)
def test_the_program(python: str, built: Path, tmp_path: Path, photos: Path) -> None:
    board = Board(tmp_path, python)
    if python == sys.executable:  # as `built`, which is built once
        bundle = Path(shutil.copytree(built, tmp_path / "tiny-jetson"))
    else:
        bundle = paper_bundle(tmp_path / "tiny-jetson")
        assert board.run(bundle, "build").returncode == 0
    result = board.run(bundle, "classify", str(photos), "--top", "2")
    assert result.returncode == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 7
    assert sum("error" in line for line in lines) == 2
    assert {line["runner"] for line in lines if "runner" in line} == {"tensorrt-int8"}
    assert result.stderr.endswith("5 answered, 2 could not be\n")
    good = board.run(bundle, "classify", str(photos / "0.jpg"))
    assert (good.returncode, good.stderr) == (0, "1 answered\n")
    assert board.run(bundle, "classify", "no-such-thing").returncode == 1
    # A reader that goes away is no accident worth a traceback.
    gone = subprocess.Popen(
        [bundle / "classify", *[str(photos)] * 40], env=board.variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert gone.stdout is not None
    assert gone.stderr is not None
    gone.stdout.readline()
    gone.stdout.close()
    said = gone.stderr.read().decode()
    gone.stderr.close()
    assert (gone.wait(60), said) == (141, "")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with its engine, for tests to copy."""
    folder = tmp_path_factory.mktemp("built")
    bundle = paper_bundle(folder / "tiny-jetson")
    assert Board(folder).run(bundle, "build").returncode == 0
    return bundle


def watching(built: Path, tmp_path: Path, **options: Any) -> subprocess.Popen[str]:
    """`classify camera`, with a camera that never ends: OpenCV of paper beside the TensorRT of paper."""
    board, bundle = Board(tmp_path), Path(shutil.copytree(built, tmp_path / "tiny-jetson"))
    (tmp_path / "site" / "cv2.py").write_text(
        "import time\nimport numpy\nCAP_ANY = CAP_GSTREAMER = 0\n\n\nclass VideoCapture:\n"
        "    def __init__(self, opened, how):\n        pass\n\n"
        "    def isOpened(self):\n        return True\n\n"
        "    def read(self):\n        time.sleep(0.01)\n        return True, numpy.zeros((6, 8, 3), numpy.uint8)\n\n"
        "    def release(self):\n        pass\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([bundle / "classify", "camera"], env=board.variables, **pipes, **options)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (signal.SIGTERM, 0),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_it_cleanly(built: Path, tmp_path: Path, ends: signal.Signals, code: int) -> None:
    with watching(built, tmp_path) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert json.loads(running.stdout.readline())["source"] == "camera"
        running.send_signal(ends)
        rest = running.stdout.read()
        assert running.wait(30) == code
        assert all(json.loads(line) for line in rest.splitlines())
        said = running.stderr.read()
        assert " answered" in said  # the frame under way was answered, and the engine freed
        assert ("finished results are kept" in said) == bool(code)
        assert "Traceback" not in said


def test_ctrl_c_does_not_end_it_in_a_shells_background(built: Path, tmp_path: Path) -> None:
    with watching(built, tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["source"] == "camera"
        running.send_signal(signal.SIGINT)
        for _ in range(20):
            assert json.loads(running.stdout.readline())["source"] == "camera"
        running.send_signal(signal.SIGTERM)
        running.stdout.read()
        assert running.wait(30) == 0
