"""Runs one batch through a lane of a slot."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

import numpy as np

from trtpoets.device.runners.base import Ticket, Timing
from trtpoets.device.runners.trt_lanes import Lane

if TYPE_CHECKING:
    from trtpoets.device.runners.trt_slots import Slot


class BatchRun:
    """Runs a batch of `count` photos in a lane: by `start` and `finish`, or by `run`, the fast path for both."""

    __slots__ = ("_calls", "_lane", "_memory", "_pop", "_push", "_wait", "photos", "scores", "slot")

    def __init__(self, slot: Slot, lane: Lane, count: int) -> None:
        self.slot, self._lane = slot, lane
        self._calls, self._wait = slot.calls, slot.wait
        self._push, self._pop = slot.calls.push, slot.calls.pop
        self._memory = slot.photos
        # Rows beyond `count` contain old photos; their scores are ignored.
        self.photos, self.scores = slot.photos[:count], slot.scores[:count]

    def run(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (n, H, W, 3) -> float32 (n, C), a new array and the only allocation. Raises RunFailed."""
        if photos.base is not self._memory or not self.slot.holds(photos):
            self.photos[...] = photos
        code = self._push()
        if code:
            raise self._calls.failed("cuCtxPushCurrent", code)
        try:
            code = self._lane.queue() or self._wait()
        except BaseException as error:  # noqa: BLE001 - raised again
            self.slot.fail(error)
        finally:
            self._pop()
        if code:
            raise self._calls.failed("running a batch", code)
        self._lane.runs += 1
        scores: np.ndarray = self.scores.copy()
        return scores

    def start(self, photos: np.ndarray) -> None:
        """Queue a batch without waiting. Photos in the slot's own memory are not copied. Raises RunFailed."""
        if not self.slot.holds(photos):
            self.photos[...] = photos
        self._within("queueing a batch", self._lane.queue)
        self._lane.runs += 1

    def finish(self) -> None:
        """Wait until `scores` are computed. Raises RunFailed."""
        self._within("cuStreamSynchronize", self._wait)

    def _within(self, call: str, work: Callable[[], int]) -> None:
        code = self._push()
        if code:
            raise self._calls.failed("cuCtxPushCurrent", code)
        try:
            code = work()
        except BaseException as error:  # noqa: BLE001 - raised again
            self.slot.fail(error)
        finally:
            self._pop()
        if code:
            raise self._calls.failed(call, code)

    def timed(self, photos: np.ndarray) -> Timing:
        """Run the batch with CUDA events around copies and inference. Use inside the session's `current()`.

        The batch first runs once untimed: while the GPU is busy with that, the host queues the timed run, so that no
        event waits for the host. Otherwise the event after the copy would occur before the inference is queued, and the
        time of the host would count as inference.
        """
        if not self.slot.holds(photos):
            self.photos[...] = photos
        lane, stream, marks = self._lane, self.slot.stream, self.slot.marks()
        try:
            lane.copy_in()
            first = lane.compute()
            lane.copy_out()
            stream.mark(marks[0])
            lane.copy_in()
            stream.mark(marks[1])
            started = time.perf_counter()
            code = first or lane.compute()
            enqueued = time.perf_counter()
            stream.mark(marks[2])
            lane.copy_out()
            stream.mark(marks[3])
            stream.synchronize()
        except BaseException:
            stream.drain()
            raise
        if code:
            raise self._calls.failed("cuGraphLaunch", code)
        lane.runs += 1
        h2d, compute, d2h = (stream.milliseconds(marks[i], marks[i + 1]) for i in range(3))
        return Timing(h2d, compute, d2h, 1000 * (enqueued - started), lane.captured)


@dataclass
class PendingPiece:
    """A piece of a ticket's batch in progress: `number` is its order, `scores` receives its result."""

    number: int
    ticket: Ticket
    batch_run: BatchRun
    scores: np.ndarray
