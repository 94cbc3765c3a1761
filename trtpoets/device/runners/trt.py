"""Runs engines of TensorRT and TensorRT-RTX on the GPU."""

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
from trtpoets.device.runners.trt_resources import TrtOptions, TrtResources
from trtpoets.device.tensorrt_api import load_tensorrt

log = logging.getLogger(__name__)

_UINT8 = np.dtype(np.uint8)

_dot = np.vdot
_DOT = 8192
"""Numbers per call of `_dot`: for more, BLAS may use several threads."""


class TensorRtRunner:
    """Runs an engine. Batches larger than the engine's maximum run in pieces. Thread-safe: calls are serialised.

    Batch sizes are padded to the next power of two (or to the engine's minimum, optimum or maximum), so that varying
    sizes need few shapes; a size that occurs repeatedly gets its own shape. The second batch of a size is captured as a
    CUDA graph with its copies, which later batches replay. There are no graphs with `graphs=False` and for the DLA,
    which makes enqueue synchronous (developer guide, "Performing Inference"; NVIDIA/TensorRT#3524): a synchronous call
    ends a capture.

    With `submit` and `collect`, up to `slots` batches are in progress, so that copies overlap with inference:

        with runner:
            tickets = [runner.submit(first), runner.submit(second)]
            scores = [runner.collect(ticket) for ticket in tickets]

    The second slot is created when it is first needed, with its own memory for photos, scores and activations. There is
    only one slot if that memory is more than half of the free memory, if TensorRT allows only one execution context
    (before 10.1), or on a DLA; then `submit` waits for the previous batch. `runner.slots` is the maximum.

    `wait` is how threads wait for the GPU (`gpu_wait.py`), None leaves it unchanged; `waits` is the mode in effect. If
    GPU and CPU share memory (on a Jetson), the GPU reads photos and writes scores in host memory (`zero_copy=None`),
    which has not been tested on hardware; `zero_copy=False` copies them.
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
            raise BadInput(
                f"the number of slots must be at least 1, not {slots}", hint="use 1 or 2 slots", code="TP4093"
            )
        self.identity = engine_runner(engine.card, engine.card.precision)
        self.name = self.identity.name
        self.spec = engine.card.spec
        self._engine = engine
        self._options = TrtOptions(graphs and engine.card.dla_core is None, slots, zero_copy)
        self._wait = wait
        self._lock = threading.Lock()
        self._resources: TrtResources | None = None
        self._stack = ExitStack()

    def __enter__(self) -> TensorRtRunner:
        """Check the card, load the engine and allocate memory.

        Raises MissingDependency, MissingArtefact, BadArtefact, or RunFailed if the engine can't run.
        """
        path, card = self._engine.path, self._engine.card
        require_trusted(path, self._engine.foreign)
        library = load_tensorrt(card.flavour)
        plan = _read_plan(path, card)
        with ExitStack() as stack:
            cuda = stack.enter_context(CudaSession(wait=self._wait))
            check_fits(card, library, cuda.gpu(), path)
            resources = stack.enter_context(TrtResources(cuda, library, plan, self._engine, self._options))
            self._stack = stack.pop_all()
        self._resources = resources
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._resources = None
            try:
                self._stack.__exit__(kind, error, trace)
            except RunFailed as failed:
                if error is None:
                    raise
                # The error of the block is the one to report.
                log.warning("the GPU's memory may not all be free: %s", failed.message)

    @property
    def slots(self) -> int:
        """The maximum of batches in progress; 1 before the runner is entered."""
        resources = self._resources
        return 1 if resources is None else resources.most

    @property
    def waits(self) -> Wait:
        """How threads wait for the GPU. Raises RunFailed if the runner is not entered."""
        with self._lock:
            return self._entered().cuda.waits

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
        with self._lock:
            resources = self._resources
            if resources is None:
                raise not_entered(self.name)
            batch_run = resources.ready.get(photos.shape)
            if batch_run is not None and photos.dtype is _UINT8 and batch_run.slot.idle:
                scores = batch_run.run(photos)
            else:
                check_photos(photos, self.spec)
                scores = resources.infer(photos)
        return scores if _finite(scores) else check_scores(scores, len(photos), self.spec, self.name)

    def input_buffer(self, count: int) -> np.ndarray:
        """uint8 (count, H, W, 3): pinned memory of a slot if another slot is available, else ordinary memory."""
        with self._lock:
            resources = self._entered()
            lent = resources.lend(count) if count >= 1 else None
        return new_buffer(count, self.spec) if lent is None else lent

    def submit(self, photos: np.ndarray) -> Ticket:
        """Queue a batch without waiting for it; if all slots are in use, wait for the oldest batch."""
        with self._lock:
            resources = self._entered()
            check_photos(photos, self.spec)
            return resources.submit(photos)

    def collect(self, ticket: Ticket) -> np.ndarray:
        """Wait for a submitted batch and return its scores."""
        with self._lock:
            resources = self._entered()
            resources.wait_for(ticket)
            scores = ticket.take(resources, self.name)
        return scores if _finite(scores) else check_scores(scores, len(scores), self.spec, self.name)

    def infer_timed(self, photos: np.ndarray) -> tuple[np.ndarray, Timing]:
        """`infer` with its Timing, summed over the pieces of the batch. Each piece runs twice: the first run keeps the
        GPU busy until the second, timed run is queued."""
        with self._lock:
            resources = self._entered()
            check_photos(photos, self.spec)
            scores, pieces = resources.infer_timed(photos)
        return check_scores(scores, len(photos), self.spec, self.name), Timing(
            sum(piece.h2d_ms for piece in pieces),
            sum(piece.compute_ms for piece in pieces),
            sum(piece.d2h_ms for piece in pieces),
            sum(piece.enqueue_ms for piece in pieces),
            pieces[0].graph if len({piece.graph for piece in pieces}) == 1 else False,
        )

    def _entered(self) -> TrtResources:
        if self._resources is None:
            raise not_entered(self.name)
        return self._resources


def _finite(scores: np.ndarray) -> bool:
    """Whether the sum of squares of all scores is finite, which is a fast test without temporary memory.

    The sum may overflow although all scores are finite: if it returns False, check each score.
    """
    if scores.size <= _DOT:
        return isfinite(_dot(scores, scores))
    flat = scores.reshape(-1)
    parts = (flat[start : start + _DOT] for start in range(0, flat.size, _DOT))
    return all(isfinite(_dot(part, part)) for part in parts)


def _read_plan(path: Path, card: EngineCard) -> bytes:
    if not path.is_file():
        raise MissingArtefact(f"{path} does not exist", hint=build_command(path), code="TP4094")
    plan = read_bytes(path)
    if hashlib.sha256(plan).hexdigest() != card.engine_sha256:
        raise BadArtefact(
            f"{path} is not the engine that its card describes: the file was changed or damaged",
            hint=build_command(path),
            code="TP4095",
        )
    return plan
