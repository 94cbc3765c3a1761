"""ONNX files through ONNX Runtime: on the CPU, or by a provider that uses the GPU."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np

from trtpoets.core.errors import RunFailed
from trtpoets.core.onnx_file import open_session
from trtpoets.core.optional import onnxruntime
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.spec import INPUT_NAME, OUTPUT_NAME, OnnxModel
from trtpoets.device.runners.base import Synchronous, check_photos, check_scores, not_entered

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
"""ONNX Runtime's words for where it can run."""


class OnnxRuntimeRunner(Synchronous):
    """Runs an ONNX file. `threads` is how many one operator may use; 0 leaves it to ONNX Runtime.

    `as_written` fuses nothing: slower, and INT8 rounds in other places.
    """

    def __init__(self, model: OnnxModel, threads: int = 0, *, provider: str = "cpu", as_written: bool = False) -> None:
        way = "as-written" if as_written else "" if provider == "cpu" else provider
        self.identity = RunnerId(Library.ONNXRUNTIME, model.precision, way)
        self.name = self.identity.name
        self._provider = PROVIDERS[provider]
        self.spec = model.spec
        self._path = model.path
        self._threads = threads
        self._as_written = as_written
        self._session: Any = None

    def __enter__(self) -> OnnxRuntimeRunner:
        """Open the file. Raises MissingDependency, BadArtefact when ONNX Runtime refuses it, or RunFailed.

        The last where the provider does not work here: ONNX Runtime would go on without it, and without a word.
        """
        session = open_session(self._path, self._threads, provider=self._provider, as_written=self._as_written)
        found = session.get_providers()[0]
        if found != self._provider:
            raise RunFailed(
                f"{self.name} would run by {found}: {self._provider} does not load here",
                hint="pip install onnxruntime-gpu, with the CUDA and cuDNN that it names",
            )
        self._session = session
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


def gpu_providers() -> list[str]:
    """Which of PROVIDERS the installed ONNX Runtime has, beside the CPU; none where it is not installed."""
    try:
        there = onnxruntime().get_available_providers()
    except ImportError:
        return []
    return [word for word, provider in PROVIDERS.items() if word != "cpu" and provider in there]
