"""The cache of kernels that TensorRT-RTX compiled on this GPU."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.fakes.engine import paper_engine
from tests.fakes.gpu import FakeGpu, nothing_left
from tests.fakes.gpu_driver import FakeDriver
from tests.fakes.tensorrt_runtime import VERSION
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.types import Flavour
from trtpoets.device.runners import open_runner


def test_rtx_captures_by_itself_and_keeps_its_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    engine = paper_engine(tmp_path, Flavour.RTX)
    cache = engine.path.with_name(f"{engine.path.name}.{VERSION}-sm86-paper-gpu.runtime-cache")
    with nothing_left(gpu):
        with open_runner(engine) as runner:
            for _ in range(3):
                runner.infer(tiny_photos(2))
        assert "begin capture" not in gpu.journal
        assert (gpu.cache_in, cache.read_bytes()) == (None, b"compiled kernels")
        written = cache.stat().st_mtime_ns
        with open_runner(engine):
            assert gpu.cache_in == b"compiled kernels"
        assert cache.stat().st_mtime_ns == written, "an unchanged cache is not written again"


def test_a_foreign_runtime_cache_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    gpu.cache_accepted = gpu.cache_taken = False
    engine = paper_engine(tmp_path, Flavour.RTX)
    gpu.cache_out = b"of another release"
    with open_runner(engine):
        pass
    with nothing_left(gpu), caplog.at_level(logging.WARNING), open_runner(engine) as runner:
        runner.infer(tiny_photos(1))
    assert "the runtime cache is from another GPU or library" in caplog.text
    assert "kernels are compiled at every start" in caplog.text


def test_kernels_are_kept_apart_by_library_and_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    engine = paper_engine(tmp_path, Flavour.RTX)
    with nothing_left(gpu):
        with open_runner(engine):
            pass
        gpu.cache_out = b"of the other GPU"
        monkeypatch.setattr(FakeDriver, "cuDeviceGetName", lambda self, name, *_: setattr(name, "value", b"RTX (TM) 1"))
        with open_runner(engine):
            assert gpu.cache_in is None
    kept = {file.name: file.read_bytes() for file in engine.path.parent.glob("*.runtime-cache")}
    assert kept == {
        f"{engine.path.name}.{VERSION}-sm86-paper-gpu.runtime-cache": b"compiled kernels",
        f"{engine.path.name}.{VERSION}-sm86-rtx-tm-1.runtime-cache": b"of the other GPU",
    }


def test_a_runtime_cache_that_fails_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    engine = paper_engine(tmp_path, Flavour.RTX)
    engine.path.with_name(f"{engine.path.name}.{VERSION}-sm86-paper-gpu.runtime-cache").mkdir()
    with nothing_left(gpu), caplog.at_level(logging.WARNING), open_runner(engine) as runner:
        runner.infer(tiny_photos(1))
    assert "the runtime cache can't be read, so its kernels are compiled again" in caplog.text
    assert "the runtime cache of this engine could not be saved" in caplog.text
