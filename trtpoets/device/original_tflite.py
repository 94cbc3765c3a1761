"""Runs TFLite files of other programs with the TFLite interpreter, unchanged."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from trtpoets.core.errors import BadArtefact, RunFailed, first_line
from trtpoets.core.images import usable_cores
from trtpoets.core.optional import loaded_interpreter, native_stderr_to
from trtpoets.core.original import OriginalInput, OriginalOutput, stored_values
from trtpoets.core.tflite_file import tflite_bytes
from trtpoets.device.runners.base import not_entered
from trtpoets.device.tflite_check import require_sound

DAMAGED = "download or copy the file again, or convert the network to TFLite again"


class TfliteNetwork:
    """Runs a TFLite file (`OriginalNetwork`) with `threads` threads; 0 means one per core.

    Photos run one by one, or in batches of the file's fixed size, of which the last is padded with zeros.
    """

    def __init__(self, path: Path, input_: OriginalInput, output: OriginalOutput, threads: int = 0) -> None:
        self._path = path
        self._input = input_
        self._output = output
        self._threads = threads or usable_cores()
        self._interpreter: Any = None
        self._places = 0, 0
        self._lock = threading.Lock()

    def __enter__(self) -> TfliteNetwork:
        """Load the file. Raises MissingDependency, MissingArtefact, or BadArtefact if it can't be loaded."""
        self._interpreter = interpreter_of(self._path, tflite_bytes(self._path), self._threads)
        (input_details,) = self._interpreter.get_input_details()
        (output_details,) = self._interpreter.get_output_details()
        self._places = input_details["index"], output_details["index"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interpreter = None

    def infer(self, values: np.ndarray) -> np.ndarray:
        """float32 (N, H, W, C) -> (N, K) in the type of the file's output. See OriginalNetwork."""
        if self._interpreter is None:
            raise not_entered("the TFLite network")
        stored = stored_values(values, self._input)
        step = max(1, self._input.batch)
        try:
            parts = [self._one_batch(stored[start : start + step], step) for start in range(0, len(stored), step)]
        except Exception as error:
            raise RunFailed(
                f"TFLite can't run {self._path}: {first_line(error)}", hint=DAMAGED, code="TP4113"
            ) from error
        empty = np.empty((0, self._output.size), self._output.dtype)
        return np.concatenate([empty, *parts])

    def _one_batch(self, stored: np.ndarray, size: int) -> np.ndarray:
        count = len(stored)
        if count < size:
            stored = np.concatenate([stored, np.zeros((size - count, *stored.shape[1:]), stored.dtype)])
        # All threads share the interpreter's tensors.
        with self._lock:
            self._interpreter.set_tensor(self._places[0], stored)
            self._interpreter.invoke()
            output: np.ndarray = self._interpreter.get_tensor(self._places[1])
        return output.reshape(size, self._output.size)[:count]


def interpreter_of(path: Path, content: bytes, threads: int, *, own_kernels: bool = False) -> Any:
    """Return an interpreter with allocated tensors for `content`, the bytes of the file `path`.

    The network is tried in a child process before. Raises MissingDependency, or BadArtefact if it can't be loaded.
    """
    require_sound(path, content, threads, own_kernels, hint=DAMAGED)
    try:
        with native_stderr_to(os.devnull):  # the interpreter logs its delegate
            return loaded_interpreter(content, threads, own_kernels)
    except Exception as error:
        raise BadArtefact(f"TFLite can't load {path}: {first_line(error)}", hint=DAMAGED, code="TP4114") from error
