"""ONNX files on the CPU, through ONNX Runtime."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np

from trtpoets.core.errors import RunFailed
from trtpoets.core.onnx_file import open_session
from trtpoets.core.spec import INPUT_NAME, OUTPUT_NAME, OnnxModel
from trtpoets.device.runners.base import check_photos, check_scores, not_entered


class OnnxRuntimeRunner:
    """Runs an ONNX file. `threads` is how many one operator may use; 0 leaves it to ONNX Runtime."""

    def __init__(self, model: OnnxModel, threads: int = 0) -> None:
        self.name = f"onnxruntime-{model.precision.value}"
        self.spec = model.spec
        self._path = model.path
        self._threads = threads
        self._session: Any = None

    def __enter__(self) -> OnnxRuntimeRunner:
        """Open the file. Raises MissingDependency, or BadArtefact when ONNX Runtime refuses it."""
        self._session = open_session(self._path, self._threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
        if self._session is None:
            raise not_entered(self.name)
        check_photos(photos, self.spec)
        try:
            (scores,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: photos})
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RunFailed(f"{self.name} can't run {self._path}: {reason}", hint="export it again") from error
        return check_scores(scores, len(photos), self.spec, self.name)
