"""What a number was measured under: machine, versions, load. Reads files and metadata, imports nothing heavy."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from trtpoets.core.images import usable_cores

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
    "tensorrt",
    "tensorrt-rtx-cu12",
    "tensorrt-rtx-cu13",
    "pycuda",
    "cuda-bindings",
)
"""Packages whose versions decide a result."""

_PROC = Path("/proc")
_SYS = Path("/sys")
_JETSON_RELEASE = Path("/etc/nv_tegra_release")


def conditions() -> dict[str, Any]:
    """The machine as it is now, as JSON. What can't be known here is None, or absent from `versions`.

    Memory is in MiB; `load` is the average number of busy processes over the last 1, 5 and 15 minutes.
    """
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "cores_of_machine": os.cpu_count(),
        "governor": _text(_SYS / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_mib": _memory_mib("MemTotal"),
        "memory_free_mib": _memory_mib("MemAvailable"),
        "load": [round(value, 2) for value in os.getloadavg()],
        "os": _os_name(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": _versions(),
        "nvidia_driver": _driver(),
        "gpus": _gpus(),
        "jetson": _jetson(),
    }


def _cpu_model() -> str | None:
    text = _text(_PROC / "cpuinfo") or ""
    # x86 says "model name", some ARM kernels "Model" or "Hardware"; where none does, the architecture has to do.
    for key in ("model name", "Model", "Hardware"):
        found = re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or None


def _memory_mib(key: str) -> int | None:
    found = re.search(rf"^{key}:\s*(\d+) kB$", _text(_PROC / "meminfo") or "", re.MULTILINE)
    return int(found.group(1)) >> 10 if found else None


def _os_name() -> str:
    text = _text(Path("/etc/os-release")) or ""
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)"?$', text, re.MULTILINE)
    return found.group(1) if found else platform.system()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    # A bundle carries the package's folders as they are, without metadata.
    ours = getattr(sys.modules["trtpoets"], "__version__", None)
    if ours:
        found["trtpoets"] = str(ours)
    return found


def _driver() -> str | None:
    text = _text(_PROC / "driver/nvidia/version") or ""
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


def _jetson() -> dict[str, str] | None:
    """A Jetson's model and its L4T release; None elsewhere."""
    release = _text(_JETSON_RELEASE)
    model = _text(_PROC / "device-tree/model")
    if release is None and not (model and "jetson" in model.lower()):
        return None
    found = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", release or "")
    return {
        "model": model or "unknown",
        "l4t": f"{found.group(1)}.{found.group(2)}" if found else "unknown",
    }


def _text(path: Path) -> str | None:
    """A small system file without the NUL and newline at its end; None where it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None
