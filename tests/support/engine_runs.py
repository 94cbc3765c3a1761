"""Engines that have run, for tests of what they do next."""

from __future__ import annotations

from tests.fakes.gpu import FakeGpu
from tests.support.tiny import tiny_photos
from trtpoets.device.runners.trt import TensorRtRunner


def warmed(gpu: FakeGpu, runner: TensorRtRunner, count: int = 4) -> None:
    """Both slots made, and their graphs captured; nothing in the journal."""
    for _ in range(3):
        for ticket in [runner.submit(tiny_photos(count)) for _ in range(2)]:
            runner.collect(ticket)
    gpu.journal.clear()
