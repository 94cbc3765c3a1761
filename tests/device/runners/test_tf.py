"""The runner of TensorFlow, where its model or its settings do not fit."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.types import Classifier
from trtpoets.device.runners import open_runner


def test_a_classifier_without_its_saved_model(tmp_path: Path) -> None:
    with pytest.raises(MissingArtefact, match="has no SavedModel"), open_runner(Classifier(tmp_path, tiny_spec())):
        pass


def test_a_damaged_saved_model(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(b"not a graph")
    with pytest.raises(BadArtefact, match="TensorFlow can't load"), open_runner(Classifier(tmp_path, tiny_spec())):
        pass


def test_threads_come_too_late(classifier: Classifier, caplog: pytest.LogCaptureFixture) -> None:
    with open_runner(classifier) as first:
        first.infer(tiny_photos(1))
    with caplog.at_level(logging.WARNING), open_runner(classifier, threads=1) as runner:
        runner.infer(tiny_photos(1))
    assert "its number of threads can't be changed" in caplog.text
