"""The runner of Keras."""

from __future__ import annotations

from pathlib import Path

from tests.support.errors import raises
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.types import Classifier
from trtpoets.device.runners import Way, open_runner


def test_a_classifier_without_its_keras_file(tmp_path: Path) -> None:
    runner = open_runner(Classifier(tmp_path, tiny_spec()), way=Way.KERAS)
    with raises(MissingArtefact, "TP4081", "classifier.keras"), runner:
        pass
    (tmp_path / "classifier.keras").write_bytes(b"not a model")
    with raises(BadArtefact, "TP4082"), runner:
        pass
