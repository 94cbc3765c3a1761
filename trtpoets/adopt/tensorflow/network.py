"""Runs classifiers in TensorFlow's formats as they are, in TensorFlow."""

from __future__ import annotations

from types import TracebackType

import numpy as np

from trtpoets.adopt.tensorflow.reader import LoadedTensorFlow
from trtpoets.core.original import stored_values


class TensorFlowNetwork:
    """Runs a loaded file: a Keras model in Keras, a SavedModel by its signature, a frozen graph.

    A file of Keras 2 that Keras 3 can't read runs as the graph that tf-keras made of it. It fulfils `OriginalNetwork`.
    """

    def __init__(self, loaded: LoadedTensorFlow) -> None:
        self._loaded = loaded

    def __enter__(self) -> TensorFlowNetwork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: the network belongs to the caller."""

    def infer(self, values: np.ndarray) -> np.ndarray:
        """Run float32 (N, H, W, C) and return (N, K) in the type of the output. Raises RunFailed."""
        model = self._loaded.model
        stored = stored_values(values, model.input)
        count, batch = len(stored), model.input.batch
        if batch:
            missing = -count % batch
            stored = np.concatenate([stored, np.repeat(stored[-1:], missing, axis=0)])
        parts = [self._loaded.run(part) for part in np.split(stored, len(stored) // batch)] if batch else None
        output = np.concatenate(parts) if parts else self._loaded.run(stored)
        return output.reshape(len(output), model.output.size)[:count]
