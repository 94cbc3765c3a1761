"""Runners for TensorFlow, Keras, ONNX Runtime, TFLite, TensorRT and TensorRT-RTX with one interface."""

from __future__ import annotations

from enum import Enum
from typing import Sequence, Union

from trtpoets.core.runner_id import ORIGINAL, baseline_of
from trtpoets.core.types import Classifier, Engine, OnnxModel, TfliteModel
from trtpoets.device.gpu.gpu_wait import Wait
from trtpoets.device.runners.base import Runner
from trtpoets.device.runners.keras import KerasRunner
from trtpoets.device.runners.original import OriginalRunner
from trtpoets.device.runners.ort import OnnxRuntimeRunner
from trtpoets.device.runners.tf import TensorFlowRunner
from trtpoets.device.runners.tflite import TfliteRunner
from trtpoets.device.runners.trt import TensorRtRunner

Runnable = Union[Classifier, OnnxModel, TfliteModel, Engine]
"""Artefacts that a runner can run."""


class Way(Enum):
    """How an artefact is run; all but PLAIN are for comparison."""

    PLAIN = "plain"
    """The default: TensorFlow's graph, the original file, ONNX Runtime on the CPU, the engine."""
    CPU = "cpu"
    """A classifier through TensorFlow on the CPU, even if there is a GPU."""
    XLA = "xla"
    """A classifier through TensorFlow, compiled by XLA."""
    KERAS = "keras"
    """A classifier through Keras' `predict`."""
    CUDA = "cuda"
    """An ONNX file through ONNX Runtime on the GPU."""
    TENSORRT = "tensorrt"
    """An ONNX file through ONNX Runtime's TensorRT execution provider."""


def open_runner(
    artefact: Runnable,
    threads: int = 0,
    way: Way = Way.PLAIN,
    *,
    contained: bool = False,
    batches: Sequence[int] = (),
    wait: Wait | None = None,
) -> Runner:
    """The runner of an artefact, not entered yet. `threads` limits the threads of CPU runners.

    `contained` says that a damaged file may end this process: TFLite files are then loaded without a trial.
    `batches` are the expected batch sizes, for a runner that builds its own engine.
    `wait` is how threads wait for the GPU; None is CUDA's default.
    Raises ValueError if the artefact can't be run in this `way`.
    """
    if isinstance(artefact, Classifier) and baseline_of(artefact.spec) == ORIGINAL:
        if way is not Way.PLAIN:
            raise ValueError(f"{artefact.folder} can't be run by {way.value}: TensorFlow does not run its file")
        return OriginalRunner(artefact, threads)
    if isinstance(artefact, Classifier) and way is Way.KERAS:
        return KerasRunner(artefact, threads)
    if isinstance(artefact, Classifier) and way in (Way.PLAIN, Way.CPU, Way.XLA):
        return TensorFlowRunner(artefact, threads, xla=way is Way.XLA, cpu=way is Way.CPU)
    if isinstance(artefact, OnnxModel) and way in (Way.PLAIN, Way.CUDA, Way.TENSORRT):
        return OnnxRuntimeRunner(artefact, threads, provider="cpu" if way is Way.PLAIN else way.value, batches=batches)
    if isinstance(artefact, TfliteModel) and way is Way.PLAIN:
        return TfliteRunner(artefact, threads, contained=contained)
    if isinstance(artefact, Engine) and way is Way.PLAIN:
        return TensorRtRunner(artefact, wait=wait)
    raise ValueError(f"{type(artefact).__name__} can't be run by {way.value}")
