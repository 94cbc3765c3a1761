"""Runs TFLite files with the TFLite interpreter on the CPU."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Any

import numpy as np

from trtpoets.core.errors import BadArtefact, RunFailed, first_line
from trtpoets.core.images import usable_cores
from trtpoets.core.optional import loaded_interpreter, native_stderr_to, tflite_interpreter
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.tflite_file import network_in
from trtpoets.core.types import TfliteModel
from trtpoets.device.runners.base import Synchronous, check_photos, check_scores, not_entered
from trtpoets.device.tflite_check import require_sound


class TfliteRunner(Synchronous):
    """Runs a TFLite file with `threads` threads; 0 means one per core (the interpreter's default is one).

    The photos of a batch run one by one. Whole batches are not faster, because the kernels distribute one photo over
    all cores: batches of 8 and 32 took 0.98 to 1.35 times the CPU time of single photos, with EfficientNet-Lite0 and
    MobileNetV2 in FP32 and INT8 (benchmarks/tflite_batches.py).

    `own_kernels` disables XNNPACK, which builds for some boards do not have: slower, and rounded in other places.

    Before a network is loaded here, it is tried in a child process, because a damaged one can end the process. With
    `contained`, it is loaded without the trial.
    """

    def __init__(
        self, model: TfliteModel, threads: int = 0, *, own_kernels: bool = False, contained: bool = False
    ) -> None:
        self.identity = RunnerId(Library.TFLITE, model.precision, "own-kernels" if own_kernels else "")
        self.name = self.identity.name
        self.precision = model.precision
        self.spec = model.spec
        self._path = model.path
        self._threads = threads or usable_cores()
        self._own_kernels = own_kernels
        self._contained = contained
        self._interpreter: Any = None
        self._lock = threading.Lock()

    def __enter__(self) -> TfliteRunner:
        """Load the file. Raises MissingDependency, MissingArtefact, or BadArtefact when it is damaged."""
        content = network_in(self._path)
        tflite_interpreter()
        if not self._contained:
            require_sound(self._path, content, self._threads, self._own_kernels)
        try:
            with native_stderr_to(os.devnull):  # the interpreter logs its delegate
                interpreter = loaded_interpreter(content, self._threads, self._own_kernels)
            (photos,), (scores,) = interpreter.get_input_details(), interpreter.get_output_details()
        except Exception as error:
            reason = first_line(error)
            raise BadArtefact(
                f"TFLite can't load {self._path}: {reason}",
                hint="make it again: trtpoets bundle NAME --for tflite --force",
                code="TP4090",
            ) from error
        self._photos, self._scores = photos["index"], scores["index"]
        self._interpreter = interpreter
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interpreter = None

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
        if self._interpreter is None:
            raise not_entered(self.name)
        check_photos(photos, self.spec)
        try:
            scores = np.concatenate([self._one(photos[place : place + 1]) for place in range(len(photos))])
        except Exception as error:
            reason = first_line(error)
            raise RunFailed(
                f"{self.name} can't run {self._path}: {reason}", hint="make it again", code="TP4091"
            ) from error
        return check_scores(scores, len(photos), self.spec, self.name)

    def _one(self, photo: np.ndarray) -> np.ndarray:
        # All threads share the interpreter's tensors.
        with self._lock:
            self._interpreter.set_tensor(self._photos, photo)
            self._interpreter.invoke()
            scores: np.ndarray = self._interpreter.get_tensor(self._scores)
        return scores
