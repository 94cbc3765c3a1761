"""Reads frames of cameras and video files with OpenCV in a separate thread."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Iterator

import numpy as np

from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.optional import needs
from trtpoets.onboard.classify.latest_value_queue import LatestValueQueue
from trtpoets.onboard.classify.sources import Kind, Source

log = logging.getLogger(__name__)

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0
"""Seconds before a lost camera is opened again: doubled each time up to the longest."""

_GRACE_SECONDS = 10.0
"""Extra seconds for an open camera without frames, because its driver may also wait for it."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: its number from 0, its pixels as uint8 (H, W, 3) in RGB, and its reading time (monotonic seconds)."""

    number: int
    pixels: np.ndarray
    read_at: float


def load_opencv() -> Any:
    """Import OpenCV. Raises MissingDependency with the command that installs it."""
    with needs("", reason="a camera or a video file", hint="sudo apt install -y python3-opencv"):
        import cv2
    return cv2


class Frames:
    """The frames of a camera or video file.

    For a camera, only the newest frame is kept, and frames that were not taken in time are dropped. A camera that
    disconnects is opened again until `patience` seconds have passed without a frame; then RunFailed is raised. For a
    video file, every frame is returned in order.
    """

    def __init__(self, source: Source, patience: float) -> None:
        self._cv2 = load_opencv()
        self._source, self._patience = source, patience
        self._queue: LatestValueQueue[Frame] = LatestValueQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="frames", daemon=True)

    def __enter__(self) -> Frames:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._queue.close()
        self._thread.join(1.0)  # a driver that hangs keeps its thread, which ends with the program

    @property
    def dropped(self) -> int:
        """The number of dropped frames."""
        return self._queue.dropped

    def until(self, stop: threading.Event) -> Iterator[Frame]:
        """Yield frames until there are no more, or `stop` is set. Raises RunFailed, BadInput."""
        taken_at = time.monotonic()
        while not stop.is_set():
            frame = self._queue.take(0.1)
            if frame is not None:
                yield frame
                taken_at = time.monotonic()
            elif self._queue.closed:
                return
            elif time.monotonic() - taken_at > self._patience + _GRACE_SECONDS:
                raise self._gone()

    def _read(self) -> None:
        try:
            if self._source.kind is Kind.VIDEO:
                self._read_file()
            else:
                self._read_camera()
        except Exception as error:  # noqa: BLE001 - raised in the thread that takes frames
            self._queue.close(error)
        finally:
            self._queue.close()

    def _read_file(self) -> None:
        empty = True
        for frame in self._frames(0):
            empty = False
            if not self._queue.put_and_wait(frame):
                return
        if empty:
            raise BadInput(
                f"OpenCV can't read a frame from {self._source.name}", hint="try to play it: ffplay FILE", code="TP7012"
            )

    def _read_camera(self) -> None:
        number, wait, seen_at = 0, _FIRST_WAIT, time.monotonic()
        while not self._stop.is_set():
            for frame in self._frames(number):
                self._queue.put(frame)
                number, wait, seen_at = frame.number + 1, _FIRST_WAIT, time.monotonic()
            if self._stop.is_set():
                return
            if time.monotonic() - seen_at + wait > self._patience:
                raise self._gone()
            log.warning("%s returns no frames: opening it again in %g s", self._source.name, wait)
            self._stop.wait(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _frames(self, number: int) -> Iterator[Frame]:
        """Open the source and yield its frames, numbered from `number`."""
        cv2, source = self._cv2, self._source
        capture = cv2.VideoCapture(source.opened, cv2.CAP_GSTREAMER if source.gstreamer else cv2.CAP_ANY)
        try:
            while capture.isOpened() and not self._stop.is_set():
                has_frame, pixels = capture.read()
                if not has_frame:
                    return
                yield Frame(number, _rgb(pixels), time.monotonic())
                number += 1
        finally:
            capture.release()

    def _gone(self) -> RunFailed:
        what = "has OpenCV GStreamer? python3 -c 'import cv2; print(cv2.getBuildInformation())'"
        return RunFailed(
            f"{self._source.name} returned no frame for {self._patience:g} s",
            hint=what if self._source.gstreamer else "check that it is connected: v4l2-ctl --list-devices",
            code="TP7013",
        )


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """Convert a frame of OpenCV (BGR, BGRA or grey) to RGB. Raises BadInput for any other."""
    if pixels.dtype == np.uint8 and pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        return np.ascontiguousarray(pixels[:, :, 2::-1])
    raise BadInput(
        f"frames must be uint8 grey, BGR or BGRA, not {pixels.dtype} {pixels.shape}",
        hint="end the pipeline with video/x-raw,format=BGR",
        code="TP7014",
    )
