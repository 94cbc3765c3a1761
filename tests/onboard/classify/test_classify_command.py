"""The `classify` command: photos, folders, videos and cameras; dropped frames and errors."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.board_bundle import PYTHONS, Board, paper_bundle
from tests.support.cameras import CAMERA, answered, frames
from tests.support.errors import raises
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import BadInput, MissingDependency
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.onboard.classify.classify_command import ClassifyConfig, Line, classify
from trtpoets.onboard.classify.sources import source_of

# Photos


def test_a_threshold(photos: Path) -> None:
    lines, _ = answered(source_of(str(photos / "0.jpg")), top=3)
    highest = lines[0]["scores"][0]
    lines, _ = answered(source_of(str(photos / "0.jpg")), top=3, threshold=highest)
    assert lines[0]["scores"] == [highest]
    lines, _ = answered(source_of(str(photos / "0.jpg")), top=3, threshold=1.0)
    assert (lines[0]["labels"], lines[0]["scores"]) == ([], [])


def test_stopping_in_the_middle_of_a_folder(photos: Path) -> None:
    stop = threading.Event()
    lines: list[Any] = []

    def tell(line: Line) -> None:
        lines.append(line)
        stop.set()

    with FakeRunner(tiny_spec()) as runner:
        count = classify(runner, [source_of(str(photos))] * 2, ClassifyConfig(), tell, stop)
    assert (len(lines), count.classified) == (1, 1)


@pytest.mark.parametrize("change", [{"top": 0}, {"batch": 0}, {"frames": -1}, {"threshold": 2.0}, {"patience": 0.0}])
def test_invalid_numbers_are_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        ClassifyConfig(**change)
    assert caught.value.hint


# Cameras


def test_an_exception_of_the_driver_is_raised(opencv: Any) -> None:
    opencv([[ValueError("a bug of a driver")]])
    with pytest.raises(ValueError, match="a bug of a driver"):
        answered(CAMERA)


def test_the_stop_event_ends_a_camera(opencv: Any) -> None:
    opencv([frames(10_000)], pace=0.001)
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    lines, _ = answered(CAMERA, stop=stop)
    assert lines


def test_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with raises(MissingDependency, "TP1050", "cv2") as caught:
        answered(CAMERA)
    assert caught.value.hint == "sudo apt install -y python3-opencv"


# The program


@pytest.mark.parametrize("python", PYTHONS)
def test_the_program(python: str, built: Path, tmp_path: Path, photos: Path) -> None:
    board = Board(tmp_path, python)
    if python == sys.executable:  # the fixture `built` was built with this Python
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
    assert result.stderr.endswith("5 classified, 2 could not be\n")
    good = board.run(bundle, "classify", str(photos / "0.jpg"))
    assert (good.returncode, good.stderr) == (0, "1 classified\n")
    assert board.run(bundle, "classify", "no-such-thing").returncode == 1
    # A closed pipe ends the program without a traceback.
    gone = subprocess.Popen(
        [bundle / "classify", *[str(photos)] * 40], env=board.variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert gone.stdout is not None
    assert gone.stderr is not None
    gone.stdout.readline()
    gone.stdout.close()
    text = gone.stderr.read().decode()
    gone.stderr.close()
    assert (gone.wait(60), text) == (141, "")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with its engine, for tests to copy."""
    folder = tmp_path_factory.mktemp("built")
    bundle = paper_bundle(folder / "tiny-jetson")
    assert Board(folder).run(bundle, "build").returncode == 0
    return bundle


def watching(built: Path, tmp_path: Path, **options: Any) -> subprocess.Popen[str]:
    """Start `classify camera` with a fake OpenCV, whose camera never ends, and the fake TensorRT."""
    board, bundle = Board(tmp_path), Path(shutil.copytree(built, tmp_path / "tiny-jetson"))
    (tmp_path / "site" / "cv2.py").write_text(
        "import time\nimport numpy\nCAP_ANY = CAP_GSTREAMER = 0\n\n\nclass VideoCapture:\n"
        "    def __init__(self, opened, how):\n        pass\n\n"
        "    def isOpened(self):\n        return True\n\n"
        "    def read(self):\n        time.sleep(0.01)\n        return True, numpy.zeros((6, 8, 3), numpy.uint8)\n\n"
        "    def release(self):\n        pass\n"
    )
    return subprocess.Popen(
        [bundle / "classify", "camera"],
        env=board.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


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
        content = running.stderr.read()
        assert " classified" in content  # the current frame was classified, and the engine freed
        assert ("finished results are kept" in content) == bool(code)
        assert "Traceback" not in content


def test_ctrl_c_does_not_end_a_background_job(built: Path, tmp_path: Path) -> None:
    with watching(built, tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["source"] == "camera"
        running.send_signal(signal.SIGINT)
        for _ in range(20):
            assert json.loads(running.stdout.readline())["source"] == "camera"
        running.send_signal(signal.SIGTERM)
        running.stdout.read()
        assert running.wait(30) == 0
