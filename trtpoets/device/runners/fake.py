"""A runner without a network, for tests and for trying out code that uses runners."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Callable

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.core.runner_id import FAKE, RunnerId
from trtpoets.core.types import ModelSpec
from trtpoets.device.runners.base import Synchronous, check_photos, check_scores, not_entered

Scores = Callable[[np.ndarray], np.ndarray]


class FakeRunner(Synchronous):
    """Returns `scores(photos)`, or scores computed from each photo's mean colours.

    A call takes at least `delay_seconds`. `identity` is the runner that it replaces.
    """

    def __init__(
        self,
        spec: ModelSpec,
        scores: Scores | None = None,
        delay_seconds: float = 0.0,
        identity: RunnerId = FAKE,
    ) -> None:
        if not delay_seconds >= 0:
            raise BadInput(f"the delay must be at least 0 seconds, not {delay_seconds}", hint="use 0", code="TP4080")
        self.identity = identity
        self.name = identity.name
        self.spec = spec
        self._scores = scores or self._from_colours
        self._delay = delay_seconds
        self._entered = False

    def __enter__(self) -> FakeRunner:
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
        if not self._entered:
            raise not_entered(self.name)
        check_photos(photos, self.spec)
        if self._delay:
            time.sleep(self._delay)
        scores = np.array(self._scores(photos), dtype=np.float32)
        return check_scores(scores, len(photos), self.spec, self.name)

    def _from_colours(self, photos: np.ndarray) -> np.ndarray:
        means = photos.mean(axis=(1, 2)) / 255.0
        # Fixed weights for any number of classes, different for each class.
        weights = np.sin(np.arange(1, 3 * len(self.spec.labels) + 1) ** 2).reshape(3, -1)
        logits = 8.0 * (means @ weights)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
        return scores
