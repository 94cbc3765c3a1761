"""Machines from documented facts: the system files of a Jetson or server, and the software that loads on it.

They stand for boards and servers that were not available; the facts are from NVIDIA's documentation.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from trtpoets.device.doctor.software import Loaded, Software
from trtpoets.device.doctor.system import PythonFacts, System, system_at
from trtpoets.device.gpu.libcuda import Gpu

TRAINING = {"tensorflow": "2.21.0", "tf2onnx": "1.17.0", "onnx": "1.20.0", "onnxruntime": "1.24.0"}

NOT_INSTALLED = Loaded(problem="No module named 'x'")

NVPMODEL = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def jetson_files(release: str, model: str, compatible: str, python: str, mode: str = "pmode:0002") -> dict[str, str]:
    """Write the files of a board. `release` is like "36 4.3"."""
    major, revision = release.split()
    return {
        "etc/nv_tegra_release": f"# R{major} (release), REVISION: {revision}, GCID: 38968081, BOARD: generic, EABI: a",
        "proc/device-tree/model": f"{model}\0",
        "proc/device-tree/compatible": f"nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,{compatible}\0",
        "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 62.50\nCPU implementer\t: 0x41\n",
        "proc/meminfo": "MemTotal:        7802840 kB\nMemFree:         1000000 kB\n",
        "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "etc/nvpmodel.conf": NVPMODEL,
        "var/lib/nvpmodel/status": f"{mode} fmode:fanNull",
        f"usr/lib/python{python}/dist-packages/tensorrt/__init__.py": "",
        "usr/local/cuda/bin/nvcc": "",
        "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}',
    }


def system(root: Path, python: str = "3.10.12", in_venv: bool = True, sees_system: bool = True, **other: Any) -> System:
    """The machine whose files are below `root`, with a Python of its own."""
    result = system_at(root, other.pop("environment", {}))
    return replace(result, python=PythonFacts(python, "/home/me/.venv", in_venv, sees_system), **other)


def software(**changes: Any) -> Software:
    """A machine on which nothing loads, with `changes` applied."""
    nothing = Software(
        gpus=(),
        gpu_problem="no NVIDIA driver here: libcuda.so.1: cannot open shared object file",
        gpu_hint="run it on a machine with an NVIDIA GPU and its driver",
        driver=None,
        driver_cuda=None,
        tensorrt=NOT_INSTALLED,
        rtx=NOT_INSTALLED,
        pycuda=NOT_INSTALLED,
        packages={},
        tensorflow_gpus=None,
        providers=(),
    )
    return replace(nothing, **changes)


def with_gpu(capability: tuple[int, int], tensorrt: str, cuda: str, name: str = "Orin", **changes: Any) -> Software:
    """A GPU with driver, TensorRT and pycuda, with `changes` applied."""
    values: dict[str, Any] = {
        "gpus": (Gpu(name, capability, 8 << 30),),
        "gpu_problem": "",
        "gpu_hint": "",
        "driver": "L4T R36.4.3" if name == "Orin" else "560.35.03",
        "driver_cuda": cuda,
        "tensorrt": Loaded(tensorrt) if tensorrt else NOT_INSTALLED,
        "pycuda": Loaded(f"{cuda}.0"),
        "packages": {"pycuda": "2026.1"},
    }
    return software(**{**values, **changes})
