"""Conditions of this machine, and of machines that are made up from files."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from trtpoets.judge import conditions as module
from trtpoets.judge.conditions import conditions


def test_this_machine() -> None:
    got = conditions()
    json.dumps(got, allow_nan=False)
    assert got["cores"] >= 1
    assert got["memory_mib"] > 100
    assert len(got["load"]) == 3
    assert got["time"].endswith("+00:00")
    assert got["versions"]["numpy"] == metadata.version("numpy")
    assert got["versions"]["trtpoets"]


def test_nothing_heavy_is_imported() -> None:
    code = "import sys; from trtpoets.judge.conditions import conditions; conditions(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda", "PIL"} & set(loaded)


def test_a_jetson(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    (proc / "device-tree").mkdir(parents=True)
    (proc / "device-tree" / "model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    (proc / "cpuinfo").write_text("processor\t: 0\nBogoMIPS\t: 62.50\nCPU implementer\t: 0x41\n")
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n")
    monkeypatch.setattr(module, "_PROC", proc)
    monkeypatch.setattr(module, "_JETSON_RELEASE", release)
    got = conditions()
    assert got["jetson"] == {"model": "NVIDIA Jetson Orin Nano Developer Kit", "l4t": "36.4.3"}
    assert got["memory_mib"] is None
    assert got["nvidia_driver"] is None


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (dvs-builder@U16)",
    ],
)
def test_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str) -> None:
    (tmp_path / "driver" / "nvidia").mkdir(parents=True)
    (tmp_path / "driver" / "nvidia" / "version").write_text(f"{line}\nGCC version:  gcc version 12.3.0\n")
    monkeypatch.setattr(module, "_PROC", tmp_path)
    assert conditions()["nvidia_driver"] == "550.54.15"


def fake_smi(folder: Path, text: str, code: int = 0) -> str:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    program.chmod(0o755)
    return str(program)


def test_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = "NVIDIA GeForce RTX 4090, 8.9, 24564 MiB, 550.54.15, 210 MHz, 34, P8"
    monkeypatch.setattr(module.shutil, "which", lambda name: fake_smi(tmp_path, f"{row}\n{row}"))
    got = conditions()["gpus"]
    assert [gpu["name"] for gpu in got] == ["NVIDIA GeForce RTX 4090"] * 2
    assert got[0]["compute_cap"] == "8.9"


@pytest.mark.parametrize(("text", "code"), [("NVIDIA-SMI has failed", 9), ("odd, row", 0), ("", 0)])
def test_an_nvidia_smi_that_can_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, code: int) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: fake_smi(tmp_path, text, code))
    assert conditions()["gpus"] == []
