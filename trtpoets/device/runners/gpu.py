"""Whether a runner that is entered computes on the GPU."""

from __future__ import annotations

import sys

from trtpoets.core.runner_id import Library
from trtpoets.device.runners.base import Runner, TimedRunner


def runs_on_gpu(runner: Runner) -> bool:
    """Engines do; ONNX Runtime by its CUDA and TensorRT providers; TensorFlow where it sees a GPU in this process.

    TensorFlow puts all that it can on the first GPU that it sees (its guide "Use a GPU").
    """
    identity = runner.identity
    if isinstance(runner, TimedRunner) or identity.is_engine:
        return True
    if identity.library is Library.ONNXRUNTIME:
        return identity.way in ("cuda", "tensorrt")
    if identity.library in (Library.TENSORFLOW, Library.KERAS):
        tensorflow = sys.modules.get("tensorflow")  # entering the runner has imported it
        return tensorflow is not None and bool(tensorflow.config.get_visible_devices("GPU"))
    return False
