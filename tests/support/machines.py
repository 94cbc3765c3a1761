"""Machines whose files doctor reads."""

from __future__ import annotations

from typing import Any

from tests.fakes.machines import TRAINING
from trtpoets.device.doctor import Diagnosis
from trtpoets.device.doctor.findings import Finding, State

NANO, AGX, THOR = (
    ("NVIDIA Jetson Orin Nano Developer Kit", "tegra234"),
    ("NVIDIA Jetson AGX Orin Developer Kit", "tegra234"),
    ("NVIDIA Jetson AGX Thor Developer Kit", "tegra264"),
)

TENSORFLOW = """
from types import SimpleNamespace
{answer}
keras = SimpleNamespace(config=None)
get_logger = lambda: SimpleNamespace(setLevel=lambda level: None)
experimental = SimpleNamespace(set_memory_growth=lambda gpu, grow: None)
config = SimpleNamespace(experimental=experimental, list_physical_devices=lambda kind: range(n))
"""


def by_name(diagnosis: Diagnosis) -> dict[str, Finding]:
    return {finding.what: finding for finding in (*diagnosis.parts, *diagnosis.works)}


def checked(diagnosis: Diagnosis) -> dict[str, Finding]:
    """By name, after what must be true of every machine."""
    for finding in (*diagnosis.parts, *diagnosis.works):
        assert finding.found, finding.what
        good = finding.state in (State.READY, State.IDLE)
        assert good == (not finding.hint), f"{finding.what}: {finding.state} comes with the hint {finding.hint!r}"
    return by_name(diagnosis)


UBUNTU = {"etc/os-release": 'PRETTY_NAME="Ubuntu 24.04 LTS"\n', "usr/local/cuda/bin/nvcc": ""}


GPU_CARD = {"sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n"}


SERVER: dict[str, Any] = {
    "name": "NVIDIA H100",
    "packages": {**TRAINING, "tensorrt-cu12": "10.13.3.9", "pycuda": "2026.1"},
    "tensorflow_gpus": 1,
    "providers": ("CUDAExecutionProvider", "CPUExecutionProvider"),
}
