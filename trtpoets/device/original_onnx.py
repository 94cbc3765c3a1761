"""Runs ONNX files of other programs, unchanged, in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from trtpoets.core.errors import RunFailed, first_line
from trtpoets.core.onnx_file import open_session
from trtpoets.core.onnx_load import load_self_contained
from trtpoets.core.optional import needs
from trtpoets.core.original import OriginalInput, OriginalOutput, stored_values
from trtpoets.device.runners.base import not_entered


class OnnxNetwork:
    """Runs an ONNX file as it is. `threads` is the number of threads of one operator; 0 is ONNX Runtime's default.

    `output` may be a tensor inside the graph, such as the one that a ZipMap converts to maps.
    """

    def __init__(self, path: Path, input_: OriginalInput, output: OriginalOutput, threads: int = 0) -> None:
        self._path = path
        self._input = input_
        self._output = output
        self._threads = threads
        self._session: Any = None

    def __enter__(self) -> OnnxNetwork:
        """Open the file. Raises MissingDependency, MissingArtefact, BadArtefact, StorageFailed."""
        session = open_session(self._path, self._threads)
        if self._output.name not in [value.name for value in session.get_outputs()]:
            session = open_session(self._with_output(), self._threads)
        self._session = session
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def infer(self, values: np.ndarray) -> np.ndarray:
        """Run float32 (N, H, W, C), the values of the pixels. Returns (N, K) in the type of the output.

        Raises RunFailed if the network is not entered or ONNX Runtime fails.
        """
        if self._session is None:
            raise not_entered(f"the network of {self._path}")
        size = self._input.batch or max(1, len(values))
        parts = [self._run(values[start : start + size], size) for start in range(0, len(values), size)]
        if not parts:
            return np.zeros((0, self._output.size), self._output.dtype)
        return np.concatenate(parts)

    def _run(self, values: np.ndarray, size: int) -> np.ndarray:
        count = len(values)
        if count < size:
            values = np.concatenate([values, np.repeat(values[-1:], size - count, axis=0)])
        try:
            (result,) = self._session.run([self._output.name], {self._input.name: stored_values(values, self._input)})
            rows: np.ndarray = np.asarray(result).reshape(size, self._output.size)
        except Exception as error:
            raise RunFailed(
                f"ONNX Runtime can't run {self._path}: {first_line(error)}", hint="export it again", code="TP4000"
            ) from error
        return rows[:count]

    def _with_output(self) -> bytes:
        """The file's content with a tensor of the graph as its only output."""
        with needs("train", reason="reading ONNX files"):
            import onnx
        model = onnx.load_model_from_string(load_self_contained(self._path).content)
        del model.graph.output[:]
        model.graph.output.add().name = self._output.name
        content: bytes = model.SerializeToString()
        return content
