"""Engines that were built elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import trtpoets
from tests.fakes.engine import expected_scores, paper_engine
from tests.fakes.gpu import FakeGpu
from tests.support.errors import raises
from tests.support.foreign_engines import a_photo, foreign, record_runtime
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact, RunFailed
from trtpoets.device.build.foreign_engine import engine_from_file
from trtpoets.device.runners import open_runner


def test_a_trusted_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(tiny_spec()).install(monkeypatch)
    record_runtime(monkeypatch)
    path = foreign(tmp_path)
    engine = engine_from_file(path, trust=True)
    assert (engine.has_card, engine.card.tensorrt_version, engine.card.targets) == (False, "10.3.0.26", ("sm86",))
    photos = tiny_photos(3)
    with open_runner(engine) as runner:
        assert runner.name == "tensorrt-fp16"
        assert np.allclose(runner.infer(photos), expected_scores(photos))
    photo = a_photo(tmp_path)
    (answer,) = trtpoets.label(str(path), [photo], trust=True)
    assert set(answer.labels) == {"ant", "bee", "cow"}


def test_trust_does_not_make_versions_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch)
    engine = engine_from_file(foreign(tmp_path, version=(10, 7, 0, 23)), trust=True)
    with raises(RunFailed, "TP4016", "tensorrt", "10.7.0.23", "TensorRT 10.3.0"):
        open_runner(engine).__enter__()
    assert "new engine" not in gpu.journal


def test_an_engine_whose_card_vouches_needs_no_trust(tmp_path: Path) -> None:
    engine = paper_engine(tmp_path)
    assert engine_from_file(engine.path) == engine and engine.has_card
    engine.path.write_bytes(b"\x9c\x01\x02\x9dsomething else")
    with raises(BadArtefact, "TP4042", engine.path, "changed or damaged"):
        engine_from_file(engine.path)


def test_what_a_trusted_engine_must_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(tiny_spec()).install(monkeypatch)
    with raises(MissingArtefact, "TP4041"):
        engine_from_file(tmp_path / "none.plan", trust=True)
    with raises(BadInput, "TP4044") as named:
        engine_from_file(foreign(tmp_path, "mine.plan"), trust=True)
    assert named.value.hint == "rename it, for example: fp16.mine.plan"
    path = foreign(tmp_path)
    (tmp_path / "model.json").unlink()
    with raises(MissingArtefact, "TP4043"):
        engine_from_file(path, trust=True)
    path.write_bytes(b"ptrt\0of 8.5, perhaps")
    with raises(BadArtefact, "TP4047"):
        engine_from_file(path, trust=True)
