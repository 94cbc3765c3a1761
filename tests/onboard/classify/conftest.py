"""Photos and a fake OpenCV."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.cameras import Capture
from tests.support.photos import make_photo
from trtpoets.onboard.classify import video


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


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return `opencv(script, pace)`, which replaces cv2 by a fake that plays the script, and returns its journal."""
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
    # The reading thread has ended, or it is a daemon thread that hangs in the driver.
    assert not [thread for thread in threading.enumerate() if thread.name == "frames" and not thread.daemon]
