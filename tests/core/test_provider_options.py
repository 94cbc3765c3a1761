"""Options of ONNX Runtime's GPU providers are the same in `bench`, in bundles and in the docs."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fakes import gpu_onnxruntime as fake
from tests.support.bundle_inputs import tiny_parts
from tests.support.errors import raises
from tests.support.tiny import SIDE, tiny_onnx, tiny_photos
from trtpoets.bundles.onnxruntime_bundle import settings_from_inputs
from trtpoets.core.errors import RunFailed, StorageFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.core.provider_options import (
    PROVIDERS,
    TENSORRT,
    batch_range_for,
    engine_cache_folder,
    providers_of,
    tensorrt_options,
)
from trtpoets.core.serialization import to_json
from trtpoets.core.types import BatchRange, OnnxModel, Precision
from trtpoets.device.runners import Way, open_runner
from trtpoets.judge.bench.bench_child import _serve
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.judge.bench.measured_runner import MeasuredRunner
from trtpoets.judge.bench.meter import Meter

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    fake.forget()
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    yield
    fake.forget()


def model(folder: Path, precision: Precision) -> OnnxModel:
    return tiny_onnx(folder / f"{precision.value}.onnx", precision)


@pytest.mark.parametrize("precision", Precision)
def test_the_engine_is_built_before_anything_is_timed(ort: None, tmp_path: Path, precision: Precision) -> None:
    result = model(tmp_path, precision)
    for _ in range(2):  # the second process finds the engine of the first
        with open_runner(result, way=Way.TENSORRT, batches=(1, 4)) as runner:
            for batch in (1, 4):
                meter = Meter(runner, tiny_photos(4), batch)
                meter.warm_up(0.0, 1.0)
                assert batch in fake.sessions[-1].seen
                meter.round(0.0, 3, 1.0)
    assert fake.built == ["open"]
    options = dict(fake.sessions[-1].providers)[TENSORRT]
    flags = {name for name in ("trt_fp16_enable", "trt_int8_enable") if options.get(name)}
    wanted: dict[Precision, set[str]] = {
        Precision.FP32: set(),
        Precision.FP16: {"trt_fp16_enable"},
        Precision.INT8: {"trt_fp16_enable", "trt_int8_enable"},
    }
    assert flags == wanted[precision]
    folder = Path(options["trt_engine_cache_path"])
    assert folder.parent == tmp_path / "cache" / "onnxruntime-tensorrt"
    assert [path.suffix for path in folder.iterdir()] == [".engine"]


def test_a_round_comes_after_a_warm_up_of_its_batch_size(ort: None, tmp_path: Path) -> None:
    """The child process refuses to measure a batch size without a warm-up."""
    result = model(tmp_path, Precision.FP32)
    photo = tmp_path / "photo.png"
    Image.fromarray(tiny_photos(1)[0]).save(photo)
    first = {
        "artefact": {"kind": "onnx", "path": str(result.path), "spec": result.spec.to_json(), "precision": "fp32"},
        "way": "tensorrt",
        "photos": [[str(photo), sha256_of_file(photo)]],
        "prepared": False,
        "config": {**BenchConfig(batches=(1, 64), warmup_seconds=0.0).__dict__},
        "energy": False,
        "bus_id": None,
    }
    asked = [
        {"round": 64, "seconds": 0.0, "count": 1, "limit": 1.0},
        {"warm_up": 64},
        {"round": 64, "seconds": 0.0, "count": 1, "limit": 1.0},
    ]
    calls: list[dict[str, object]] = []
    lines = iter([json.dumps(item) for item in (first, *asked)])

    class Requests:
        def readline(self) -> str:
            return next(lines)

        def __iter__(self) -> Iterator[str]:
            return lines

    _serve(Requests(), open_runner, lambda **reply: calls.append(reply))  # type: ignore[arg-type]
    assert [next(iter(item)) for item in calls] == ["loaded", "failure", "warmup", "round"]
    assert fake.sessions[-1].profile == (1, 64, 64)
    assert fake.built == ["open"]


def test_loading_may_take_as_long_as_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is built while the runner loads; that is not a hang."""
    result, asked = model(tmp_path, Precision.FP32), []
    for way in (Way.PLAIN, Way.CUDA, Way.TENSORRT):
        runner = MeasuredRunner(result, way, BenchConfig())
        monkeypatch.setattr(runner, "_answer", lambda batch, timeout=None: asked.append(timeout))
        runner.load([sys.executable, "-c", ""], [], False)
        runner.wait_loaded()
        runner.end()
    assert asked == [None, None, 1800.0]


