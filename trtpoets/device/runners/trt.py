"""Engines on the GPU, of TensorRT and TensorRT-RTX alike."""

from __future__ import annotations

import hashlib
import logging
import threading
from contextlib import ExitStack
from math import isfinite
from pathlib import Path
from types import TracebackType

import numpy as np

from trtpoets.core.authenticity import require_trusted
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact, RunFailed
from trtpoets.core.reading import read_bytes
from trtpoets.core.runner_id import engine_runner
from trtpoets.core.types import Engine, EngineCard
from trtpoets.device.build.engine_card import build_command, check_fits
from trtpoets.device.gpu.cuda import CudaSession
from trtpoets.device.gpu.gpu_wait import Wait
from trtpoets.device.runners.base import Ticket, Timing, check_photos, check_scores, new_buffer, not_entered
from trtpoets.device.runners.trt_resources import Room, RoomOptions
from trtpoets.device.tensorrt_api import load_tensorrt

log = logging.getLogger(__name__)

_UINT8 = np.dtype(np.uint8)

_dot = np.vdot
_DOT = 8192
"""Of more numbers at once, BLAS may take several threads for a sum of squares."""


class TensorRtRunner:
    """Runs an engine. Batches above the engine's largest go in pieces; threads take turns.

    A batch size is padded to the next power of two (or to the engine's smallest, best or largest), so that sizes that
    come in no order need few shapes; one that comes again and again gets its own. The second batch of a size is
    captured as a CUDA graph with its copies, and later ones replay it; `graphs=False` never captures, nor is an engine
    for the DLA captured: "DLA usage" makes enqueue synchronous (developer guide, "Performing Inference"; trtexec can't
    either, NVIDIA/TensorRT#3524), and a synchronous call ends a capture.

    With `submit` and `collect` up to `slots` batches are under way, so that copies overlap computing:

        with runner:
            tickets = [runner.submit(first), runner.submit(second)]
            scores = [runner.collect(ticket) for ticket in tickets]

    The second slot is made when it is first needed. It has its own memory for photos, scores and activations (what the
    engine needs is there twice then); where that is more than half of what is free, or TensorRT allows one execution
    context only (before 10.1), or on a DLA, there is one slot, and a further `submit` waits for the one before.
    `runner.slots` tells.

    `wait` is how threads wait for the GPU (`gpu_wait.py`), and `waits` how they do; None leaves it as it is. On a
    GPU that shares the CPU's memory, a Jetson's, photos and scores are read and written where they are
    (`zero_copy=None`): not proven on hardware; `zero_copy=False` copies as elsewhere.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        graphs: bool = True,
        slots: int = 2,
        wait: Wait | None = None,
        zero_copy: bool | None = None,
    ) -> None:
        if slots < 1:
            raise BadInput(f"{slots} batches under way", hint="give 1 or 2 slots", code="TP4093")
        self.identity = engine_runner(engine.card, engine.card.precision)
        self.name = self.identity.name
        self.spec = engine.card.spec
        self._engine = engine
        self._options = RoomOptions(graphs and engine.card.dla_core is None, slots, zero_copy)
        self._wait = wait
        self._lock = threading.Lock()
        self._room: Room | None = None
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
            cuda = stack.enter_context(CudaSession(wait=self._wait))
            check_fits(card, library, cuda.gpu(), path)
            room = stack.enter_context(Room(cuda, library, plan, self._engine, self._options))
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

    @property
    def slots(self) -> int:
        """How many batches can be under way at once; 1 before the runner is entered."""
        room = self._room
        return 1 if room is None else room.most

    @property
    def waits(self) -> Wait:
        """How threads wait for the GPU. Raises RunFailed when the runner is not entered."""
        with self._lock:
            return self._entered().cuda.waits

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
        with self._lock:
            room = self._room
            if room is None:
                raise not_entered(self.name)
            shot = room.ready.get(photos.shape)
            if shot is not None and photos.dtype is _UINT8 and shot.slot.idle:
                scores = shot.run(photos)
            else:
                check_photos(photos, self.spec)
                scores = room.infer(photos)
        return scores if _finite(scores) else check_scores(scores, len(photos), self.spec, self.name)

    def input_buffer(self, count: int) -> np.ndarray:
        """uint8 (count, H, W, 3): page-locked memory of a slot, while there is a second one to run other photos."""
        with self._lock:
            room = self._entered()
            lent = room.lend(count) if count >= 1 else None
        return new_buffer(count, self.spec) if lent is None else lent

    def submit(self, photos: np.ndarray) -> Ticket:
        """Queue a batch, and return without waiting for it, unless every slot has one under way."""
        with self._lock:
            room = self._entered()
            check_photos(photos, self.spec)
            return room.submit(photos)

    def collect(self, ticket: Ticket) -> np.ndarray:
        """The scores of a submitted batch, once they are there."""
        with self._lock:
            room = self._entered()
            room.wait_for(ticket)
            scores = ticket.take(room, self.name)
        return scores if _finite(scores) else check_scores(scores, len(scores), self.spec, self.name)

    def infer_timed(self, photos: np.ndarray) -> tuple[np.ndarray, Timing]:
        """`infer`, and where the time went, summed over the pieces of the batch. Each goes through twice: the first
        time keeps the GPU busy until the second, which is timed, is queued."""
        with self._lock:
            room = self._entered()
            check_photos(photos, self.spec)
            scores, pieces = room.infer_timed(photos)
        return check_scores(scores, len(photos), self.spec, self.name), Timing(
            sum(piece.h2d_ms for piece in pieces),
            sum(piece.compute_ms for piece in pieces),
            sum(piece.d2h_ms for piece in pieces),
            sum(piece.enqueue_ms for piece in pieces),
            pieces[0].graph if len({piece.graph for piece in pieces}) == 1 else False,
        )

    def _entered(self) -> Room:
        if self._room is None:
            raise not_entered(self.name)
        return self._room


def _finite(scores: np.ndarray) -> bool:
    """Whether no score is infinite or not a number, without memory for the answers: a sum of squares tells as much.

    It may overflow where all are finite: False is to be looked into.
    """
    if scores.size <= _DOT:
        return isfinite(_dot(scores, scores))
    flat = scores.reshape(-1)
    parts = (flat[start : start + _DOT] for start in range(0, flat.size, _DOT))
    return all(isfinite(_dot(part, part)) for part in parts)


def _read_plan(path: Path, card: EngineCard) -> bytes:
    if not path.is_file():
        raise MissingArtefact(f"{path} is not there", hint=build_command(path), code="TP4094")
    plan = read_bytes(path)
    if hashlib.sha256(plan).hexdigest() != card.engine_sha256:
        raise BadArtefact(
            f"{path} is not the engine that its card describes: the file was changed or damaged",
            hint=build_command(path),
            code="TP4095",
        )
    return plan
