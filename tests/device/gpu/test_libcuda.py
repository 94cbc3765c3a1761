"""Properties of the driver and of its GPUs."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gpu import FakeGpu
from tests.fakes.gpu_driver import FakeDriver
from tests.support.errors import raises
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import RunFailed
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.cuda import CudaSession


def test_old_drivers_have_the_old_name(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libcuda, "load_driver", lambda: FakeDriver(gpu, old=True))
    ran: list[int] = []
    with CudaSession() as session, session.current():
        graph = session.capture(lambda: gpu.submit(session.stream, "work", lambda: ran.append(1)))
        assert graph is not None and ran == []
        graph.launch(session.stream)
        graph.launch(session.stream)
        session.synchronize()
        graph.close()
    assert ran == [1, 1]


def test_the_gpu_describes_itself(gpu: FakeGpu) -> None:
    (result,) = libcuda.gpus()
    assert result == libcuda.Gpu("Paper GPU", (8, 6), 8 << 30, multiprocessors=28)
    assert result.target == "sm86" and libcuda.cuda_version() == "12.6"
    assert libcuda.Gpu("new", (12, 0), 1).target == "sm120"


def test_a_driver_that_sees_no_gpu(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeDriver, "cuDeviceGetCount", lambda self, count: 100)
    with raises(RunFailed, "TP4068", "cuDeviceGetCount", "CUDA_ERROR_NO_DEVICE"):
        libcuda.gpus()
    monkeypatch.setattr(FakeDriver, "cuDeviceGetCount", lambda self, count: 0)
    with raises(RunFailed, "TP4067"):
        libcuda.gpus()


def test_a_driver_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(FakeGpu(tiny_spec()))
    monkeypatch.setattr(driver, "cuInit", lambda flags: 100)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    with raises(RunFailed, "TP4066", "CUDA_ERROR_NO_DEVICE") as caught:
        libcuda.load_driver()
    assert "--gpus all" in caught.value.hint


ON_ORIN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@mobile-u64-6336)  "
    "Tue Jan  7 17:14:52 PST 2025\nGCC version:  collect2: error: ld returned 1 exit status\n"
)


@pytest.mark.parametrize(
    ("module", "tegra", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\nGCC version:  gcc 12.3.0\n",
            "",
            "550.54.15",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\n",
            "",
            "570.86.10",
        ),
        ("", "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64\n", "L4T R32.7.1"),
        (ON_ORIN, "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n", "L4T R36.4.3"),
        (ON_ORIN, "", "540.4.0"),  # in a container
        ("", "", None),
    ],
)
def test_driver_versions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, tegra: str, version: str | None
) -> None:
    monkeypatch.setattr(libcuda, "_ROOT", tmp_path)
    for name, text in (("proc/driver/nvidia/version", module), ("etc/nv_tegra_release", tegra)):
        if text:
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_text(text)
    assert libcuda.driver_version() == version


@pytest.mark.parametrize(
    ("gib", "memory_gib", "model", "integrated"),
    [(61.4, 64, "NVIDIA Jetson AGX Orin Developer Kit\0", 1), (7.4, 8, "", 1), (11.75, 12, "", 0)],
)
def test_gpus_are_distinguished(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gib: float, memory_gib: int, model: str, integrated: int
) -> None:
    tree = tmp_path / "proc" / "device-tree"
    if model:
        tree.mkdir(parents=True)
        (tree / "model").write_text(model)
    monkeypatch.setattr(libcuda, "_ROOT", tmp_path)

    class Driver(FakeDriver):
        def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:
            memory._obj.value = int(gib * 2**30)
            return 0

        def cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> int:
            value._obj.value = {16: 8, 18: integrated, 75: 8, 76: 7}[which]
            return 0

    monkeypatch.setattr(libcuda, "load_driver", lambda: Driver(FakeGpu(tiny_spec())))
    (gpu,) = libcuda.gpus()
    assert gpu.identity == ("Paper GPU", "sm87", 8, memory_gib, model.rstrip("\0") or None)
    assert gpu.integrated == bool(integrated)
