"""Machines whose files doctor reads."""

from __future__ import annotations

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
