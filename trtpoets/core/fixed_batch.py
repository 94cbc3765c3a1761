"""Runs any number of photos through networks whose number of photos is fixed, in ONNX Runtime.

The number cannot always be made dynamic: a constant inside a network may hold it. Such a network has it as the first
size of `photos`; all others have no size there.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

from trtpoets.core.errors import RunFailed
from trtpoets.core.types import INPUT_NAME


def fixed_batch_of(session: Any) -> int:
    """The number of photos that a session of one of trtpoets' networks takes; 0 for any number, and for others."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].name != INPUT_NAME or not inputs[0].shape:
        return 0
    size = inputs[0].shape[0]
    return size if isinstance(size, int) else 0


class FixedBatchSession:
    """A session that takes any number of photos, for a network that takes exactly `batch` photos.

    The network is run for each `batch` photos. The last group is filled with copies of its last photo, whose rows are
    removed from the result. Attributes other than `run` are those of the session.
    """

    def __init__(self, session: Any, batch: int) -> None:
        self._session = session
        self.batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray], options: Any = None) -> list[Any]:
        """Run the network and return its outputs, whose rows are in the order of the photos.

        Raises RunFailed if an output does not have the same number of rows for each photo.
        """
        photos = inputs[INPUT_NAME]
        if len(photos) == self.batch:
            results: list[Any] = self._session.run(outputs, {INPUT_NAME: photos}, options)
            return results
        groups = [
            self._group(outputs, photos[start : start + self.batch], options)
            for start in range(0, len(photos), self.batch)
        ]
        if any(np.ndim(result) == 0 for result in groups[0]) and len(groups) > 1:
            raise RunFailed(
                f"the network returns a single number for each batch of {self.batch} photos, but {len(photos)} photos "
                "were given",
                code="TP1956",
            )
        return [results[0] if len(results) == 1 else np.concatenate(results) for results in zip(*groups)]

    def _group(self, outputs: Sequence[str] | None, photos: np.ndarray, options: Any) -> list[Any]:
        count = len(photos)
        if count == self.batch:
            return list(self._session.run(outputs, {INPUT_NAME: photos}, options))
        filled = np.concatenate([photos, np.repeat(photos[-1:], self.batch - count, axis=0)])
        return [self._rows(result, count) for result in self._session.run(outputs, {INPUT_NAME: filled}, options)]

    def _rows(self, result: Any, count: int) -> Any:
        if np.ndim(result) == 0:
            return result
        if len(result) % self.batch:
            raise RunFailed(
                f"the network returns {len(result)} rows for {self.batch} photos, not the same number for each photo",
                code="TP1957",
            )
        return result[: len(result) // self.batch * count]


def whole_groups(photos: np.ndarray, batch: int) -> np.ndarray:
    """The first N photos, uint8 (N, H, W, 3), N being the largest multiple of `batch`; repeated if there are too few.

    `batch` is the number of photos that a network takes; 0 returns the photos unchanged.
    """
    if not batch or len(photos) % batch == 0:
        return photos
    count = len(photos) // batch * batch or batch
    return photos[np.arange(count) % len(photos)]
