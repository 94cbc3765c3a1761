"""Cameras and their frames, and what `classify` answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.support.tiny import tiny_spec
from trtpoets.core.serialization import to_json
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.onboard.classify.classify_command import ClassifyConfig, Count, classify
from trtpoets.onboard.classify.sources import Kind, Source


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


def frames(count: int, colour: int = 0) -> list[np.ndarray]:
    zeros = [np.zeros((6, 8, 3), np.uint8) for _ in range(count)]
    for frame in zeros:
        frame[..., colour] = 200
    return zeros


CAMERA = Source(Kind.CAMERA, "camera", 0)
