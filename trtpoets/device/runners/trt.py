"""Engines on the GPU, of TensorRT and TensorRT-RTX alike."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from trtpoets.core.errors import BadArtefact, MissingArtefact, StorageFailed
from trtpoets.core.files import atomic_file
from trtpoets.core.spec import INPUT_NAME, OUTPUT_NAME, Engine, EngineCard
from trtpoets.device.cuda import CudaSession
from trtpoets.device.engine_card import build_command, check_fits
from trtpoets.device.libcuda import Graph
from trtpoets.device.runners.base import check_photos, check_scores, not_entered
from trtpoets.device.tensorrt_api import TensorRt, load_tensorrt
from trtpoets.device.tensorrt_session import TensorRtSession

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one batch: copies and computing on the GPU's clock, queueing on the host's."""

    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    enqueue_ms: float


class TensorRtRunner:
    """Runs an engine. Batches above the engine's largest go in pieces, those below its smallest are filled up.

    The second batch of one size in a row is captured as a CUDA graph, and later ones replay it. A change of size frees
    the graph: what it has baked in is no longer true.
    """

    def __init__(self, engine: Engine) -> None:
        self.name = f"{engine.card.flavour.value}-{engine.card.precision.value}"
        self.spec = engine.card.spec
        self._path = engine.path
        self._card = engine.card
        self._lock = threading.Lock()
        self._room: _Room | None = None
        self._stack = ExitStack()

    def __enter__(self) -> TensorRtRunner:
        """Check the card, load the engine, allocate.

        Raises MissingDependency, MissingArtefact, BadArtefact, or RunFailed where the engine can't run.
        """
        library = load_tensorrt(self._card.flavour)
        plan = _read_plan(self._path, self._card)
        with ExitStack() as stack:
            cuda = stack.enter_context(CudaSession())
            check_fits(self._card, library, cuda.gpu(), self._path)
            self._room = stack.enter_context(_Room(cuda, library, plan, self._card, self._path))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._room = None
        self._stack.__exit__(kind, error, trace)

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
        return self._infer(photos, [])

    def infer_timed(self, photos: np.ndarray) -> tuple[np.ndarray, Timing]:
        """`infer`, and where the time went, summed over the pieces of the batch."""
        timings: list[Timing] = []
        scores = self._infer(photos, timings, timed=True)
        return scores, Timing(
            sum(t.h2d_ms for t in timings),
            sum(t.compute_ms for t in timings),
            sum(t.d2h_ms for t in timings),
            sum(t.enqueue_ms for t in timings),
        )

    def _infer(self, photos: np.ndarray, timings: list[Timing], timed: bool = False) -> np.ndarray:
        room = self._room
        if room is None:
            raise not_entered(self.name)
        check_photos(photos, self.spec)
        scores = np.empty((len(photos), len(self.spec.labels)), np.float32)
        with self._lock, room.cuda.current():
            for start in range(0, len(photos), room.largest):
                piece = photos[start : start + room.largest]
                timing = room.run(piece, scores[start : start + len(piece)], timed)
                if timing is not None:
                    timings.append(timing)
        return check_scores(scores, len(photos), self.spec, self.name)


