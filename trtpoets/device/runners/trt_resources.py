"""The resources of an entered TensorRT runner: the engine and its slots, and the choice of a slot for each batch."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from trtpoets.core.errors import BadArtefact, RunFailed
from trtpoets.core.types import Engine
from trtpoets.device.gpu.cuda import CudaSession
from trtpoets.device.runners.base import Ticket, Timing
from trtpoets.device.runners.trt_batches import PendingPiece
from trtpoets.device.runners.trt_lanes import Capturable
from trtpoets.device.runners.trt_slots import Slot, bytes_of_another
from trtpoets.device.runtime_cache import RuntimeCache
from trtpoets.device.tensorrt_api import TensorRt
from trtpoets.device.tensorrt_session import TensorRtSession

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrtOptions:
    """Whether CUDA graphs are captured, the maximum of slots, and zero-copy (None: if GPU and CPU share memory)."""

    graphs: bool
    slots: int
    zero_copy: bool | None


class TrtResources:
    """The engine and its slots, as a context manager. Not thread-safe: the caller holds a lock.

    `most` is the maximum of batches in progress. `ready` maps shapes of photos to the batch runs of the first slot.
    """

    def __init__(self, cuda: CudaSession, library: TensorRt, plan: bytes, engine: Engine, options: TrtOptions) -> None:
        self.cuda = cuda
        self._library = library
        self._plan = plan
        self._card, self._has_card = engine.card, engine.has_card
        self._cache = RuntimeCache(engine.path, library, cuda.gpu())
        self._options = options
        preprocess = engine.card.spec.preprocess
        self._photo = (preprocess.height, preprocess.width, 3)
        self._labels = len(engine.card.spec.labels)
        self._slots: list[Slot] = []
        self._started = 0
        self.most = 1

    def __enter__(self) -> TrtResources:
        card, options = self._card, self._options
        with self.cuda.current():
            self._session = TensorRtSession(
                self._library,
                self._plan,
                self._cache.read(),
                graphs=options.graphs,
                host_code=card.version_compatible,
                dla_core=card.dla_core,
            )
            try:
                self._set_up()
            except BaseException:
                self._leave()
                raise
        self._plan = b""  # TensorRT has its own copy
        return self

    def _set_up(self) -> None:
        session, card, options = self._session, self._card, self._options
        if self._has_card and session.batch != card.batch:
            raise BadArtefact(
                f"the engine has the batch range {session.batch}, but its card has {card.batch}",
                hint="build it again",
                code="TP4096",
            )
        self.largest = session.batch.maximum
        captures = options.graphs and not session.captures_itself
        self._graphs = Capturable(whole=captures, computing=captures)
        if options.zero_copy is None:
            # Whether a DLA can reach mapped memory is not documented.
            self._mapped = card.dla_core is None and self.cuda.maps_memory
        else:
            self._mapped = options.zero_copy
        self.ready = self._add(first=True).ready
        if session.several_contexts and card.dla_core is None:
            self.most = options.slots

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self.cuda.current():
                try:
                    for slot in self._slots:
                        slot.stream.drain()
                    if kind is None:
                        self._cache.write(self._session.runtime_cache())
                finally:
                    self._leave()
        finally:
            self._session.close()  # needed if the context is broken and can't be made current

    def _leave(self) -> None:
        for slot in self._slots:
            slot.close()
        self._slots.clear()
        self._session.close()

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C). Raises RunFailed."""
        ticket = self.submit(photos)
        self.wait_for(ticket)
        return ticket.take(self, "the engine")

    def submit(self, photos: np.ndarray) -> Ticket:
        """Queue a batch, in pieces if it is larger than the engine's maximum. Raises RunFailed."""
        count = len(photos)
        ticket = Ticket(self, np.empty((count, self._labels), np.float32))
        assert ticket.scores is not None
        try:
            for start in range(0, count, self.largest):
                piece = photos[start : start + self.largest] if count > self.largest else photos
                slot = self._slot_for(piece)
                batch_run = slot.ready.get(piece.shape)
                if batch_run is None:
                    with self.cuda.current():
                        batch_run = slot.prepare(len(piece))
                batch_run.start(piece)
                slot.take_back()
                self._started += 1
                slot.work = PendingPiece(self._started, ticket, batch_run, ticket.scores[start : start + len(piece)])
                ticket.pending += 1
        except BaseException:
            self.wait_for(ticket)
            raise
        return ticket

    def wait_for(self, ticket: Ticket) -> None:
        """Finish the pieces of a ticket that are in progress. An error is stored in the ticket."""
        if ticket.pending and ticket.owner is self:
            for slot in self._slots:
                if slot.work is not None and slot.work.ticket is ticket:
                    _finish(slot)

    def infer_timed(self, photos: np.ndarray) -> tuple[np.ndarray, list[Timing]]:
        """The scores float32 (N, C), and the timing of each piece. Raises RunFailed."""
        scores = np.empty((len(photos), self._labels), np.float32)
        timings = []
        for start in range(0, len(photos), self.largest):
            piece = photos[start : start + self.largest] if len(photos) > self.largest else photos
            slot = self._slot_for(piece)
            with self.cuda.current():
                batch_run = slot.prepare_timed(len(piece))
                timing = batch_run.timed(piece)
            slot.take_back()
            scores[start : start + len(piece)] = batch_run.scores
            if self._session.captures_itself:
                timing = Timing(timing.h2d_ms, timing.compute_ms, timing.d2h_ms, timing.enqueue_ms, None)
            timings.append(timing)
        return scores, timings

    def lend(self, count: int) -> np.ndarray | None:
        """Rows of a slot for a caller to write to; None if there is only one slot or all slots are lent."""
        if count > self.largest or self.most == 1 or sum(slot.lent for slot in self._slots) >= self.most:
            return None
        slot = self._free() or self._another() or self._finished()
        return None if slot is None else slot.lend(count)

    def _slot_for(self, photos: np.ndarray) -> Slot:
        """The slot that contains the photos, else a free one, else the one with the oldest batch after it finished."""
        own = next((slot for slot in self._slots if slot.work is None and slot.holds(photos)), None)
        return own or self._free() or self._another() or self._finished() or self._add_spare()

    def _free(self) -> Slot | None:
        return next((slot for slot in self._slots if slot.free), None)

    def _finished(self) -> Slot | None:
        """The slot with the oldest batch, after waiting for that batch."""
        busy = [slot for slot in self._slots if slot.work is not None]
        if not busy:
            return None
        slot = min(busy, key=lambda candidate: candidate.work.number if candidate.work else 0)
        _finish(slot)
        return slot

    def _another(self) -> Slot | None:
        """Another slot if the maximum is not reached and there is enough memory, else None."""
        if len(self._slots) >= self.most:
            return None
        needed = bytes_of_another(self._session, self._photo, self._labels)
        try:
            with self.cuda.current():
                free = self.cuda.free_memory()
                if needed <= free // 2:
                    return self._add()
            reason = f"another slot needs {needed >> 20} MiB, more than half of the free {free >> 20} MiB of GPU memory"
        except RunFailed as error:
            reason = error.message
        log.warning("the runner uses only %d slots: %s", len(self._slots), reason)
        self.most = len(self._slots)
        return None

    def _add_spare(self) -> Slot:
        """An additional slot if all others are lent, because lent memory can't be used for other photos."""
        with self.cuda.current():
            return self._add()

    def _add(self, *, first: bool = False) -> Slot:
        stream = self.cuda if first else self.cuda.another_stream()
        slot = Slot(self.cuda, stream, self._session, self._photo, self._labels, self._graphs, mapped=self._mapped)
        self._slots.append(slot)
        return slot


def _finish(slot: Slot) -> None:
    piece, slot.work = slot.work, None
    assert piece is not None
    try:
        piece.batch_run.finish()
        piece.scores[...] = piece.batch_run.scores
    except RunFailed as error:
        piece.ticket.error = error
    except BaseException:
        piece.ticket.error = RunFailed("waiting for this batch was interrupted", hint="submit it again", code="TP4097")
        raise
    finally:
        piece.ticket.pending -= 1
