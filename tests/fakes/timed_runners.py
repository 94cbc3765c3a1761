"""A clock that tests advance, and a runner whose batches take time by it."""

from __future__ import annotations

import numpy as np

from tests.support.tiny import tiny_spec
from trtpoets.device.runners.base import Ticket
from trtpoets.device.runners.fake import FakeRunner


class Time:
    """A clock that advances with `sleep` and with the work of a runner."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        self.now += 1e-6
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-5)


class Overlapping(FakeRunner):
    """Has two batches under way. Each takes `work_seconds` after its submission and after the end of the one before."""

    slots = 2

    def __init__(self, time: Time, work_seconds: float) -> None:
        super().__init__(tiny_spec())
        self.time, self.work_seconds, self.done_at = time, work_seconds, 0.0
        self.under_way: list[tuple[Ticket, float]] = []
        self.most = 0

    def submit(self, photos: np.ndarray) -> Ticket:
        self.done_at = max(self.done_at, self.time.now) + self.work_seconds
        self.under_way.append((super().submit(photos), self.done_at))
        self.most = max(self.most, len(self.under_way))
        return self.under_way[-1][0]

    def collect(self, ticket: Ticket) -> np.ndarray:
        first, done_at = self.under_way.pop(0)
        assert first is ticket, "the first is collected first"
        self.time.now = max(self.time.now, done_at)
        return super().collect(ticket)
