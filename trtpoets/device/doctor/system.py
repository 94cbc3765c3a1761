"""Reads the facts about a machine from its system files: system, CPU, Jetson, NVIDIA hardware."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

from trtpoets.core.images import usable_cores
from trtpoets.core.system_files import l4t_release, memory_of, system_text
from trtpoets.device.jetson.jetpack import Chip, JetPack, chip_of, jetpack_of
from trtpoets.device.jetson.power_modes import PowerMode, fastest_mode, power_modes

_NVIDIA_ON_PCI = "0x10de"


@dataclass(frozen=True)
class PythonFacts:
    """The running Python. `prefix` is its folder, `in_venv` says whether it is a virtual environment.

    `sees_system` says whether it can import the packages of the system's Python.
    """

    version: str
    prefix: str
    in_venv: bool
    sees_system: bool

    @property
    def minor(self) -> tuple[int, int]:
        """(3, 11) for "3.11.4"."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


@dataclass(frozen=True)
class Jetson:
    """A Jetson. Values that are unknown or not in the table are None; an unknown `l4t` is empty.

    `full_power` is the fastest of its power modes.
    """

    model: str
    chip: Chip | None
    l4t: str
    jetpack: JetPack | None
    power_mode: str | None
    full_power: PowerMode | None


@dataclass(frozen=True)
class System:
    """The facts about a machine. `memory_gib` is 0 if unknown; `governor` is that of the CPU.

    `toolkit` is the CUDA toolkit's version, `nvcc` the folder of its compiler. `nvidia_card` says whether an NVIDIA
    device is on the PCI bus; `system_tensorrt` is the folder of the TensorRT package of the system's Python.
    """

    python: PythonFacts
    name: str
    architecture: str
    cpu: str
    cores: int
    memory_gib: float
    governor: str | None
    container: bool
    nvidia_card: bool
    toolkit: str | None
    nvcc: str | None
    system_tensorrt: str | None
    jetson: Jetson | None


def system_at(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> System:
    """Read the facts from the files below `root`, which may be a copy of another machine's. Raises no errors."""
    toolkit, nvcc = _toolkit(root)
    return System(
        python=python_here(),
        name=_system_name(root),
        architecture=platform.machine(),
        cpu=_cpu(root),
        cores=usable_cores(),
        memory_gib=memory_of(root).get("MemTotal", 0) / 2**30,
        governor=system_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        container=any((root / name).exists() for name in (".dockerenv", "run/.containerenv")),
        nvidia_card=_nvidia_card(root),
        toolkit=toolkit,
        nvcc=nvcc,
        system_tensorrt=_system_tensorrt(root),
        jetson=_jetson(root, environment),
    )


def python_here() -> PythonFacts:
    """The facts about the running Python."""
    in_venv = sys.prefix != sys.base_prefix
    settings = system_text(Path(sys.prefix) / "pyvenv.cfg").lower()
    shared = re.search(r"^include-system-site-packages\s*=\s*true", settings, re.MULTILINE) is not None
    return PythonFacts(platform.python_version(), sys.prefix, in_venv, shared or not in_venv)


def _system_name(root: Path) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', system_text(root / "etc/os-release"), re.MULTILINE)
    return match.group(1) if match else platform.system()


def _cpu(root: Path) -> str:
    text = system_text(root / "proc/cpuinfo")
    # x86 kernels write "model name", some ARM kernels "Model" or "Hardware". Otherwise the architecture is used.
    for key in ("model name", "Model", "Hardware"):
        match = re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE)
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def _nvidia_card(root: Path) -> bool:
    return any(system_text(vendor) == _NVIDIA_ON_PCI for vendor in root.glob("sys/bus/pci/devices/*/vendor"))


def _toolkit(root: Path) -> tuple[str | None, str | None]:
    """The version of the CUDA toolkit in its default folder, and the folder of its compiler."""
    home = root / "usr/local/cuda"
    folder = "/usr/local/cuda/bin" if (home / "bin/nvcc").exists() else None
    try:
        versions = json.loads(system_text(home / "version.json"))
        return str(versions["cuda"]["version"]), folder
    except (ValueError, KeyError, TypeError):
        return None, folder


def _system_tensorrt(root: Path) -> str | None:
    modules = sorted(root.glob("usr/lib/python3*/dist-packages/tensorrt/__init__.py"))
    return "/" + str(modules[-1].parent.relative_to(root)) if modules else None


def _jetson(root: Path, environment: Mapping[str, str]) -> Jetson | None:
    release = l4t_release(system_text(root / "etc/nv_tegra_release"))
    if release is None:  # containers for Jetsons have this variable instead of the file
        match = re.match(r"r?(\d+)\.(\d+)(?:\.(\d+))?", environment.get("L4T_VERSION", "").lower())
        release = tuple(int(number) for number in match.groups(default="0")) if match else None
    chip = chip_of(system_text(root / "proc/device-tree/compatible"))
    if release is None and chip is None:
        return None
    mode, full = _power(root)
    return Jetson(
        model=system_text(root / "proc/device-tree/model") or "an unknown Jetson",
        chip=chip,
        l4t=".".join(map(str, release)) if release else "",
        jetpack=jetpack_of(release) if release else None,
        power_mode=mode,
        full_power=full,
    )


def _power(root: Path) -> tuple[str | None, PowerMode | None]:
    """The name of the current power mode, and the fastest one."""
    modes = power_modes(system_text(root / "etc/nvpmodel.conf"))
    match = re.search(r"pmode:(\d+)", system_text(root / "var/lib/nvpmodel/status"))
    if not match:
        return None, fastest_mode(modes)
    names = {mode.number: mode.name for mode in modes}
    return names.get(int(match.group(1)), f"mode {int(match.group(1))}"), fastest_mode(modes)
