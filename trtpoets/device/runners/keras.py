"""Runs the classifier through Keras' `predict`, as a second baseline."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np

from trtpoets.core.authenticity import require_trusted
from trtpoets.core.errors import BadArtefact, MissingArtefact, RunFailed, first_line
from trtpoets.core.keras_settings import keras_defaults
from trtpoets.core.optional import tensorflow
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.types import Classifier
from trtpoets.device.runners.base import Synchronous, check_photos, check_scores, not_entered
from trtpoets.device.runners.tf import limit_threads

_FILE = "classifier.keras"


class KerasRunner(Synchronous):
    """Loads the Keras file of a classifier and calls `predict` for each batch."""

    identity = RunnerId(Library.KERAS, way="predict")
    name = identity.name

    def __init__(self, classifier: Classifier, threads: int = 0) -> None:
        self.spec = classifier.spec
        self._classifier = classifier
        self._path = classifier.folder / _FILE
        self._threads = threads
        self._model: Any = None

    @keras_defaults()
    def __enter__(self) -> KerasRunner:
        """Load the model. Raises MissingDependency, MissingArtefact or BadArtefact."""
        if not self._path.is_file():
            raise MissingArtefact(
                f"{self._path} does not exist", hint="train it: trtpoets retrain PHOTOS --name NAME", code="TP4081"
            )
        require_trusted(self._classifier.folder, self._classifier.foreign)
        tf = tensorflow()
        limit_threads(tf, self._threads)
        try:
            self._model = tf.keras.models.load_model(str(self._path), compile=False)
        except Exception as error:
            reason = first_line(error)
            raise BadArtefact(
                f"Keras can't load {self._path}: {reason}",
                hint="train again: trtpoets retrain PHOTOS --name NAME --force",
                code="TP4082",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._model = None

    @keras_defaults()
    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
        if self._model is None:
            raise not_entered(self.name)
        check_photos(photos, self.spec)
        try:
            scores = self._model.predict(photos, batch_size=len(photos), verbose=0)
        except Exception as error:
            reason = first_line(error)
            raise RunFailed(f"Keras can't run {self._path}: {reason}", hint="train it again", code="TP4083") from error
        return check_scores(np.array(scores), len(photos), self.spec, self.name)
