"""The runner of TensorFlow, where its model or its settings do not fit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core import verified_files
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.optional import tensorflow
from trtpoets.core.types import Classifier
from trtpoets.core.verified_files import verifying_once
from trtpoets.device.runners import open_runner


def test_a_classifier_without_its_saved_model(tmp_path: Path) -> None:
    with raises(MissingArtefact, "TP4086"), open_runner(Classifier(tmp_path, tiny_spec())):
        pass


def test_a_damaged_saved_model(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(b"not a graph")
    with raises(BadArtefact, "TP4087"), open_runner(Classifier(tmp_path, tiny_spec())):
        pass


def test_threads_come_too_late(classifier: Classifier, caplog: pytest.LogCaptureFixture) -> None:
    with open_runner(classifier) as first:
        first.infer(tiny_photos(1))
    with caplog.at_level(logging.WARNING), open_runner(classifier, threads=1) as runner:
        runner.infer(tiny_photos(1))
    assert "its number of threads can't be changed" in caplog.text


def test_the_stages_of_a_command_load_the_network_once(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    saved_model = tensorflow().saved_model
    load, loaded = saved_model.load, []

    def counted(path: str) -> Any:
        loaded.append(path)
        return load(path)

    monkeypatch.setattr(saved_model, "load", counted)
    monkeypatch.setattr(verified_files, "_MOMENT_NS", 0)
    scores = []
    with verifying_once():
        for _ in range(2):
            with open_runner(classifier) as runner:
                scores.append(runner.infer(tiny_photos(2)))
    assert len(loaded) == 1
    assert np.array_equal(scores[0], scores[1])
    with open_runner(classifier):
        assert len(loaded) == 2, "another command loads it again"
