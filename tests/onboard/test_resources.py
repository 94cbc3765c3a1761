"""Disk and memory that a build needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import BuildFailed, RunFailed, StorageFailed
from trtpoets.core.types import Precision
from trtpoets.device.gpu import libcuda
from trtpoets.onboard import resources
from trtpoets.onboard.installed_bundle import open_bundle
from trtpoets.onboard.resources import require_room


def test_too_little_disk_or_memory(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_bundle(bundle).onnx(Precision.INT8)
    require_room(model, bundle / "built")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable:     300000 kB\nSwapFree:          0 kB\n")
    with raises(BuildFailed, "TP7033", "292", "400") as caught:
        require_room(model, bundle / "built", tmp_path)
    assert "add swap" in caught.value.hint
    usage = shutil.disk_usage(bundle)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=31 << 20))
    with raises(StorageFailed, "TP7032", "31", "int8.onnx", "32"):
        require_room(model, bundle / "built")


@pytest.mark.parametrize(
    ("cuda", "environment", "mib"),
    [
        ("11.4", {}, 1400),  # JetPack 5
        ("11.4", {"CUDA_MODULE_LOADING": "LAZY"}, 1400),  # CUDA ignores it
        ("11.8", {}, 400),
        ("12.6", {}, 400),
        ("12.6", {"CUDA_MODULE_LOADING": "EAGER"}, 1400),
        (None, {}, 400),
    ],
)
def test_libraries_take_more_where_cuda_loads_all_kernels(
    cuda: str | None,
    environment: dict[str, str],
    mib: int,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resources.library_mib(cuda, environment) == mib

    def version() -> str:
        if cuda is None:
            raise RunFailed("no NVIDIA driver here")
        return cuda

    monkeypatch.setattr(libcuda, "cuda_version", version)
    monkeypatch.delenv("CUDA_MODULE_LOADING", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable:     300000 kB\nSwapFree:          0 kB\n")
    with raises(BuildFailed, "TP7033", "292 MiB", "int8.onnx", f" {mib:,} "):
        require_room(open_bundle(bundle).onnx(Precision.INT8), bundle / "built", tmp_path)
