"""What a number was measured under: machine, versions, load. Reads files and metadata, imports nothing heavy."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trtpoets.core.optional import installed
from trtpoets.device.doctor.system import System, read_text, system_at
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
"""Packages whose versions decide a result."""


def conditions(root: Path = Path("/")) -> dict[str, Any]:
    """The machine as it is now, as JSON. What can't be known here is None, or absent from `versions`.

    Memory is in MiB; `load` is the average number of busy processes over the last 1, 5 and 15 minutes. The system's
    files are read below `root`. `gpu_pci_bus_id` is that of the GPU that CUDA uses, and `gpu_state` holds the state of
    that GPU alone, [] where nothing is known of it.
    """
    system, bus_id = system_at(root), cuda_bus_id()
    gpu = gpu_state(bus_id)
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": system.cpu,
        "cores": system.cores,
        "cores_of_machine": os.cpu_count(),
        "governor": system.governor,
        "memory_mib": _memory_mib(root, "MemTotal"),
        "memory_free_mib": _memory_mib(root, "MemAvailable"),
        "load": [round(value, 2) for value in os.getloadavg()],
        "os": system.name,
        "kernel": platform.release(),
        "machine": system.architecture,
        "python": system.python.version,
        "versions": _versions(),
        "nvidia_driver": _driver(root),
        "gpus": _gpus(),
        "gpu_pci_bus_id": bus_id,
        "gpu_state": [gpu] if gpu else [],
        "cpu_mhz": _megahertz(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", 1e3),
        "cpu_mhz_most": _megahertz(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", 1e3),
        "jetson": _jetson(system, root),
    }


def _memory_mib(root: Path, key: str) -> int | None:
    found = re.search(rf"^{key}:\s*(\d+) kB$", read_text(root / "proc/meminfo"), re.MULTILINE)
    return int(found.group(1)) >> 10 if found else None


def _versions() -> dict[str, str]:
    found = installed(PACKAGES)
    # A bundle carries the package's folders as they are, without metadata.
    ours = getattr(sys.modules["trtpoets"], "__version__", None)
    if ours:
        found["trtpoets"] = str(ours)
    return found


def _driver(root: Path) -> str | None:
    text = read_text(root / "proc/driver/nvidia/version")
    found = re.search(r"(?:Kernel Module\D*?|x86_64\s+|aarch64\s+)(\d+\.\d+(?:\.\d+)?)", text)
    return found.group(1) if found else None


def _gpus() -> list[dict[str, str]]:
    """What nvidia-smi says of each GPU; empty where there is none (a Jetson's is under `jetson`)."""
    program = shutil.which("nvidia-smi")
    if not program:
        return []
    fields = ("name", "compute_cap", "memory.total", "driver_version", "clocks.sm", "temperature.gpu", "pstate")
    try:
        told = subprocess.run(
            [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=10,
            check=True,
        ).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[value.strip() for value in line.split(",")] for line in told.splitlines() if line.strip()]
    return [dict(zip(fields, row)) for row in rows if len(row) == len(fields)]


def _megahertz(file: Path, per_mhz: float) -> float | None:
    text = read_text(file)
    return int(text) / per_mhz if text.isdigit() else None


def _jetson(system: System, root: Path) -> dict[str, Any] | None:
    """A Jetson's model, its L4T release, JetPack, power mode and GPU clock (now, and at most); None elsewhere.

    Where the clock now is the most there is although nothing runs, `jetson_clocks` has fixed it.
    """
    board = system.jetson
    if board is None:
        return None
    gpu = jetson_gpu_clock(root) or Path("none")
    return {
        "model": board.model,
        "l4t": board.l4t or "unknown",
        "jetpack": board.jetpack.version if board.jetpack else None,
        "power_mode": board.power_mode,
        "gpu_mhz": _megahertz(gpu / "cur_freq", 1e6),
        "gpu_mhz_most": _megahertz(gpu / "max_freq", 1e6),
    }
