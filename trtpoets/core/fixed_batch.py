"""Runs any number of photos through networks with a fixed batch, in ONNX Runtime.

A batch cannot always be made dynamic: a constant inside the network may contain its size. In such a network the first
size of the input `photos` is that of the batch; in all others it is dynamic.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

from trtpoets.core.errors import RunFailed
from trtpoets.core.types import INPUT_NAME


def fixed_batch_of(session: Any) -> int:
    """The fixed batch of a session; 0 if the batch is dynamic, or the network was not written by trtpoets."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].name != INPUT_NAME or not inputs[0].shape:
        return 0
    size = inputs[0].shape[0]
    return size if isinstance(size, int) else 0


class FixedBatchSession:
    """A session that takes any number of photos for a network with the fixed batch `batch`.

    `run` divides the photos into groups of `batch`. It fills the last group with copies of its last photo, and drops
    the rows of the copies. All other attributes are those of the wrapped session.
    """

    def __init__(self, session: Any, batch: int) -> None:
        self._session = session
        self.batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray], options: Any = None) -> list[Any]:
        """Run the network on photos, uint8 (N, H, W, 3); the rows of its outputs are in the order of the photos.

        Raises RunFailed if an output has no rows for each photo.
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
                f"a network for batches of {self.batch} photos returns one number for a whole batch, so that it has no "
                f"result for {len(photos)} photos",
                code="TP1956",
            )
        return [results[0] if len(results) == 1 else np.concatenate(results) for results in zip(*groups)]

    def _group(self, outputs: Sequence[str] | None, photos: np.ndarray, options: Any) -> list[Any]:
        """The outputs for at most `batch` photos."""
        count = len(photos)
        if count == self.batch:
            return list(self._session.run(outputs, {INPUT_NAME: photos}, options))
        filled = np.concatenate([photos, np.repeat(photos[-1:], self.batch - count, axis=0)])
        return [self._rows(result, count) for result in self._session.run(outputs, {INPUT_NAME: filled}, options)]

    def _rows(self, result: Any, count: int) -> Any:
        """The rows of an output that belong to the first `count` photos of a batch. Raises RunFailed."""
        if np.ndim(result) == 0:
            return result
        if len(result) % self.batch:
            raise RunFailed(
                f"a network for batches of {self.batch} photos returns {len(result)} rows, which is not a multiple of "
                f"{self.batch}",
                code="TP1957",
            )
        return result[: len(result) // self.batch * count]


def whole_groups(photos: np.ndarray, batch: int) -> np.ndarray:
    """Photos, uint8 (M, H, W, 3), whose number is a multiple of `batch`, from photos (N, H, W, 3).

    The last photos are dropped; fewer than `batch` photos are repeated. With `batch` 0 the photos are returned
    unchanged.
    """

    if not batch or len(photos) % batch == 0:
        return photos
    count = len(photos) // batch * batch or batch
    return photos[np.arange(count) % len(photos)]
