"""Runs ONNX files through ONNX Runtime, on the CPU or with a GPU execution provider."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Sequence

import numpy as np

from trtpoets.core.errors import RunFailed, first_line
from trtpoets.core.onnx_file import open_session
from trtpoets.core.onnx_metadata import fixed_batch
from trtpoets.core.optional import onnxruntime
from trtpoets.core.provider_options import PROVIDERS, TENSORRT, batch_range_for, engine_cache_folder, providers_of
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.storage import storage_errors
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, BatchRange, OnnxModel
from trtpoets.device.ort_engines import engines_below
from trtpoets.device.runners.base import Synchronous, check_photos, check_scores, not_entered


class OnnxRuntimeRunner(Synchronous):
    """Runs an ONNX file. `threads` is the number of threads of one operator; 0 is ONNX Runtime's default.

    `as_written` disables graph optimizations: slower, and INT8 is rounded in other places. `batches` are the expected
    batch sizes, if known: the engine of the TensorRT provider is built for them on entering, and cached in
    `engine_cache_folder`, so that no later inference builds one. Larger batches run in pieces. `content` is a
    serialised graph with the same input and output that runs instead of the file's: another form of the network.
    """

    def __init__(
        self,
        model: OnnxModel,
        threads: int = 0,
        *,
        provider: str = "cpu",
        as_written: bool = False,
        batches: Sequence[int] = (),
        content: bytes | None = None,
    ) -> None:
        way = "as-written" if as_written else "" if provider == "cpu" else provider
        self.identity = RunnerId(Library.ONNXRUNTIME, model.precision, way, form=model.form)
        self.name = self.identity.name
        self._provider = PROVIDERS[provider]
        self.spec = model.spec
        self._model = model
        self._range = batch_range_for(batches)
        self._threads = threads
        self._as_written = as_written
        self._content = content
        self._session: Any = None

    def __enter__(self) -> OnnxRuntimeRunner:
        """Open the file.

        Raises MissingDependency, BadArtefact if ONNX Runtime rejects the file, StorageFailed, or RunFailed if the
        provider does not work on this machine. `get_available_providers` lists all providers in the package, even if
        their libraries can't be loaded; ONNX Runtime then uses another provider without an error.
        """
        engines = str(_engines()) if self._provider == TENSORRT else ""
        fixed = fixed_batch(self._model.path) if self._provider == TENSORRT else 0
        if fixed:
            self._range = BatchRange(fixed, fixed, fixed)
        providers = providers_of(self._provider, self._model, self._range, engines)
        graph = self._model.path if self._content is None else self._content
        session = open_session(graph, self._threads, providers=providers, as_written=self._as_written)
        provider = session.get_providers()[0]
        if provider != self._provider:
            raise RunFailed(
                f"{self.name} would run with {provider}, because {self._provider} can't be loaded",
                hint="install the CUDA and cuDNN versions that it needs, and: pip install onnxruntime-gpu",
                code="TP4084",
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
        most = self._range.maximum
        if self._provider != TENSORRT or len(photos) <= most:
            scores = self._run(photos)
        else:
            pieces = [photos[start : start + most] for start in range(0, len(photos), most)]
            scores = np.concatenate([self._run(piece) for piece in pieces])
        return check_scores(scores, len(photos), self.spec, self.name)

    def _run(self, photos: np.ndarray) -> np.ndarray:
        try:
            (scores,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: photos})
        except Exception as error:
            reason = first_line(error)
            raise RunFailed(
                f"{self.name} can't run {self._model.path}: {reason}", hint="export it again", code="TP4085"
            ) from error
        result: np.ndarray = scores
        return result


def _engines() -> Path:
    """The cache folder of the TensorRT provider's engines, which is created. Raises StorageFailed."""
    folder = engines_below(engine_cache_folder())
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
    return folder


def gpu_providers() -> list[str]:
    """The GPU providers of PROVIDERS that the installed ONNX Runtime has; [] if it is not installed."""
    try:
        available = onnxruntime().get_available_providers()
    except ImportError:
        return []
    return [word for word, provider in PROVIDERS.items() if word != "cpu" and provider in available]
