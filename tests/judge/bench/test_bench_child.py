"""How artefacts reach the process that runs them."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from tests.support.tiny import tiny_spec
from trtpoets.core.errors import MissingArtefact
from trtpoets.core.types import Classifier, OnnxModel, Precision, TfliteModel
from trtpoets.judge.bench.bench_child import artefact_from_description, description_from_artefact, wait_until_idle


def test_artefacts_travel_to_the_child(tmp_path: Path) -> None:
    folder = tmp_path / "a folder\udcff"
    for artefact in (
        Classifier(folder, tiny_spec()),
        OnnxModel(folder / "int8.onnx", Precision.INT8, tiny_spec()),
        TfliteModel(folder / "int8.tflite", Precision.INT8, tiny_spec()),
    ):
        text = json.dumps(description_from_artefact(artefact))
        assert artefact_from_description(json.loads(text)) == artefact
    with pytest.raises(MissingArtefact):
        artefact_from_description({"kind": "engine", "path": str(tmp_path / "none.engine")})


def test_a_reply_waits_for_threads_that_spin() -> None:
    stop, spins = threading.Event(), 0

    def spin(until: float) -> None:
        nonlocal spins
        while time.monotonic() < until and not stop.is_set():
            spins += 1

    brief = threading.Thread(target=spin, args=(time.monotonic() + 0.05,))
    brief.start()
    assert wait_until_idle(limit=10)
    assert not brief.is_alive()
    endless = threading.Thread(target=spin, args=(time.monotonic() + 60,))
    endless.start()
    assert not wait_until_idle(limit=0.02)
    assert endless.is_alive()
    stop.set()
    endless.join()
    assert spins
