"""A slot: host and device memory, a stream, and a lane for each batch size, for one batch at a time.

Two slots work in parallel: one copies while the other computes. They share only the engine.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import NoReturn

import numpy as np

from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME
from trtpoets.device.gpu.cuda import CudaSession, CudaStream
from trtpoets.device.gpu.prepared_calls import PreparedCalls
from trtpoets.device.runners.trt_batches import BatchRun, PendingPiece
from trtpoets.device.runners.trt_lanes import Capturable, Lane, Sizes
from trtpoets.device.tensorrt_session import TensorRtSession

LANES = 16
"""Most lanes (and so CUDA graphs) of a slot; the least recently used one is dropped. Lanes share memory."""

_IN_A_ROW = 4
"""A batch size that occurs more often than this in a row gets its own lane; before, it is padded to a power of two."""

_MAX_RUNS_BEFORE_CAPTURE = 64
"""Most runs of a lane before it is captured as a graph."""


class Slot:
    """Memory for the engine's largest batch, a stream, and lanes. Create and use it inside the session's `current()`.

    `work` is the batch in progress, `lending` a weak reference to the rows that were lent to a caller. `ready` maps
    shapes of photos to batch runs that need no preparation.
    """

    def __init__(
        self,
        cuda: CudaSession,
        stream: CudaStream,
        session: TensorRtSession,
        photo: tuple[int, int, int],
        labels: int,
        graphs: Capturable,
        *,
        mapped: bool,
    ) -> None:
        self.stream = stream
        self.calls: PreparedCalls = cuda.calls()
        self.wait = self.calls.waiter(stream.stream)
        self.mapped = mapped
        self.work: PendingPiece | None = None
        self.ready: dict[tuple[int, ...], BatchRun] = {}
        self._cuda, self._session, self._graphs = cuda, session, graphs
        self._sizes = Sizes(session.batch)
        self._shape, self._labels = photo, labels
        largest = session.batch.maximum
        self.photos = cuda.pinned((largest, *photo), np.uint8, mapped=mapped)
        self.photos[:] = 0
        self.scores = cuda.pinned((largest, labels), np.float32, mapped=mapped)
        both = (self.photos, self.scores)
        self.photos_address, self.scores_address = (
            cuda.device_address(array) if mapped else cuda.device_memory(array.nbytes) for array in both
        )
        self._memory = cuda.device_memory(max(session.memory_bytes, 1)) if session.shares_memory else 0
        self._only = None if session.shares_memory else session.new_context()
        self._lanes: OrderedDict[tuple[int, bool], Lane] = OrderedDict()
        self._marks: list[int] = []
        self.lending: weakref.ref[np.ndarray] | None = None
        self._last, self._repeated = 0, 0
        self._runs_before_capture = 1
        self._lane(largest, False)

    @property
    def lent(self) -> bool:
        """Whether a caller may be writing to `photos`: rows were lent and not yet submitted."""
        if self.lending is not None and self.lending() is None:
            self.lending = None
        return self.lending is not None

    @property
    def free(self) -> bool:
        """Whether no batch is in progress and no rows are lent."""
        return self.work is None and not self.lent

    @property
    def idle(self) -> bool:
        """Whether no batch is in progress and no rows were lent (unlike `free`, also none that the caller dropped)."""
        return self.work is None and self.lending is None

    def lend(self, count: int) -> np.ndarray:
        """The first `count` rows of `photos` for a caller to write to; lent as long as the caller keeps the array."""
        rows = self.photos[:count]
        self.lending = weakref.ref(rows)
        return rows

    def take_back(self) -> None:
        """End the loan: the rows were submitted."""
        self.lending = None

    def holds(self, photos: np.ndarray) -> bool:
        """Whether `photos` are the first rows of this slot's memory."""
        if photos.base is not self.photos or not photos.flags.c_contiguous:
            return False
        return bool(photos.__array_interface__["data"] == self.photos.__array_interface__["data"])

    def prepare(self, count: int) -> BatchRun:
        """The batch run for `count` photos. No batch may be in progress. Raises RunFailed, BadArtefact."""
        size = self._size(count)
        lane = self._lane(size, False)
        batch_run = BatchRun(self, lane, count)
        if size == count and (lane.captured or not self._captures):
            self.ready[batch_run.photos.shape] = batch_run
        return batch_run

    def prepare_timed(self, count: int) -> BatchRun:
        """The batch run for `timed`, whose graph contains only the inference, so that events can be put around it."""
        return BatchRun(self, self._lane(self._size(count), True), count)

    def marks(self) -> list[int]:
        """The four CUDA events of `timed`."""
        if not self._marks:
            self._marks = [self.stream.event() for _ in range(4)]
        return self._marks

    def fail(self, error: BaseException) -> NoReturn:
        """Wait for queued work, which uses the slot's memory; then raise `error`, a CUDA error as RunFailed."""
        self.stream.drain()
        failure = self._cuda.as_run_failed(error)
        if failure is error:
            raise error
        raise failure from error

    def close(self) -> None:
        """Free the graphs. The session frees everything else."""
        self.ready.clear()
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()

    @property
    def _captures(self) -> bool:
        return self._graphs.whole or self._graphs.computing

    def _size(self, count: int) -> int:
        """The batch size to run: `count` itself if it occurred often in a row, else padded."""
        self._repeated = self._repeated + 1 if count == self._last else 1
        self._last = count
        least = self._sizes.batch.minimum
        if count >= least and (self._repeated > _IN_A_ROW or (count, False) in self._lanes):
            return count
        return self._sizes.padded(count)

    def _lane(self, size: int, timed: bool) -> Lane:
        """The lane of a size, ready to run. With a single context, the lane is created again when the size changes."""
        key = (size, timed and self._only is None)
        lane = self._lanes.get(key)
        if lane is None:
            return self._new_lane(key)
        self._lanes.move_to_end(key)
        if not lane.captured and self._captures and lane.runs >= self._runs_before_capture:
            lane.capture(self._graphs)
        return lane

    def _new_lane(self, key: tuple[int, bool]) -> Lane:
        while len(self._lanes) >= (LANES if self._only is None else 1):
            self._drop(next(iter(self._lanes)))
        size, timed = key
        context = self._only or self._session.new_context(self._memory)
        try:
            context.set_shape((size, *self._shape), (size, self._labels))
            context.bind(INPUT_NAME, self.photos_address)
            context.bind(OUTPUT_NAME, self.scores_address)
        except BaseException:
            if self._only is None:
                self._session.drop(context)
            raise
        # A graph contains the state of its context, so a context can't have two graphs.
        lane = self._lanes[key] = Lane(self, size, context, whole=self._only is None and not timed)
        return lane

    def _drop(self, key: tuple[int, bool]) -> None:
        self.ready.pop((key[0], *self._shape), None)
        lane = self._lanes.pop(key)
        paid = lane.close()
        if paid is not None:
            self._runs_before_capture = 1 if paid else min(2 * self._runs_before_capture, _MAX_RUNS_BEFORE_CAPTURE)
        if self._only is None:
            self._session.drop(lane.context)


def bytes_of_another(session: TensorRtSession, photo: tuple[int, int, int], labels: int) -> int:
    """Estimated GPU memory of another slot in bytes."""
    largest = session.batch.maximum
    return session.memory_bytes + largest * (int(np.prod(photo)) + 4 * labels)
