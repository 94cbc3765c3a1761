"""The runner of ONNX Runtime: files that it refuses, and its providers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.errors import raises
from tests.support.tiny import tiny_onnx
from trtpoets.core.errors import BadArtefact, RunFailed
from trtpoets.device.runners import Way, open_runner
from trtpoets.device.runners.ort import gpu_providers


def test_an_onnx_file_that_runtime_refuses(tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "tiny.onnx")
    model.path.write_bytes(b"\x08\x08garbage")
    with raises(BadArtefact, "TP1044"), open_runner(model):
        pass


def test_a_provider_that_does_not_load(tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "tiny.onnx")
    runner = open_runner(model, way=Way.CUDA)
    assert runner.name == "onnxruntime-cuda-fp32"
    # This ONNX Runtime has no CUDA; one that has, but no GPU, falls back just as silently.
    with (
        raises(RunFailed, "TP4084", "CPUExecutionProvider", "CUDAExecutionProvider"),
        runner,
    ):
        pass


def test_providers_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(get_available_providers=lambda: there))
    assert gpu_providers() == ["cuda", "tensorrt"]
    there[:2] = ["AzureExecutionProvider"]
    assert gpu_providers() == []
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert gpu_providers() == []
