"""Runs the trained classifier through TensorFlow, which is the baseline, optionally compiled by XLA."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

import numpy as np

from trtpoets.core.authenticity import require_trusted
from trtpoets.core.classifier_hints import make_again
from trtpoets.core.errors import BadArtefact, MissingArtefact, RunFailed, first_line
from trtpoets.core.optional import tensorflow
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, Classifier
from trtpoets.core.verified_files import once
from trtpoets.device.runners.base import Synchronous, check_photos, check_scores, not_entered

log = logging.getLogger(__name__)

_SIGNATURE = "serve"


class TensorFlowRunner(Synchronous):
    """Runs the SavedModel of a classifier. `threads` is the number of threads of one operator; 0 is the default.

    With `xla` the graph is compiled by XLA, once for each batch size. With `cpu` TensorFlow sees no GPU.
    """

    def __init__(self, classifier: Classifier, threads: int = 0, *, xla: bool = False, cpu: bool = False) -> None:
        ways = [word for word, wanted in (("xla", xla), ("cpu", cpu)) if wanted]
        self.identity = RunnerId(Library.TENSORFLOW, way="-".join(ways))
        self.name = self.identity.name
        self.spec = classifier.spec
        self._classifier = classifier
        self._path = classifier.saved_model
        self._threads = threads
        self._xla, self._cpu = xla, cpu
        self._tf: Any = None
        self._model: Any = None
        self._serve: Any = None

    def __enter__(self) -> TensorFlowRunner:
        """Load the SavedModel. Raises MissingDependency, MissingArtefact or BadArtefact."""
        if not (self._path / "saved_model.pb").is_file():
            raise MissingArtefact(
                f"{self._path} has no SavedModel",
                hint=make_again(self.spec),
                code="TP4086",
            )
        require_trusted(self._classifier.folder, self._classifier.foreign)
        tf = tensorflow()
        limit_threads(tf, self._threads)
        if self._cpu:
            _hide_gpus(tf)
        try:
            # Stages of one command load it once. The network has no state that an inference changes.
            what = f"SavedModel, cpu {self._cpu}"
            model = once(what, self._path / "saved_model.pb", lambda: tf.saved_model.load(str(self._path)))
            serve = model.signatures[_SIGNATURE]
            if self._xla:
                serve = tf.function(serve, jit_compile=True)
        except Exception as error:
            reason = first_line(error)
            raise BadArtefact(
                f"TensorFlow can't load {self._path}: {reason}",
                hint=make_again(self.spec),
                code="TP4087",
            ) from error
        # The signature has only weak references to the model's variables, so the model is kept too.
        self._tf, self._model, self._serve = tf, model, serve
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tf = self._model = self._serve = None

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
        if self._serve is None:
            raise not_entered(self.name)
        check_photos(photos, self.spec)
        try:
            answer = self._serve(**{INPUT_NAME: self._tf.constant(photos)})[OUTPUT_NAME]
        except Exception as error:
            reason = first_line(error)
            raise RunFailed(
                f"TensorFlow can't run {self._path}: {reason}", hint=make_again(self.spec), code="TP4088"
            ) from error
        # numpy() may share TensorFlow's memory.
        return check_scores(np.array(answer.numpy()), len(photos), self.spec, self.name)


def _hide_gpus(tf: Any) -> None:
    """Hide all GPUs from TensorFlow in this process. Raises RunFailed if it already uses one."""
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError as error:
        raise RunFailed(
            "TensorFlow already uses the GPU in this process, so it can't run on the CPU only",
            hint="run it in a separate process, as trtpoets bench does",
            code="TP4089",
        ) from error


def limit_threads(tf: Any, threads: int) -> None:
    """Limit TensorFlow to `threads` threads per operator and one operator at a time; 0 is its default."""
    if not threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        log.warning("TensorFlow has already run in this process: its number of threads can't be changed")