class _Room:
    """What an entered runner holds: the engine, memory for its largest batch, and the graph of the last size."""

    def __init__(self, cuda: CudaSession, library: TensorRt, plan: bytes, card: EngineCard, path: Path) -> None:
        self.cuda = cuda
        self._card = card
        self._path = path
        self._cache_file = path.with_name(path.name + ".runtime-cache")
        cache = self._cache_file.read_bytes() if self._cache_file.is_file() else None
        self._cached = hashlib.sha256(cache or b"").digest()
        self._session = TensorRtSession(library, plan, cache)
        self._graph: Graph | None = None
        self._size = 0
        self._runs = 0
        self._capturing = not self._session.captures_itself

    def __enter__(self) -> _Room:
        try:
            with self.cuda.current():
                self._allocate()
        except BaseException:
            self._session.close()
            raise
        return self

    def _allocate(self) -> None:
        batch, preprocess = self._session.batch, self._card.spec.preprocess
        if batch != self._card.batch:
            raise BadArtefact(f"the engine takes {batch}, its card says {self._card.batch}", hint="build it again")
        self.smallest, self.largest = batch.minimum, batch.maximum
        self._photo_shape = (preprocess.height, preprocess.width, 3)
        classes = len(self._card.spec.labels)
        cuda = self.cuda
        self._photos = cuda.pinned((self.largest, *self._photo_shape), np.uint8)
        self._photos[:] = 0
        self._scores = cuda.pinned((self.largest, classes), np.float32)
        self._photos_address = cuda.device_memory(self._photos.nbytes)
        self._scores_address = cuda.device_memory(self._scores.nbytes)
        self._session.bind(INPUT_NAME, self._photos_address)
        self._session.bind(OUTPUT_NAME, self._scores_address)
        self._events = [cuda.event() for _ in range(4)]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cuda.drain()
        self._drop_graph()
        try:
            if kind is None:
                self._save_cache()
        finally:
            self._events = []
            self._session.close()

    def run(self, photos: np.ndarray, scores: np.ndarray, timed: bool) -> Timing | None:
        """Run one piece that fits: photos (n, H, W, 3) into scores (n, C). Returns once the scores are there."""
        count = len(photos)
        size = max(count, self.smallest)
        self._set_size(size)
        # Rows beyond `count` hold old photos; their scores are not looked at.
        self._photos[:count] = photos
        events = self._events if timed else []
        self._mark(events, 0)
        self.cuda.upload(self._photos_address, self._photos[:size])
        self._mark(events, 1)
        begun = time.perf_counter()
        self._enqueue()
        enqueue_ms = 1000 * (time.perf_counter() - begun)
        self._mark(events, 2)
        self.cuda.download(self._scores[:size], self._scores_address)
        self._mark(events, 3)
        self.cuda.synchronize()
        scores[:] = self._scores[:count]
        self._runs += 1
        if not timed:
            return None
        h2d, compute, d2h = (self.cuda.milliseconds(events[i], events[i + 1]) for i in range(3))
        return Timing(h2d, compute, d2h, enqueue_ms)

    def _set_size(self, size: int) -> None:
        if size == self._size:
            if self._runs == 1 and self._capturing:
                # This size has run once, so TensorRT has done its set-up and the capture holds only the work.
                self._graph = self.cuda.capture(lambda: self._session.enqueue(self.cuda.stream))
                self._capturing = self._graph is not None
            return
        self._drop_graph()
        self._session.set_shape((size, *self._photo_shape), (size, len(self._card.spec.labels)))
        self._size, self._runs = size, 0

    def _enqueue(self) -> None:
        if self._graph is not None:
            self._graph.launch(self.cuda.stream)
        else:
            self._session.enqueue(self.cuda.stream)

    def _mark(self, events: list[Any], index: int) -> None:
        if events:
            self.cuda.mark(events[index])

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _save_cache(self) -> None:
        cache = self._session.runtime_cache()
        if cache is None or hashlib.sha256(cache).digest() == self._cached:
            return
        try:
            with atomic_file(self._cache_file) as part:
                part.write_bytes(cache)
        except (StorageFailed, OSError) as error:
            log.warning("the kernels compiled for %s could not be kept for next time: %s", self._path.name, error)


def _read_plan(path: Path, card: EngineCard) -> bytes:
    if not path.is_file():
        raise MissingArtefact(f"{path} is not there", hint=build_command(path))
    plan = path.read_bytes()
    if hashlib.sha256(plan).hexdigest() != card.engine_sha256:
        raise BadArtefact(
            f"{path} is not the engine that its card vouches for: the file was changed or damaged",
            hint=build_command(path),
        )
    return plan
