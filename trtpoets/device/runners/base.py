"""What every runner does, and the checks that they share."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

import numpy as np

from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.spec import ModelSpec


class Runner(Protocol):
    """Runs one classifier. A constructor only remembers; entering allocates, leaving frees."""

    @property
    def name(self) -> str:
        """As reports call it: "tensorflow", "onnxruntime-int8", "tensorrt-fp16", "rtx-fp16"."""

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
