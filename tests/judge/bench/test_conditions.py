"""Conditions of this machine, and of machines that are made up from files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.fakes.machines import jetson_files, write
from trtpoets.core.serialization import to_json
from trtpoets.judge.bench.conditions import conditions


def test_this_machine() -> None:
    got = conditions()
    json.dumps(to_json(got), allow_nan=False)
    assert got.cores is not None and got.cores >= 1
    assert got.memory_mib is not None and got.memory_mib > 100
    assert len(got.load) == 3
    assert got.time is not None and got.time.endswith("+00:00")
    assert got.versions["numpy"] == metadata.version("numpy")
    assert got.versions["trtpoets"]


def test_nothing_heavy_is_imported() -> None:
    code = "import sys; from trtpoets.judge.bench.conditions import conditions; conditions(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda", "PIL"} & set(loaded)


def test_a_jetson(tmp_path: Path) -> None:
    board = ("NVIDIA Jetson Orin Nano Developer Kit", "tegra234")
    files = jetson_files("36 4.3", *board, "3.10", mode="pmode:0001")
    del files["proc/meminfo"]
    gpu, cpu = "sys/class/devfreq/17000000.gpu", "sys/devices/system/cpu/cpu0/cpufreq"
    files |= {f"{gpu}/cur_freq": "306000000\n", f"{gpu}/max_freq": "1020000000\n"}
    files |= {f"{cpu}/scaling_cur_freq": "1728000\n", f"{cpu}/scaling_max_freq": "1984000\n"}
    got = conditions(write(tmp_path, files))
    known = {"model": board[0], "l4t": "36.4.3", "jetpack": "6.2", "power_mode": "25W"}
    assert to_json(got.jetson) == {**known, "gpu_mhz": 306.0, "gpu_mhz_most": 1020.0}
    assert (got.cpu_mhz, got.cpu_mhz_most) == (1728.0, 1984.0)
    assert got.memory_mib is None
    assert got.nvidia_driver is None


@pytest.mark.parametrize(
    ("gpu", "others"),
    [
        ("gpu-gpc-0", ["gpu-nvd-0"]),  # Thor, JetPack 7 (github.com/rbonghi/jetson_stats/issues/885)
        ("17000000.gpu", ["15340000.vic", "15480000.nvdec", "154c0000.nvenc", "15a80000.nvenc"]),  # Orin, JetPack 6
        ("17000000.ga10b", ["15340000.vic"]),  # Orin, JetPack 5
        ("17000000.gv11b", ["15340000.vic", "c250000.gpcdma"]),  # Xavier
        ("57000000.gpu", []),  # Nano
        ("", ["gpu-nvd-0", "15340000.vic", "1d84000.ufshc"]),
    ],
)
def test_the_gpus_clock_by_its_name(tmp_path: Path, gpu: str, others: list[str]) -> None:
    files = jetson_files("38 4.0", "NVIDIA Jetson AGX Thor Developer Kit", "tegra264", "3.12")
    for number, name in enumerate([*others, gpu], 1):
        if name:
            files[f"sys/class/devfreq/{name}/cur_freq"] = f"{number if name == gpu else 9}00000000\n"
            files[f"sys/class/devfreq/{name}/max_freq"] = "1575000000\n"
    board = conditions(write(tmp_path, files)).jetson
    assert board is not None
    expected = (100.0 * (len(others) + 1), 1575.0) if gpu else (None, None)
    assert (board.gpu_mhz, board.gpu_mhz_most) == expected


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (dvs-builder@U16)",
    ],
)
def test_a_driver(tmp_path: Path, line: str) -> None:
    root = write(tmp_path, {"proc/driver/nvidia/version": f"{line}\nGCC version:  gcc version 12.3.0\n"})
    assert conditions(root).nvidia_driver == "550.54.15"


def fake_smi(folder: Path, text: str, code: int = 0) -> str:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    program.chmod(0o755)
    return str(program)


def test_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = "NVIDIA GeForce RTX 4090, 8.9, 24564 MiB, 550.54.15, 210 MHz, 34, P8"
    monkeypatch.setattr(shutil, "which", lambda name: fake_smi(tmp_path, f"{row}\n{row}"))
    got = conditions().gpus
    assert [gpu["name"] for gpu in got] == ["NVIDIA GeForce RTX 4090"] * 2
    assert got[0]["compute_cap"] == "8.9"


@pytest.mark.parametrize(("text", "code"), [("NVIDIA-SMI has failed", 9), ("odd, row", 0), ("", 0)])
def test_an_nvidia_smi_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, code: int) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: fake_smi(tmp_path, text, code))
    assert conditions().gpus == ()
