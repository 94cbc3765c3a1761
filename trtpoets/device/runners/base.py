"""What every runner does, and the checks that they share."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np

from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.runner_id import RunnerId
from trtpoets.core.spec import ModelSpec


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


@dataclass(frozen=True)
class Timing:
    """Where the time of one `infer_timed` went, in milliseconds; of a batch that went in pieces, their sum.

    The copies and the computing are on the GPU's clock (CUDA events around each), queueing the computing is on the
    host's. `graph` says whether a CUDA graph was replayed; None where the library decides (TensorRT-RTX).
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
        )


def check_scores(scores: np.ndarray, count: int, spec: ModelSpec, runner: str) -> np.ndarray:
    """Return `scores`; raise RunFailed unless they are float32 (count, C), finite."""
    expected = (count, len(spec.labels))
    if scores.shape != expected or scores.dtype != np.float32:
        raise RunFailed(f"{runner} gave {scores.dtype} {scores.shape} instead of float32 {expected}")
    if not np.isfinite(scores).all():
        raise RunFailed(f"{runner} gave a score that is not a number", hint="build it in a wider precision")
    return scores


def not_entered(runner: str) -> RunFailed:
    """The error of `infer` outside `with`."""
    return RunFailed(f"{runner} was asked for scores before it was entered", hint="use it as: with runner: ...")
