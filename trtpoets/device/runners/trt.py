"""Engines on the GPU, of TensorRT and TensorRT-RTX alike."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Callable

import numpy as np

from trtpoets.core.authenticity import require_trusted
from trtpoets.core.errors import BadArtefact, MissingArtefact, RunFailed
from trtpoets.core.reading import read_bytes
from trtpoets.core.runner_id import engine_runner
from trtpoets.core.spec import INPUT_NAME, OUTPUT_NAME, Engine, EngineCard
from trtpoets.device.cuda import CudaSession
from trtpoets.device.engine_card import build_command, check_fits
from trtpoets.device.libcuda import Graph
from trtpoets.device.runners.base import Timing, check_photos, check_scores, not_entered
from trtpoets.device.runtime_cache import RuntimeCache
from trtpoets.device.tensorrt_api import TensorRt, load_tensorrt
from trtpoets.device.tensorrt_session import TensorRtSession

log = logging.getLogger(__name__)


_PAYS = 4
"""A graph that was replayed fewer times than this cost more than it saved: making one takes a few plain enqueues."""

_PATIENCE = 64
"""The most plain runs of one size before it is captured, however often sizes have changed too soon."""


class TensorRtRunner:
    """Runs an engine. Batches above the engine's largest go in pieces, those below its smallest are filled up.

    The second batch of one size in a row is captured as a CUDA graph, and later ones replay it; a change of size frees
    the graph, since what it has baked in is no longer true. Where sizes change so often that graphs don't pay, more
    batches of one size are awaited. `graphs=False` never captures. Threads take turns.
    """

    def __init__(self, engine: Engine, *, graphs: bool = True) -> None:
        self.identity = engine_runner(engine.card, engine.card.precision)
        self.name = self.identity.name
        self.spec = engine.card.spec
        self._engine = engine
        self._graphs = graphs
        self._lock = threading.Lock()
        self._room: _Room | None = None
        self._stack = ExitStack()

    def __enter__(self) -> TensorRtRunner:
        """Check the card, load the engine, allocate.

        Raises MissingDependency, MissingArtefact, BadArtefact, or RunFailed where the engine can't run.
        """
        path, card = self._engine.path, self._engine.card
        require_trusted(path, self._engine.foreign)
        library = load_tensorrt(card.flavour)
        plan = _read_plan(path, card)
        with ExitStack() as stack:
            cuda = stack.enter_context(CudaSession())
            check_fits(card, library, cuda.gpu(), path)
            room = stack.enter_context(_Room(cuda, library, plan, self._engine, self._graphs))
            self._stack = stack.pop_all()
        self._room = room
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._room = None
            try:
                self._stack.__exit__(kind, error, trace)
            except RunFailed as failed:
                if error is None:
                    raise
                # What broke inside is the one to tell.
                log.warning("the GPU's memory may not all be free: %s", failed.message)

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
        return self._infer(photos, None)

    def infer_timed(self, photos: np.ndarray) -> tuple[np.ndarray, Timing]:
        """`infer`, and where the time went, summed over the pieces of the batch."""
        pieces: list[Timing] = []
        scores = self._infer(photos, pieces)
        return scores, Timing(
            sum(piece.h2d_ms for piece in pieces),
            sum(piece.compute_ms for piece in pieces),
            sum(piece.d2h_ms for piece in pieces),
            sum(piece.enqueue_ms for piece in pieces),
            pieces[0].graph if len({piece.graph for piece in pieces}) == 1 else False,
        )

    def _infer(self, photos: np.ndarray, timings: list[Timing] | None) -> np.ndarray:
        with self._lock:
            room = self._room
            if room is None:
                raise not_entered(self.name)
            check_photos(photos, self.spec)
            count = len(photos)
            scores = np.empty((count, len(self.spec.labels)), np.float32)
            with room.cuda.current():
                try:
                    for start in range(0, count, room.largest):
                        end = min(start + room.largest, count)
                        room.run(photos[start:end], scores[start:end], timings)
                except BaseException:
                    room.cuda.drain()  # what is queued reads our memory, which the next batch overwrites
                    raise
        return check_scores(scores, count, self.spec, self.name)


class _Room:
    """What an entered runner holds: the engine, memory for its largest batch, and the graph of the last size."""

    def __init__(self, cuda: CudaSession, library: TensorRt, plan: bytes, engine: Engine, graphs: bool) -> None:
        self.cuda = cuda
        self._library = library
        self._plan = plan
        self._card, self._vouched = engine.card, engine.vouched
        self._cache = RuntimeCache(engine.path, library, cuda.gpu())
        self._graphs = graphs
        self._events: list[int] = []
        self._graph: Graph | None = None
        self._size = self._runs = self._captured_at = 0
        self._patience = 1

    def __enter__(self) -> _Room:
        with self.cuda.current():
            self._session = TensorRtSession(
                self._library,
                self._plan,
                self._cache.read(),
                graphs=self._graphs,
                host_code=self._card.version_compatible,
                dla_core=self._card.dla_core,
            )
            try:
                self._allocate()
            except BaseException:
                self._session.close()
                raise
        self._plan = b""  # TensorRT has its own copy
        return self

    def _allocate(self) -> None:
        session, cuda = self._session, self.cuda
        batch, preprocess = session.batch, self._card.spec.preprocess
        if self._vouched and batch != self._card.batch:
            raise BadArtefact(f"the engine takes {batch}, its card says {self._card.batch}", hint="build it again")
        self.smallest, self.largest = batch.minimum, batch.maximum
        self._photo_shape = (preprocess.height, preprocess.width, 3)
        self._capturing = self._graphs and not session.captures_itself
        self._photos = cuda.pinned((self.largest, *self._photo_shape), np.uint8)
        self._photos[:] = 0
        self._scores = cuda.pinned((self.largest, len(self._card.spec.labels)), np.float32)
        self._photos_address = cuda.device_memory(self._photos.nbytes)
        self._scores_address = cuda.device_memory(self._scores.nbytes)
        self._events = [cuda.event() for _ in range(4)]
        self._stream = cuda.stream
        self._resize(self.largest)
        session.bind(INPUT_NAME, self._photos_address)
        session.bind(OUTPUT_NAME, self._scores_address)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self.cuda.current():
                try:
                    self._drop_graph()
                    if kind is None:
                        self._cache.write(self._session.runtime_cache())
                finally:
                    self._session.close()
        finally:
            self._session.close()  # where the GPU is so broken that its context can't be made current

    def run(self, photos: np.ndarray, scores: np.ndarray, timings: list[Timing] | None) -> None:
        """Run one piece that fits: photos (n, H, W, 3) into scores (n, C). Returns once the scores are there.

        One copy to the GPU, one back, nothing allocated. Where `timings` is a list, the events' times are added to it.
        """
        count = len(photos)
        size = max(count, self.smallest)
        if size != self._size:
            self._resize(size)
        elif self._capturing and self._graph is None and self._runs >= self._patience:
            self._capture()
        # Rows beyond `count` hold old photos; their scores are not looked at.
        self._photos[:count] = photos
        cuda, timed = self.cuda, timings is not None
        if timed:
            cuda.mark(self._events[0])
        cuda.upload(self._photos_address, self._sent)
        if timed:
            cuda.mark(self._events[1])
        begun = time.perf_counter()
        self._enqueue(self._stream)
        enqueued = time.perf_counter()
        if timed:
            cuda.mark(self._events[2])
        cuda.download(self._received, self._scores_address)
        if timed:
            cuda.mark(self._events[3])
        cuda.synchronize()
        scores[:] = self._scores[:count]
        self._runs += 1
        if timings is not None:
            timings.append(self._timing(1000 * (enqueued - begun)))

    def _timing(self, enqueue_ms: float) -> Timing:
        h2d, compute, d2h = (self.cuda.milliseconds(self._events[i], self._events[i + 1]) for i in range(3))
        graph = None if self._session.captures_itself else self._graph is not None
        return Timing(h2d, compute, d2h, enqueue_ms, graph)

    def _resize(self, size: int) -> None:
        self._drop_graph()
        self._size = 0  # whatever fails now, the shape has to be set again
        self._session.set_shape((size, *self._photo_shape), (size, len(self._card.spec.labels)))
        self._sent, self._received = self._photos[:size], self._scores[:size]
        self._enqueue: Callable[[int], None] = self._session.enqueue
        self._size, self._runs = size, 0

    def _capture(self) -> None:
        """Capture the enqueue. This size has run before, so TensorRT has done its set-up and only the work is left."""
        self._graph = self.cuda.capture(lambda: self._session.enqueue(self._stream))
        if self._graph is None:
            self._capturing = False
            return
        self._enqueue = self._graph.launch
        self._captured_at = self._runs

    def _drop_graph(self) -> None:
        if self._graph is None:
            return
        self._graph.close()
        self._graph = None
        paid = self._runs - self._captured_at >= _PAYS
        self._patience = 1 if paid else min(2 * self._patience, _PATIENCE)


def _read_plan(path: Path, card: EngineCard) -> bytes:
    if not path.is_file():
        raise MissingArtefact(f"{path} is not there", hint=build_command(path))
    plan = read_bytes(path)
    if hashlib.sha256(plan).hexdigest() != card.engine_sha256:
        raise BadArtefact(
            f"{path} is not the engine that its card describes: the file was changed or damaged",
            hint=build_command(path),
        )
    return plan
