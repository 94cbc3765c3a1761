"""The interface of all runners, and checks that they share."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Iterable, Iterator, Protocol, runtime_checkable

import numpy as np

from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.formatting import many
from trtpoets.core.runner_id import RunnerId
from trtpoets.core.types import ModelSpec


class Runner(Protocol):
    """Runs one classifier. The constructor does not use files or the GPU; entering allocates, leaving frees."""

    @property
    def identity(self) -> RunnerId:
        """The library, precision, way, and the variant of an engine."""

    @property
    def name(self) -> str:
        """The name of `identity`, used in reports: "tensorflow", "onnxruntime-int8", "rtx-fp16"."""

    @property
    def spec(self) -> ModelSpec:
        """The preprocessing of the photos and the labels of the scores."""

    def __enter__(self) -> Runner: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1.

        Returns a new array in host memory.
        Raises BadInput if the photos don't fit the model, RunFailed if the runner is not entered or fails.
        """

    @property
    def slots(self) -> int:
        """The number of batches to submit before the first is collected, for the best throughput.

        1 if `submit` computes immediately. Valid after the runner is entered.
        """

    def input_buffer(self, count: int) -> np.ndarray:
        """An array uint8 (count, H, W, 3) for photos: `submit` and `infer` do not copy it again if possible.

        The caller may write to it until it (or its first rows) is submitted. Its content stays until the runner is used
        again, and the memory is valid while the runner is entered.
        Raises BadInput for less than one photo, RunFailed if the runner is not entered.
        """

    def submit(self, photos: np.ndarray) -> Ticket:
        """Start the inference of uint8 (N, H, W, 3), which may be changed after the return. Raises as `infer` does.

        Any number of batches may be submitted before the first is collected.
        """

    def collect(self, ticket: Ticket) -> np.ndarray:
        """Wait for a submitted batch and return its scores, as `infer` does. Collect each ticket once, in any order.

        Raises RunFailed if the runner failed, or if the ticket is another runner's or was already collected.
        """


class Ticket:
    """A submitted batch of the runner `owner`. `scores` float32 (N, C) are complete when `pending` is 0."""

    __slots__ = ("error", "owner", "pending", "scores")

    def __init__(self, owner: object, scores: np.ndarray) -> None:
        self.owner = owner
        self.scores: np.ndarray | None = scores
        self.pending = 0
        self.error: Exception | None = None

    def take(self, owner: object, runner: str) -> np.ndarray:
        """Return the scores. Raises RunFailed for another runner's or a collected ticket; or the error of the batch."""
        if self.owner is not owner or self.scores is None:
            problem = "was collected" if self.owner is owner else "is another runner's, or older than its last entering"
            raise RunFailed(f"the ticket for {runner} {problem}", hint="collect each ticket once", code="TP4074")
        scores, self.scores = self.scores, None
        if self.error is not None:
            raise self.error
        return scores


class Synchronous:
    """`submit` and `collect` for runners that implement only `infer`: `submit` computes the scores."""

    spec: ModelSpec
    name: str
    slots = 1

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C)."""
        raise NotImplementedError

    def input_buffer(self, count: int) -> np.ndarray:
        """uint8 (count, H, W, 3), ordinary memory."""
        return new_buffer(count, self.spec)

    def submit(self, photos: np.ndarray) -> Ticket:
        """`infer`, with its scores kept until they are collected."""
        return Ticket(self, self.infer(photos))

    def collect(self, ticket: Ticket) -> np.ndarray:
        """The scores of a submitted batch."""
        return ticket.take(self, self.name)


def new_buffer(count: int, spec: ModelSpec) -> np.ndarray:
    """A new array for photos: uint8 (count, H, W, 3). Raises BadInput for less than one."""
    if count < 1:
        raise BadInput(f"the buffer must be for at least 1 photo, not {count}", hint="use 1 or more", code="TP4075")
    return np.empty((count, spec.preprocess.height, spec.preprocess.width, 3), np.uint8)


def pipelined(runner: Runner, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the scores of each batch in order, with as many batches in progress as the runner has slots.

    The next batch is requested while earlier ones are computed.
    """
    pending: deque[Ticket] = deque()
    for photos in batches:
        pending.append(runner.submit(photos))
        if len(pending) >= runner.slots:
            yield runner.collect(pending.popleft())
    while pending:
        yield runner.collect(pending.popleft())


@dataclass(frozen=True)
class Timing:
    """The times of one `infer_timed` in milliseconds; for a batch that ran in pieces, their sum.

    Copies and inference are measured with CUDA events on the GPU, which is kept busy meanwhile, so that the times do
    not include waiting for the host. `enqueue_ms` is the host's time to queue the inference. `graph` says whether a
    CUDA graph was replayed; None if the library decides (TensorRT-RTX).
    """

    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    enqueue_ms: float
    graph: bool | None

    @property
    def device_ms(self) -> float:
        """Copies and inference together: the "latency" of trtexec with data transfers."""
        return self.h2d_ms + self.compute_ms + self.d2h_ms


@runtime_checkable
class TimedRunner(Runner, Protocol):
    """A runner that can measure times on its device."""

    def infer_timed(self, photos: np.ndarray) -> tuple[np.ndarray, Timing]:
        """`infer` with its Timing. It takes a few microseconds longer than `infer`."""


def check_photos(photos: np.ndarray, spec: ModelSpec) -> None:
    """Raise BadInput unless `photos` is uint8 (N >= 1, H, W, 3) of the model's size."""
    height, width = spec.preprocess.height, spec.preprocess.width
    if photos.dtype != np.uint8 or photos.ndim != 4 or photos.shape[1:] != (height, width, 3) or not len(photos):
        raise BadInput(
            f"photos for {spec.name} must be uint8 (N, {height}, {width}, 3), not {photos.dtype} {photos.shape}",
            hint="prepare photos with trtpoets.core.images.photo_batches",
            code="TP4076",
        )


def check_scores(scores: np.ndarray, count: int, spec: ModelSpec, runner: str) -> np.ndarray:
    """Return `scores`; raise RunFailed unless they are float32 (count, C), finite."""
    expected = (count, len(spec.labels))
    if scores.shape != expected or scores.dtype != np.float32:
        raise RunFailed(f"{runner} gave {scores.dtype} {scores.shape} instead of float32 {expected}", code="TP4077")
    without = int((~np.isfinite(scores)).any(axis=1).sum())
    if without:
        narrow = any(precision in runner for precision in ("fp16", "int8"))
        raise RunFailed(
            f"{runner} gave scores that are not numbers, for {without:,} of {many(count, 'photo')}",
            hint="use a wider precision"
            if narrow
            else "leave out these photos if they have one colour, or use a float32 file of the classifier",
            code="TP4078",
        )
    return scores


def not_entered(runner: str) -> RunFailed:
    """The error of `infer` outside `with`."""
    return RunFailed(f"{runner} was used before it was entered", hint="use it as: with runner: ...", code="TP4079")
