"""The interface of networks of other programs, run as their files are, by their own framework."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from trtpoets.core.original import Format, OriginalInput, OriginalOutput


class OriginalNetwork(Protocol):
    """Runs the file of another program. Entering loads it, leaving frees it."""

    def __enter__(self) -> OriginalNetwork: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def infer(self, values: np.ndarray) -> np.ndarray:
        """Run float32 (N, H, W, C), the values of the pixels as `values_from_photos` returns them: any N.

        Returns what the file returns for them, (N, K) in the type of its output; `scores_from_output` makes scores of
        it. Values are stored by `stored_values`. If the file takes a fixed number of photos, the batch is divided and
        padded. Raises RunFailed.
        """


def onnx_or_tflite_network(
    kind: Format, path: Path, input_: OriginalInput, output: OriginalOutput, threads: int = 0
) -> OriginalNetwork:
    """Return the network of an ONNX or TFLite file, not entered yet. `threads` 0 is one per core."""
    if kind is Format.ONNX:
        from trtpoets.device.original_onnx import OnnxNetwork

        return OnnxNetwork(path, input_, output, threads)
    from trtpoets.device.original_tflite import TfliteNetwork

    return TfliteNetwork(path, input_, output, threads)
