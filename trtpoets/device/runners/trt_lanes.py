"""A lane: one batch size in one slot, queued call by call or replayed as a CUDA graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from trtpoets.core.types import BatchRange
from trtpoets.device.gpu.libcuda import Graph
from trtpoets.device.tensorrt_session import EngineContext

if TYPE_CHECKING:
    from trtpoets.device.runners.trt_slots import Slot

_PAYS = 4
"""A graph that was replayed fewer times than this cost more than it saved: making one takes a few plain enqueues."""


@dataclass
class Graphs:
    """What may still be captured: the whole batch with its copies, and the computing alone. What failed is not tried
    again, in any slot."""

    whole: bool
    computing: bool


@dataclass(frozen=True)
class Sizes:
    """The batch sizes that an engine takes, and those of them that batches are padded to."""

    batch: BatchRange

    def padded(self, count: int) -> int:
        """The smallest size to run `count` photos with: a power of two, or the engine's own smallest, best, largest."""
        power = 1 << (count - 1).bit_length()
        own = (self.batch.minimum, self.batch.optimum, self.batch.maximum)
        return min(size for size in (power, *own) if count <= size and self.batch.minimum <= size <= self.batch.maximum)


class Lane:
    """One batch size in one slot: an execution context of that shape, and the graph that replays it.

    `queue` queues a batch on the slot's stream, copies included: 0, or the driver's error code. It raises what TensorRT
    and pycuda raise.
    """

    def __init__(self, slot: Slot, size: int, context: EngineContext, *, whole: bool) -> None:
        self.size = size
        self.context = context
        self.runs = 0
        self._slot = slot
        self._whole = whole and not slot.mapped
        self._photos, self._scores = slot.photos[:size], slot.scores[:size]
        self._stream = slot.stream.stream
        self._graph: Graph | None = None
        self._captured_at = 0
        self._launch: Callable[[], int] | None = None
        self.queue: Callable[[], int] = self._queue

    @property
    def captured(self) -> bool:
        """Whether a graph is replayed."""
        return self._graph is not None

    def copy_in(self) -> None:
        """Queue the copy of the photos, where the GPU has memory of its own."""
        if not self._slot.mapped:
            self._slot.stream.upload(self._slot.photos_address, self._photos)

    def compute(self) -> int:
        """Queue the computing, by a graph of it where there is one."""
        if self._launch is not None:
            return self._launch()
        self.context.enqueue(self._stream)
        return 0

    def copy_out(self) -> None:
        """Queue the copy of the scores."""
        if not self._slot.mapped:
            self._slot.stream.download(self._scores, self._slot.scores_address)

    def _queue(self) -> int:
        self.copy_in()
        code = self.compute()
        self.copy_out()
        return code

    def capture(self, graphs: Graphs) -> None:
        """Capture this lane: the whole batch, or else the computing alone, or nothing; each is told.

        It has run before, so TensorRT has done its set-up and only the work is left (NvInferRuntime.h, enqueueV3).
        """
        stream = self._slot.stream
        if self._whole and graphs.whole:
            self._graph = stream.capture(self._queue_all, instead="with a CUDA graph of the computing alone")
            graphs.whole = self._graph is not None
        if self._graph is None and graphs.computing:
            self._whole = False
            self._graph = stream.capture(self._enqueue)
            graphs.computing = self._graph is not None
        if self._graph is None:
            return
        launch = self._graph.launcher(self._stream)
        if self._whole or self._slot.mapped:
            self.queue = launch
        else:
            self._launch = launch
        self._captured_at = self.runs

    def _queue_all(self) -> None:
        self._queue()

    def _enqueue(self) -> None:
        self.context.enqueue(self._stream)

    def close(self) -> bool | None:
        """Free the graph; whether it paid, None where there was none."""
        if self._graph is None:
            return None
        self._graph.close()
        self._graph = self._launch = None
        return self.runs - self._captured_at >= _PAYS
