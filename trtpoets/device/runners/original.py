"""Runs the file of another program in its own framework: the baseline of an adopted ONNX or TFLite file."""

from __future__ import annotations

from types import TracebackType

import numpy as np

from trtpoets.core.authenticity import require_trusted
from trtpoets.core.errors import MissingArtefact
from trtpoets.core.original import Format, scores_from_output, values_from_photos
from trtpoets.core.runner_id import ORIGINAL
from trtpoets.core.types import Classifier
from trtpoets.device.originals import OriginalNetwork, onnx_or_tflite_network
from trtpoets.device.runners.base import Synchronous, check_photos, check_scores, not_entered


class OriginalRunner(Synchronous):
    """Runs the original of an adopted classifier through ONNX Runtime or TFLite.

    `threads` is the number of threads, 0 one per core.

    Pixels and scores are computed by numpy as `core/original.py` defines them; the file itself is unchanged.
    """

    def __init__(self, classifier: Classifier, threads: int = 0) -> None:
        assert classifier.spec.original is not None
        self.identity = ORIGINAL
        self.name = self.identity.name
        self.spec = classifier.spec
        self._original = classifier.spec.original
        self._classifier = classifier
        self._threads = threads
        self._network: OriginalNetwork | None = None

    def __enter__(self) -> OriginalRunner:
        """Load the file. Raises MissingDependency, MissingArtefact or BadArtefact."""
        path = self._classifier.original
        if path is None or not path.is_file():
            raise MissingArtefact(
                f"{path} does not exist", hint="adopt the file again: trtpoets adopt MODEL --name NAME", code="TP9500"
            )
        if self._original.format is Format.TFLITE:  # the interpreter can write outside of its memory
            require_trusted(self._classifier.folder, self._classifier.foreign)
        network = onnx_or_tflite_network(
            self._original.format, path, self._original.input, self._original.output, self._threads
        )
        self._network = network.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        network, self._network = self._network, None
        if network is not None:
            network.__exit__(kind, error, trace)

    def infer(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
        if self._network is None:
            raise not_entered(self.name)
        check_photos(photos, self.spec)
        values = values_from_photos(photos, self.spec.preprocess, self._original.channels)
        scores = scores_from_output(self._network.infer(values), self._original.output)
        return check_scores(scores, len(photos), self.spec, self.name)
