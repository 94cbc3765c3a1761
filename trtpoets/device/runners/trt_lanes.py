"""A lane: an execution context for one batch size in one slot, run by separate calls or as a CUDA graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from trtpoets.core.types import BatchRange
from trtpoets.device.gpu.libcuda import CudaGraph
from trtpoets.device.tensorrt_session import EngineContext

if TYPE_CHECKING:
    from trtpoets.device.runners.trt_slots import Slot

_MIN_REPLAYS = 4
"""Replays from which a graph saves time: capturing it takes as long as a few enqueues."""


@dataclass
class Capturable:
    """What can be captured: the `whole` batch with its copies, and the `computing` alone. False after a failed try, for
    all slots."""

    whole: bool
    computing: bool


@dataclass(frozen=True)
class Sizes:
    """The batch range of an engine, and the sizes to which batches are padded."""

    batch: BatchRange

    def padded(self, count: int) -> int:
        """The smallest size for `count` photos: a power of two, or the engine's minimum, optimum or maximum."""
        power = 1 << (count - 1).bit_length()
        own = (self.batch.minimum, self.batch.optimum, self.batch.maximum)
        return min(size for size in (power, *own) if count <= size and self.batch.minimum <= size <= self.batch.maximum)


class Lane:
    """An execution context for one batch size in one slot, and its CUDA graph.

    `queue` queues a batch with its copies on the slot's stream and returns the driver's code (0: success). It raises
    the exceptions of TensorRT and pycuda.
    """

    def __init__(self, slot: Slot, size: int, context: EngineContext, *, whole: bool) -> None:
        self.size = size
        self.context = context
        self.runs = 0
        self._slot = slot
        self._whole = whole and not slot.mapped
        self._photos, self._scores = slot.photos[:size], slot.scores[:size]
        self._stream = slot.stream.stream
        self._graph: CudaGraph | None = None
        self._captured_at = 0
        self._launch: Callable[[], int] | None = None
        self.queue: Callable[[], int] = self._queue

    @property
    def captured(self) -> bool:
        """Whether the lane has a CUDA graph."""
        return self._graph is not None

    def copy_in(self) -> None:
        """Queue the copy of the photos to the GPU, unless the memory is mapped."""
        if not self._slot.mapped:
            self._slot.stream.upload(self._slot.photos_address, self._photos)

    def compute(self) -> int:
        """Queue the inference, by its CUDA graph if there is one."""
        if self._launch is not None:
            return self._launch()
        self.context.enqueue(self._stream)
        return 0

    def copy_out(self) -> None:
        """Queue the copy of the scores to the host, unless the memory is mapped."""
        if not self._slot.mapped:
            self._slot.stream.download(self._scores, self._slot.scores_address)

    def _queue(self) -> int:
        self.copy_in()
        code = self.compute()
        self.copy_out()
        return code

    def capture(self, graphs: Capturable) -> None:
        """Capture the whole batch, or only the inference if that fails, or nothing; failures are logged.

        The lane must have run before, so that TensorRT has finished its set-up (NvInferRuntime.h, enqueueV3).
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
        """Free the graph. Returns whether it was replayed often enough to save time; None if there was none."""
        if self._graph is None:
            return None
        self._graph.close()
        self._graph = self._launch = None
        return self.runs - self._captured_at >= _MIN_REPLAYS
