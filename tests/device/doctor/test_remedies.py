"""Commands that fix what the doctor finds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.container_images import ROOT
from tests.fakes.machines import NOT_INSTALLED, jetson_files, system, with_gpu, write
from tests.support.machines import NANO, UBUNTU, checked
from trtpoets.core.errors import MissingDependency, RunFailed
from trtpoets.core.types import Flavour
from trtpoets.device.doctor import diagnose
from trtpoets.device.doctor.findings import State
from trtpoets.device.doctor.software import Loaded
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.tensorrt_api import load_tensorrt


def test_a_venv_without_the_systems_packages(tmp_path: Path) -> None:
    root = write(tmp_path, jetson_files("36 4.3", *NANO, "3.10"))
    blind = system(root, "3.10.12", sees_system=False)
    findings = checked(diagnose(blind, with_gpu((8, 7), "", "12.6")))
    line = "sed -i 's/^include-system-site-packages.*/include-system-site-packages = true/' /home/me/.venv/pyvenv.cfg"
    assert findings["TensorRT"].state is State.MISSING
    assert findings["TensorRT"].found == "/usr/lib/python3.10/dist-packages/tensorrt is not seen by this Python"
    assert findings["TensorRT"].hint == findings["build TensorRT engines"].hint == findings["run engines"].hint == line

    config = write(tmp_path, {"pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = false\n"}) / "pyvenv.cfg"
    subprocess.run(["bash", "-c", line.replace("/home/me/.venv/pyvenv.cfg", str(config))], check=True)
    assert config.read_text() == "home = /usr/bin\ninclude-system-site-packages = true\n"


def test_a_python_that_is_not_the_systems(tmp_path: Path) -> None:
    root = write(tmp_path, jetson_files("36 4.3", *NANO, "3.10"))
    findings = checked(diagnose(system(root, "3.12.1", sees_system=False), with_gpu((8, 7), "", "12.6")))
    assert findings["TensorRT"].hint == (
        "TensorRT is for the system's Python 3.10: /usr/bin/python3 -m venv --system-site-packages .venv"
    )


def test_a_jetson_without_tensorrt(tmp_path: Path) -> None:
    files = {name: text for name, text in jetson_files("36 4.3", *NANO, "3.10").items() if "tensorrt" not in name}
    bare = with_gpu((8, 7), "", "12.6", pycuda=NOT_INSTALLED, packages={})
    findings = checked(diagnose(system(write(tmp_path, files)), bare))
    assert findings["TensorRT"].hint == "sudo apt update && sudo apt install -y nvidia-jetpack python3-libnvinfer"
    assert findings["pycuda"].hint == (
        "sudo apt install -y build-essential python3-dev && PATH=/usr/local/cuda/bin:$PATH pip install pycuda"
    )


@pytest.mark.parametrize(
    ("packages", "cuda", "problem", "hint"),
    [
        (
            {"tensorrt-cu12": "10.13", "tensorrt-cu12-libs": "10.13", "tensorrt-cu13": "11.0", "tensorrt": "11.0"},
            "12.6",
            "wheels for CUDA 12 and 13 are both installed, and overwrite each other",
            "pip uninstall -y tensorrt tensorrt-cu12 tensorrt-cu12-libs tensorrt-cu13 && pip install tensorrt-cu12",
        ),
        (
            {"tensorrt-cu12": "10.13", "tensorrt-cu13": "11.0"},
            "13.1",
            "wheels for CUDA 12 and 13 are both installed, and overwrite each other",
            "pip uninstall -y tensorrt-cu12 tensorrt-cu13 && pip install tensorrt-cu13",
        ),
        (
            {"tensorrt-cu13": "11.0", "tensorrt-cu13-libs": "11.0"},
            "12.6",
            "tensorrt-cu13 needs a driver for CUDA 13; this one serves 12.6",
            "pip uninstall -y tensorrt-cu13 tensorrt-cu13-libs && pip install tensorrt-cu12",
        ),
    ],
)
def test_cuda_12_and_13_mixed_up(tmp_path: Path, packages: dict[str, str], cuda: str, problem: str, hint: str) -> None:
    here = with_gpu((8, 6), "11.0.0", cuda, "RTX 3060", packages=packages)
    findings = checked(diagnose(system(write(tmp_path, UBUNTU)), here))
    assert (findings["TensorRT"].found, findings["TensorRT"].hint) == (problem, hint)
    assert findings["build TensorRT engines"].hint == findings["run engines"].hint == hint


@pytest.mark.parametrize(
    ("cuda", "capability", "extras"),
    [
        ("12.8", (8, 9), ("tensorrt-cu12", "rtx-cu12")),
        ("13.1", (8, 9), ("tensorrt-cu13", "rtx-cu13")),
        ("13.0", (7, 0), ("tensorrt-cu12", "rtx-cu12")),
        ("", (), ("tensorrt", "rtx")),
    ],
)
def test_hints_name_the_extra_that_the_driver_runs(
    monkeypatch: pytest.MonkeyPatch, cuda: str, capability: tuple[int, int], extras: tuple[str, str]
) -> None:
    def gpus() -> tuple[Gpu, ...]:
        if not cuda:
            raise RunFailed("no NVIDIA driver here")
        return (Gpu("some GPU", capability, 8 << 30),)

    monkeypatch.setattr(libcuda, "gpus", gpus)
    monkeypatch.setattr(libcuda, "cuda_version", lambda: cuda)
    monkeypatch.setattr(libcuda, "module_version", lambda: None)
    known = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for flavour, module, extra in zip(Flavour, ("tensorrt", "tensorrt_rtx"), extras, strict=True):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingDependency) as caught:
            load_tensorrt(flavour)
        assert caught.value.hint == f"pip install 'trtpoets[{extra}]'"
        assert extra in known


def test_pycuda_without_a_compiler(tmp_path: Path) -> None:
    here = with_gpu((8, 6), "10.13.3.9", "12.6", "RTX 3060", pycuda=Loaded(problem="libcurand.so.10: no such file"))
    findings = checked(diagnose(system(write(tmp_path, {"etc/os-release": ""})), here))
    assert findings["pycuda"].found == "libcurand.so.10: no such file"
    assert findings["pycuda"].hint == (
        "sudo apt install -y build-essential python3-dev nvidia-cuda-toolkit "
        "&& pip install --force-reinstall --no-cache-dir pycuda"
    )