def test_larger_batches_go_in_pieces(ort: None, tmp_path: Path) -> None:
    result = model(tmp_path, Precision.FP32)
    photos = tiny_photos(70)
    with open_runner(result) as cpu, open_runner(result, way=Way.TENSORRT) as runner:
        np.testing.assert_allclose(runner.infer(photos), cpu.infer(photos), atol=1e-6)
        assert fake.sessions[-1].seen == {32, 6}


def test_a_provider_that_fails_is_not_replaced_by_another(ort: None, tmp_path: Path) -> None:
    result = model(tmp_path, Precision.FP32)
    for way in (Way.CUDA, Way.TENSORRT):
        with open_runner(result, way=way) as runner:
            runner.infer(tiny_photos(2))
            fake.sessions[-1].failing = True
            with raises(RunFailed, "TP4085", "CUDA failure 700"):
                runner.infer(tiny_photos(2))
    (tmp_path / "int8.onnx").write_bytes(model(tmp_path, Precision.INT8).path.read_bytes())
    as_fp32 = OnnxModel(tmp_path / "int8.onnx", Precision.FP32, result.spec)  # its options lack the flag
    with raises(RunFailed, "TP1043", "TensorrtExecutionProvider", "could not build engine"):
        open_runner(as_fp32, way=Way.TENSORRT).__enter__()


def test_listed_is_not_loaded(ort: None, tmp_path: Path) -> None:
    """`get_available_providers` lists TensorRT's provider even if libnvinfer is missing."""
    fake.loading.discard(TENSORRT)
    assert TENSORRT in fake.get_available_providers()
    with raises(RunFailed, "TP4084", "CUDAExecutionProvider", "Tensorrt"):
        open_runner(model(tmp_path, Precision.FP32), way=Way.TENSORRT).__enter__()


def test_bundles_ship_the_same_options(tmp_path: Path) -> None:
    parts = tiny_parts(tmp_path)
    settings = to_json(settings_from_inputs(parts))
    for word, provider in PROVIDERS.items():
        for precision in Precision:
            expected = providers_of(provider, parts.model(precision), batch_range_for((8,)), "built/tensorrt")
            assert settings[word]["providers"][precision.value] == [list(item) for item in expected]


def test_ranges() -> None:
    assert batch_range_for(()) == batch_range_for((1, 8)) == BatchRange()
    assert batch_range_for((1, 4)) == BatchRange(1, 4, 32)
    assert batch_range_for((1, 64)) == BatchRange(1, 64, 64)
    assert batch_range_for((8, 128)) == BatchRange(1, 8, 128)


def test_the_engines_of_another_user_are_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path))
    folder = engine_cache_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with raises(StorageFailed, "TP1072"):
        engine_cache_folder()
    folder.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with raises(StorageFailed, "TP1072"):
        engine_cache_folder()


def test_the_docs_name_every_option(tmp_path: Path) -> None:
    text = (DOCS / "reference" / "onnxruntime.md").read_text()
    named = set(re.findall(r"`([a-z0-9_]+)`", text))
    options = tensorrt_options(model(tmp_path, Precision.INT8), BatchRange(), "folder")
    assert options.keys() <= fake.TENSORRT_OPTIONS
    assert {
        *options,
        *providers_of(PROVIDERS["cuda"], model(tmp_path, Precision.FP32), BatchRange(), "")[0][1],
    } <= named
    assert options["trt_profile_opt_shapes"] == f"photos:8x{SIDE}x{SIDE}x3"
