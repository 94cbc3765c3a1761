"""A slot: what one batch needs while it is under way. Memory on both sides, a stream, and a lane for each batch size.

Two slots overlap: one copies while the other computes. Nothing is shared between them but the engine.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import NoReturn

import numpy as np

from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME
from trtpoets.device.gpu.cuda import CudaSession, CudaStream
from trtpoets.device.gpu.prepared_calls import HotCalls
from trtpoets.device.runners.trt_batches import Flight, Shot
from trtpoets.device.runners.trt_lanes import Graphs, Lane, Sizes
from trtpoets.device.tensorrt_session import TensorRtSession

LANES = 16
"""The most lanes of a slot, and so its graphs: those used last are kept. A lane costs little: they share memory."""

_IN_A_ROW = 4
"""A batch size that comes more often in a row gets a lane of its own; before, it is padded to the next power of two."""

_PATIENCE = 64
"""The most plain runs of a lane before it is captured, however often graphs did not pay."""


class Slot:
    """Memory for the engine's largest batch, a stream, and lanes. Made and changed inside the session's `current()`.

    `work` is what is under way in it, `lending` what was lent of it, which may be dropped already. `ready` are the
    shots that need nothing but `run`, by the shape of their photos.
    """

    def __init__(
        self,
        cuda: CudaSession,
        stream: CudaStream,
        session: TensorRtSession,
        photo: tuple[int, int, int],
        labels: int,
        graphs: Graphs,
        *,
        mapped: bool,
    ) -> None:
        self.stream = stream
        self.calls: HotCalls = cuda.calls()
        self.wait = self.calls.waiter(stream.stream)
        self.mapped = mapped
        self.work: Flight | None = None
        self.ready: dict[tuple[int, ...], Shot] = {}
        self._cuda, self._session, self._graphs = cuda, session, graphs
        self._sizes = Sizes(session.batch)
        self._shape, self._labels = photo, labels
        largest = session.batch.maximum
        self.photos = cuda.pinned((largest, *photo), np.uint8, mapped=mapped)
        self.photos[:] = 0
        self.scores = cuda.pinned((largest, labels), np.float32, mapped=mapped)
        both = (self.photos, self.scores)
        self.photos_address, self.scores_address = (
            cuda.device_address(each) if mapped else cuda.device_memory(each.nbytes) for each in both
        )
        self._memory = cuda.device_memory(max(session.memory_bytes, 1)) if session.shares_memory else 0
        self._only = None if session.shares_memory else session.new_context()
        self._lanes: OrderedDict[tuple[int, bool], Lane] = OrderedDict()
        self._marks: list[int] = []
        self.lending: weakref.ref[np.ndarray] | None = None
        self._last, self._repeated = 0, 0
        self._patience = 1
        self._lane(largest, False)

    @property
    def lent(self) -> bool:
        """Whether somebody is writing into `photos`, who was given them and has not handed them in."""
        if self.lending is not None and self.lending() is None:
            self.lending = None
        return self.lending is not None

    @property
    def free(self) -> bool:
        """Whether nothing is under way, and nobody writes."""
        return self.work is None and not self.lent

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and nothing was lent: `free` may still be true of what was lent."""
        return self.work is None and self.lending is None

    def lend(self, count: int) -> np.ndarray:
        """The first `count` rows of `photos`, to be written into: lent for as long as the array is kept."""
        rows = self.photos[:count]
        self.lending = weakref.ref(rows)
        return rows

    def take_back(self) -> None:
        """What was lent is handed in."""
        self.lending = None

    def holds(self, photos: np.ndarray) -> bool:
        """Whether photos lie in this slot already, row by row from its first."""
        if photos.base is not self.photos or not photos.flags.c_contiguous:
            return False
        return bool(photos.__array_interface__["data"] == self.photos.__array_interface__["data"])

    def prepare(self, count: int) -> Shot:
        """What runs `count` photos. Nothing may be under way here. Raises RunFailed, BadArtefact."""
        size = self._size(count)
        lane = self._lane(size, False)
        shot = Shot(self, lane, count)
        if size == count and (lane.captured or not self._captures):
            self.ready[shot.photos.shape] = shot
        return shot

    def prepare_timed(self, count: int) -> Shot:
        """The same for `timed`: with a graph of the computing alone, so that events can be put around it."""
        return Shot(self, self._lane(self._size(count), True), count)

    def marks(self) -> list[int]:
        """The four events of `timed`."""
        if not self._marks:
            self._marks = [self.stream.event() for _ in range(4)]
        return self._marks

    def fail(self, error: BaseException) -> NoReturn:
        """Wait for what is queued, which reads our memory; then raise `error`, in our words where it is CUDA's."""
        self.stream.drain()
        told = self._cuda.told(error)
        if told is error:
            raise error
        raise told from error

    def close(self) -> None:
        """Free the graphs. The session frees the rest."""
        self.ready.clear()
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()

    @property
    def _captures(self) -> bool:
        return self._graphs.whole or self._graphs.computing

    def _size(self, count: int) -> int:
        """The size to run a batch with: its own once it has come often in a row, else padded."""
        self._repeated = self._repeated + 1 if count == self._last else 1
        self._last = count
        least = self._sizes.batch.minimum
        if count >= least and (self._repeated > _IN_A_ROW or (count, False) in self._lanes):
            return count
        return self._sizes.padded(count)

    def _lane(self, size: int, timed: bool) -> Lane:
        """The lane of a size, ready to run. Where there is one context, its lane is made anew when the size changes."""
        key = (size, timed and self._only is None)
        lane = self._lanes.get(key)
        if lane is None:
            return self._new_lane(key)
        self._lanes.move_to_end(key)
        if not lane.captured and self._captures and lane.runs >= self._patience:
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
        # A graph holds the state of its context: one each, so no graph of the whole beside one of the computing.
        lane = self._lanes[key] = Lane(self, size, context, whole=self._only is None and not timed)
        return lane

    def _drop(self, key: tuple[int, bool]) -> None:
        self.ready.pop((key[0], *self._shape), None)
        lane = self._lanes.pop(key)
        paid = lane.close()
        if paid is not None:
            self._patience = 1 if paid else min(2 * self._patience, _PATIENCE)
        if self._only is None:
            self._session.drop(lane.context)


def bytes_of_another(session: TensorRtSession, photo: tuple[int, int, int], labels: int) -> int:
    """The memory of the GPU that one more slot takes, as far as is known before."""
    largest = session.batch.maximum
    return session.memory_bytes + largest * (int(np.prod(photo)) + 4 * labels)
