"""Whether a runner computes on the GPU."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from trtpoets.core.runner_id import TENSORFLOW, Library, RunnerId
from trtpoets.core.types import Precision
from trtpoets.device.runners.gpu import runs_on_gpu


def runner(identity: RunnerId) -> Any:
    return SimpleNamespace(identity=identity)


@pytest.mark.parametrize(("way", "expected"), [("", False), ("cuda", True), ("tensorrt", True)])
def test_onnx_runtime_by_its_provider(way: str, expected: bool) -> None:
    assert runs_on_gpu(runner(RunnerId(Library.ONNXRUNTIME, Precision.FP32, way))) is expected


def test_engines_always_do() -> None:
    assert runs_on_gpu(runner(RunnerId(Library.TENSORRT, Precision.INT8)))


@pytest.mark.parametrize("gpus", [[], ["GPU:0"]])
def test_tensorflow_if_it_sees_a_gpu(monkeypatch: pytest.MonkeyPatch, gpus: list[str]) -> None:
    config = SimpleNamespace(get_visible_devices=lambda kind: gpus if kind == "GPU" else ["CPU:0"])
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))
    assert runs_on_gpu(runner(TENSORFLOW)) is bool(gpus)
    monkeypatch.delitem(sys.modules, "tensorflow")
    assert not runs_on_gpu(runner(TENSORFLOW))
