"""What every runner does, and the checks that they share."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Iterable, Iterator, Protocol, runtime_checkable

import numpy as np

from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.runner_id import RunnerId
from trtpoets.core.types import ModelSpec


class Runner(Protocol):
    """Runs one classifier. A constructor only remembers; entering allocates, leaving frees."""

    @property
    def identity(self) -> RunnerId:
        """Which runner it is: library, precision, way, and the variant of an engine."""

    @property
    def name(self) -> str:
        """The name of `identity`, as reports call it: "tensorflow", "onnxruntime-int8", "rtx-fp16"."""

    @property
    def spec(self) -> ModelSpec:
        """What the photos must be, and what the scores mean."""

    def __enter__(self) -> Runner: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1.

        The scores are on the host when it returns, and the array is the caller's own.
        Raises BadInput when the photos don't fit the model, RunFailed when the runner is not entered or breaks.
        """

    @property
    def slots(self) -> int:
        """How many batches are worth having under way at once: submit so many before the first is collected.

        1 where `submit` computes at once. Known once the runner is entered.
        """

    def input_buffer(self, count: int) -> np.ndarray:
        """uint8 (count, H, W, 3) to write photos into: submitted, or inferred, they are not copied again if possible.

        Its content is the caller's until it is handed in (itself, or its first rows), stays until the runner is used
        again, and the memory is there for as long as the runner is entered.
        Raises BadInput for less than one photo, RunFailed when the runner is not entered.
        """

    def submit(self, photos: np.ndarray) -> Ticket:
        """Begin with uint8 (N, H, W, 3), which may be changed when this returns. Raises what `infer` raises.

        Any number of batches may be submitted before the first is collected.
        """

    def collect(self, ticket: Ticket) -> np.ndarray:
        """The scores of a submitted batch, as `infer` gives them, once they are there. Each ticket once, in any order.

        Raises RunFailed when the runner broke, or the ticket is another runner's, or was collected.
        """


class Ticket:
    """A batch that was submitted to `owner`. `scores` float32 (N, C) are filled in when `pending` pieces are done."""

    __slots__ = ("error", "owner", "pending", "scores")

    def __init__(self, owner: object, scores: np.ndarray) -> None:
        self.owner = owner
        self.scores: np.ndarray | None = scores
        self.pending = 0
        self.error: Exception | None = None

    def take(self, owner: object, runner: str) -> np.ndarray:
        """The scores, once. Raises RunFailed for a ticket of another's, or one that was taken; or what went wrong."""
        if self.owner is not owner or self.scores is None:
            what = "was collected" if self.owner is owner else "is another runner's, or from before it was left"
            raise RunFailed(f"{runner} was given a ticket that {what}", hint="collect each ticket once", code="TP4074")
        scores, self.scores = self.scores, None
        if self.error is not None:
            raise self.error
        return scores


class Synchronous:
    """`submit` and `collect` of a runner that has only `infer`: it computes when a batch is submitted."""

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
    """Ordinary memory for photos: uint8 (count, H, W, 3). Raises BadInput for less than one."""
    if count < 1:
        raise BadInput(f"a buffer for {count} photos", hint="give at least 1", code="TP4075")
    return np.empty((count, spec.preprocess.height, spec.preprocess.width, 3), np.uint8)


def pipelined(runner: Runner, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The scores of each batch in order, with as many batches under way as the runner has slots.

    The next batch is asked for while earlier ones are computed.
    """
    under_way: deque[Ticket] = deque()
    for photos in batches:
        under_way.append(runner.submit(photos))
        if len(under_way) >= runner.slots:
            yield runner.collect(under_way.popleft())
    while under_way:
        yield runner.collect(under_way.popleft())


@dataclass(frozen=True)
class Timing:
    """Where the time of one `infer_timed` went, in milliseconds; of a batch that went in pieces, their sum.

    The copies and the computing are on the GPU's clock (CUDA events around each), with the GPU kept busy while they are
    queued, so that no waiting for the host is in them; queueing the computing is on the host's. `graph` says whether a
    CUDA graph was replayed; None where the library decides (TensorRT-RTX).
    """

    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    enqueue_ms: float
    graph: bool | None

    @property
    def device_ms(self) -> float:
        """Copies and computing together: the "latency" of trtexec with data transfers."""
        return self.h2d_ms + self.compute_ms + self.d2h_ms


@runtime_checkable
class TimedRunner(Runner, Protocol):
    """A runner whose device has a clock of its own."""

    def infer_timed(self, photos: np.ndarray) -> tuple[np.ndarray, Timing]:
        """`infer`, and where the time went. Recording it costs a few microseconds more than `infer`."""


def check_photos(photos: np.ndarray, spec: ModelSpec) -> None:
    """Raise BadInput unless `photos` is uint8 (N >= 1, H, W, 3) of the model's size."""
    height, width = spec.preprocess.height, spec.preprocess.width
    if photos.dtype != np.uint8 or photos.ndim != 4 or photos.shape[1:] != (height, width, 3) or not len(photos):
        raise BadInput(
            f"{spec.name} takes photos as uint8 (N, {height}, {width}, 3), not {photos.dtype} {photos.shape}",
            hint="prepare photos with trtpoets.core.images.photo_batches",
            code="TP4076",
        )


def check_scores(scores: np.ndarray, count: int, spec: ModelSpec, runner: str) -> np.ndarray:
    """Return `scores`; raise RunFailed unless they are float32 (count, C), finite."""
    expected = (count, len(spec.labels))
    if scores.shape != expected or scores.dtype != np.float32:
        raise RunFailed(f"{runner} gave {scores.dtype} {scores.shape} instead of float32 {expected}", code="TP4077")
    if not np.isfinite(scores).all():
        raise RunFailed(
            f"{runner} gave a score that is not a number", hint="build it in a wider precision", code="TP4078"
        )
    return scores


def not_entered(runner: str) -> RunFailed:
    """The error of `infer` outside `with`."""
    return RunFailed(
        f"{runner} was asked for scores before it was entered", hint="use it as: with runner: ...", code="TP4079"
    )
