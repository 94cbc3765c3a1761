"""The conditions of a measurement: machine, versions, load. Reads files and metadata, imports nothing heavy."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Mapping

from trtpoets.core.optional import installed
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.system_files import memory_of, system_text
from trtpoets.device.doctor.system import System, system_at
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.nvml import gpu_state
from trtpoets.device.gpu.pci import cuda_bus_id
from trtpoets.judge.bench.slowdown_watch import jetson_gpu_clock

PACKAGES = (
    "trtpoets",
    "numpy",
    "pillow",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "ai-edge-litert",
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-rtx-cu12",
    "tensorrt-rtx-cu13",
    "pycuda",
    "cuda-bindings",
)
"""Packages whose versions affect a result."""


@dataclass(frozen=True)
class GpuState:
    """The state of a GPU before the measurements. What its driver does not report is None.

    Clocks are in MHz, power in watts, memory in MiB, temperature in degrees Celsius. `throttled` names what lowers the
    clocks, `processes` is the number of processes that compute on it.
    """

    name: str | None = None
    pci_bus_id: str | None = None
    sm_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttled: tuple[str, ...] = ()
    sm_mhz_most: float | None = None
    memory_mhz: float | None = None
    power_limit_w: float | None = None
    memory_used_mib: float | None = None
    processes: int | None = None


@dataclass(frozen=True)
class JetsonConditions:
    """A Jetson's model, its L4T release, JetPack, power mode and the clock of its GPU (now, and the maximum) in MHz."""

    model: str | None = None
    l4t: str | None = None
    jetpack: str | None = None
    power_mode: str | None = None
    gpu_mhz: float | None = None
    gpu_mhz_most: float | None = None


@dataclass(frozen=True)
class EnergyConditions:
    """The part of the machine whose energy is measured, and its power when idle, in watts."""

    covers: str
    idle_watts: float | None = None


@dataclass(frozen=True)
class Conditions:
    """The machine that something was measured on. What is not known is None, or absent from `versions`.

    Memory is in MiB; `load` is the average number of busy processes over the last 1, 5 and 15 minutes. `gpus` is the
    output of nvidia-smi. `gpu_pci_bus_id` is that of the GPU that CUDA uses, and `gpu_state` is the state of that GPU
    alone, () where nothing is known of it. `gpu_wait` is how each runner waits for the GPU.
    """

    time: str | None = None
    cpu: str | None = None
    cores: int | None = None
    cores_of_machine: int | None = None
    governor: str | None = None
    memory_mib: int | None = None
    memory_free_mib: int | None = None
    load: tuple[float, ...] = ()
    os: str | None = None
    kernel: str | None = None
    machine: str | None = None
    python: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    nvidia_driver: str | None = None
    gpus: tuple[Mapping[str, str], ...] = ()
    gpu_pci_bus_id: str | None = None
    gpu_state: tuple[GpuState, ...] = ()
    cpu_mhz: float | None = None
    cpu_mhz_most: float | None = None
    jetson: JetsonConditions | None = None
    energy: EnergyConditions | None = None
    gpu_wait: Mapping[str, str] = field(default_factory=dict)


def conditions(root: Path = Path("/")) -> Conditions:
    """Return the state of the machine now.

    The system's files are read below `root`.
    """
    system, memory, bus_id = system_at(root), memory_of(root), cuda_bus_id()
    gpu = gpu_state(bus_id)
    return Conditions(
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        cpu=system.cpu,
        cores=system.cores,
        cores_of_machine=os.cpu_count(),
        governor=system.governor,
        memory_mib=_mib(memory.get("MemTotal")),
        memory_free_mib=_mib(memory.get("MemAvailable")),
        load=tuple(round(value, 2) for value in os.getloadavg()),
        os=system.name,
        kernel=platform.release(),
        machine=system.architecture,
        python=system.python.version,
        versions=_versions(),
        nvidia_driver=libcuda.module_version(root),
        gpus=_gpus(),
        gpu_pci_bus_id=bus_id,
        gpu_state=(from_json(GpuState, to_json(gpu), "NVML"),) if gpu else (),
        cpu_mhz=_megahertz(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", 1e3),
        cpu_mhz_most=_megahertz(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", 1e3),
        jetson=_jetson(system, root),
    )


def _mib(size: int | None) -> int | None:
    return None if size is None else size >> 20


def _versions() -> dict[str, str]:
    versions = installed(PACKAGES)
    # A bundle contains the folders of the package without its metadata.
    own_version = getattr(sys.modules["trtpoets"], "__version__", None)
    if own_version:
        versions["trtpoets"] = str(own_version)
    return versions


def _gpus() -> tuple[Mapping[str, str], ...]:
    """Return the output of nvidia-smi for each GPU; () without one (a Jetson's is in `jetson`)."""
    program = shutil.which("nvidia-smi")
    if not program:
        return ()
    fields = ("name", "compute_cap", "memory.total", "driver_version", "clocks.sm", "temperature.gpu", "pstate")
    try:
        output = subprocess.run(
            [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=10,
            check=True,
        ).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[value.strip() for value in line.split(",")] for line in output.splitlines() if line.strip()]
    return tuple(dict(zip(fields, row)) for row in rows if len(row) == len(fields))


def _megahertz(file: Path, per_mhz: float) -> float | None:
    text = system_text(file)
    return int(text) / per_mhz if text.isdigit() else None


def _jetson(system: System, root: Path) -> JetsonConditions | None:
    """Return the conditions of a Jetson; None elsewhere.

    A current clock at the maximum although nothing runs means that `jetson_clocks` has fixed it.
    """
    board = system.jetson
    if board is None:
        return None
    gpu = jetson_gpu_clock(root) or Path("none")
    return JetsonConditions(
        model=board.model,
        l4t=board.l4t or "unknown",
        jetpack=board.jetpack.version if board.jetpack else None,
        power_mode=board.power_mode,
        gpu_mhz=_megahertz(gpu / "cur_freq", 1e6),
        gpu_mhz_most=_megahertz(gpu / "max_freq", 1e6),
    )
