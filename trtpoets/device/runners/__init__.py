"""TensorFlow, ONNX Runtime, TensorRT and TensorRT-RTX behind one protocol."""

from __future__ import annotations

from typing import Union

from trtpoets.core.spec import Classifier, Engine, OnnxModel
from trtpoets.device.runners.base import Runner
from trtpoets.device.runners.ort import OnnxRuntimeRunner
from trtpoets.device.runners.tf import TensorFlowRunner
from trtpoets.device.runners.trt import TensorRtRunner

Runnable = Union[Classifier, OnnxModel, Engine]
"""What a runner can be opened for."""


def open_runner(artefact: Runnable, threads: int = 0) -> Runner:
    """The runner of an artefact, not entered yet. `threads` limits CPU runners; engines run on the GPU."""
    if isinstance(artefact, Classifier):
        return TensorFlowRunner(artefact, threads)
    if isinstance(artefact, OnnxModel):
        return OnnxRuntimeRunner(artefact, threads)
    return TensorRtRunner(artefact)
