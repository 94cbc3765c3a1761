"""Detects whether an entered runner computes on the GPU."""

from __future__ import annotations

import sys

from trtpoets.core.runner_id import Library
from trtpoets.device.runners.base import Runner, TimedRunner


def runs_on_gpu(runner: Runner) -> bool:
    """Whether an entered runner uses the GPU: engines, ONNX Runtime's GPU providers, TensorFlow if it sees a GPU.

    TensorFlow runs all supported operations on the first visible GPU (its guide "Use a GPU").
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
