"""Engines that ONNX Runtime builds, kept by GPU and library."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trtpoets.device import ort_engines
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.ort_engines import engines_below


def test_each_gpu_and_library_has_engines_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ONNX Runtime's own file names do not distinguish GPUs of one capability or TensorRT versions."""
    agx = Gpu("Orin", (8, 7), 61 << 30, 16, True, "NVIDIA Jetson AGX Orin Developer Kit")
    here: dict[str, Any] = {"gpu": agx, "driver": "L4T R36.4.3", "packages": {"onnxruntime-gpu": "1.23.0"}}
    monkeypatch.setattr(libcuda, "gpus", lambda: (here["gpu"],))
    monkeypatch.setattr(libcuda, "driver_version", lambda: here["driver"])
    monkeypatch.setattr(ort_engines, "installed", lambda names: here["packages"])
    seen = [engines_below(tmp_path)]
    assert engines_below(tmp_path) == seen[0]
    for change in (
        {"gpu": replace(agx, multiprocessors=8, board="NVIDIA Jetson Orin NX Developer Kit")},
        {"driver": "L4T R36.5.0"},  # another JetPack, another TensorRT
        {"packages": {"onnxruntime-gpu": "1.24.0"}},
    ):
        here.update(change)
        seen.append(engines_below(tmp_path))
    assert len(set(seen)) == 4 and {path.parent for path in seen} == {tmp_path}
