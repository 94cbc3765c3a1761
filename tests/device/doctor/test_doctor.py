"""The doctor's findings, on this machine and on machines from documented facts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.machines import jetson_files, software, system, with_gpu, write
from tests.support.machines import AGX, GPU_CARD, NANO, SERVER, TENSORFLOW, THOR, UBUNTU, by_name, checked
from trtpoets.core.errors import RunFailed
from trtpoets.device.doctor import diagnose, doctor
from trtpoets.device.doctor import software as doctor_software
from trtpoets.device.doctor.findings import Finding, State
from trtpoets.device.doctor.imports import Imports
from trtpoets.device.doctor.software import Loaded
from trtpoets.device.gpu import libcuda
from trtpoets.device.jetson.jetpack import CHIPS
from trtpoets.reporting.tables.results import print_json, print_table

ROOT = Path(__file__).parents[3]
XAVIER = ("NVIDIA Jetson Xavier NX Developer Kit", "tegra194")


# This machine


"""A module that passes for TensorFlow in the process that tries imports: importing the real one takes seconds."""


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_this_machine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: bool
) -> None:
    if not real:
        write(tmp_path, {"tensorflow.py": TENSORFLOW.format(answer="n = 0"), "tf2onnx.py": ""})
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    diagnosis = doctor()
    findings = checked(diagnosis)
    assert findings["Python"].found.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert "cores to use" in findings["CPU"].found and "GiB" in findings["CPU"].found
    print_table("doctor", diagnosis)
    lines = capsys.readouterr().out.splitlines()
    table, _, hints = "\n".join(lines).partition("How to fix the rest:")
    assert len(lines) < 50 and max(map(len, table.splitlines())) <= 80
    assert all(finding.hint in hints for finding in findings.values() if finding.hint), "lines to copy are not broken"
    print_json(diagnosis)
    document = json.loads(capsys.readouterr().out)
    assert document["parts"][0]["state"] == "ready"
    assert document["system"]["cores"] >= 1 and document["software"]["packages"]["onnx"]


def test_tensorflow_is_not_imported() -> None:
    code = """
import sys
from trtpoets.device.doctor import doctor, imports, software
software.try_imports = lambda names: imports.Imports()  # a process of its own, which takes seconds
doctor()
print('tensorflow' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_rtx_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")

    def none() -> None:
        raise RunFailed("no NVIDIA driver here: gone", hint="buy one")

    monkeypatch.setattr(libcuda, "load_driver", none)
    monkeypatch.setattr(doctor_software, "try_imports", lambda names: Imports())
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    findings = by_name(doctor())
    assert findings["TensorRT-RTX"].found.endswith("for sm75, sm80, sm86, sm89, sm120, sm121")
    assert findings["NVIDIA GPU"].found == "no NVIDIA driver here: gone"
    assert findings["build RTX engines"].state is State.READY
    assert (findings["TensorRT"].state, findings["build TensorRT engines"].state) == (State.IDLE, State.IDLE)


# Jetsons


@pytest.mark.parametrize(
    ("release", "version", "board", "python", "tensorrt", "cuda", "capability", "builds"),
    [
        ("35 2.1", "5.1", XAVIER, "3.8", "8.5.2", "11.4", (7, 2), "fp32, fp16, int8; ONNX operator sets up to 17; DLA"),
        ("35 3.1", "5.1.1", NANO, "3.8", "8.5.2", "11.4", (8, 7), "operator sets up to 17; no DLA"),
        ("35 4.1", "5.1.2", AGX, "3.8", "8.5.2", "11.4", (8, 7), "operator sets up to 17; DLA"),
        ("35 5.0", "5.1.3", AGX, "3.8", "8.5.2", "11.4", (8, 7), "operator sets up to 17; DLA"),
        ("35 6.0", "5.1.4", NANO, "3.8", "8.5.2", "11.4", (8, 7), "operator sets up to 17; no DLA"),
        ("35 6.1", "5.1.5", AGX, "3.8", "8.5.2", "11.4", (8, 7), "operator sets up to 17; DLA"),
        ("36 3.0", "6.0", AGX, "3.10", "8.6.2", "12.2", (8, 7), "operator sets up to 17; DLA"),
        ("36 4.0", "6.1", NANO, "3.10", "10.3.0", "12.6", (8, 7), "operator sets up to 20; no DLA"),
        ("36 4.3", "6.2", AGX, "3.10", "10.3.0", "12.6", (8, 7), "fp32, fp16, int8; ONNX operator sets up to 20; DLA"),
        ("36 4.7", "6.2.1", NANO, "3.10", "10.3.0", "12.6", (8, 7), "operator sets up to 20; no DLA"),
        ("36 5.0", "6.2.2", AGX, "3.10", "10.3.0", "12.6", (8, 7), "operator sets up to 20; DLA"),
        ("38 2.0", "7.0", THOR, "3.12", "10.13.3", "13.0", (11, 0), "operator sets up to 24; no DLA"),
        ("38 4.0", "7.1", THOR, "3.12", "10.13.3", "13.0", (11, 0), "operator sets up to 24; no DLA"),
        ("39 2.0", "7.2", AGX, "3.12", "10.16.2", "13.2", (8, 7), "operator sets up to 24; no DLA"),
        ("39 2.1", "7.2.1", THOR, "3.12", "10.16.2", "13.2", (11, 0), "operator sets up to 24; no DLA"),
        ("39 2.2", "7.2.2", AGX, "3.12", "11.4.1", "13.2", (8, 7), "operator sets up to 24; DLA"),
    ],
)
def test_each_jetpack(
    tmp_path: Path,
    release: str,
    version: str,
    board: tuple[str, str],
    python: str,
    tensorrt: str,
    cuda: str,
    capability: tuple[int, int],
    builds: str,
) -> None:
    root = write(tmp_path, jetson_files(release, *board, python))
    findings = checked(diagnose(system(root, f"{python}.3"), with_gpu(capability, tensorrt, cuda)))
    result = findings["Jetson"].found
    assert result.startswith(f"{board[0]}, L4T {release.replace(' ', '.')}") and f"JetPack {version} (" in result
    assert findings["TensorRT"] == Finding("TensorRT", State.READY, tensorrt, "engines for the GPU of this machine"), (
        "the TensorRT that this JetPack should have"
    )
    assert findings["build TensorRT engines"].state is State.READY
    assert findings["build TensorRT engines"].found.endswith(builds)
    assert findings["run engines"].found == "TensorRT, on Orin"
    assert "on a PC" in findings["retrain, export, quantize"].found
    assert findings["TensorFlow"].found == "retrain on a PC, and bring the ONNX files"
    assert {findings["power"].found, findings["power"].state} == {"MAXN_SUPER", State.READY}


def test_a_jetpack_whose_tensorrt_is_too_old(tmp_path: Path) -> None:
    root = write(tmp_path, jetson_files("35 1.0", *XAVIER, "3.8"))
    findings = checked(diagnose(system(root, "3.8.10"), with_gpu((7, 2), "8.4.1", "11.4", "Xavier")))
    assert "JetPack 5.0.2 (TensorRT 8.4.1" in findings["Jetson"].found
    assert findings["TensorRT"].found == "8.4.1, and trtpoets needs 8.5 or later"
    bundle = "on a PC, for trtexec: trtpoets bundle NAME --for jetson --jetpack 5.0.2"
    hint = f"flash JetPack 5.1 or later (TensorRT 8.5.2); until then, {bundle}"
    assert {findings[name].hint for name in ("TensorRT", "build TensorRT engines", "run engines")} == {hint}


@pytest.mark.parametrize(("chip", "model"), [("tegra210", "NVIDIA Jetson Nano Developer Kit"), ("tegra186", "quill")])
def test_jetpack_4_has_trtexec_only(tmp_path: Path, chip: str, model: str) -> None:
    root = write(tmp_path, jetson_files("32 7.1", model, chip, "3.6"))
    capability = CHIPS[chip].compute_capability
    assert [precision.value for precision in CHIPS[chip].precisions] == ["fp32", "fp16"]
    findings = checked(diagnose(system(root, "3.8.0"), with_gpu(capability, "", "10.2", "Tegra")))
    assert "JetPack 4.6.1 (TensorRT 8.2.1" in findings["Jetson"].found
    assert findings["TensorRT"].hint == "on a PC, for trtexec: trtpoets bundle NAME --for jetson --jetpack 4.6.1"
    assert findings["build TensorRT engines"].hint == findings["TensorRT"].hint


def test_a_tensorrt_from_pypi_on_jetpack_7(tmp_path: Path) -> None:
    root = write(tmp_path, jetson_files("38 4.0", *THOR, "3.12"))
    wheels = with_gpu((11, 0), "10.16.1", "13.0", packages={"tensorrt-cu13": "10.16.1"})
    findings = checked(diagnose(system(root, "3.12.3"), wheels))
    assert (findings["TensorRT"].state, findings["TensorRT"].found) == (
        State.READY,
        "10.16.1; JetPack 7.1 brings 10.13.3",
    )


# Servers and laptops


def test_a_server(tmp_path: Path) -> None:
    server = system(write(tmp_path, {**UBUNTU, **GPU_CARD}), "3.12.3", sees_system=False, architecture="x86_64")
    here = with_gpu((9, 0), "10.13.3.9", "12.6", rtx=Loaded("1.7.1.116", ("sm89", "sm120")), **SERVER)
    findings = checked(diagnose(server, here))
    assert all(finding.state is State.READY for finding in findings.values())
    assert findings["system"].found == "Ubuntu 24.04 LTS, x86_64"
    assert findings["NVIDIA GPU"].found == "NVIDIA H100, compute capability 9.0, 8 GiB"
    assert findings["CUDA"].found == "driver 560.35.03, for CUDA up to 12.6; a toolkit"
    assert findings["TensorFlow"].found == "2.21.0, sees the GPU"
    assert findings["ONNX Runtime"].found == "1.24.0; CUDA, CPU"
    assert findings["retrain, export, quantize"].found == "on the GPU"
    assert findings["build TensorRT engines"].found == "fp32, fp16, int8; ONNX operator sets up to 24"
    assert findings["run engines"].found == "TensorRT, on NVIDIA H100", "TensorRT-RTX has no Hopper"


def test_a_card_without_a_driver(tmp_path: Path) -> None:
    findings = checked(diagnose(system(write(tmp_path, {**UBUNTU, **GPU_CARD})), software()))
    assert findings["NVIDIA GPU"].hint == "sudo ubuntu-drivers install && sudo reboot"
    assert findings["run engines"].state is State.MISSING


def test_a_container_without_the_gpu(tmp_path: Path) -> None:
    findings = checked(diagnose(system(write(tmp_path, {**UBUNTU, "run/.containerenv": ""})), software()))
    assert findings["NVIDIA GPU"].hint.endswith("start the container with --gpus all")


def test_cuda_13_has_nothing_for_volta(tmp_path: Path) -> None:
    here = with_gpu((7, 0), "10.13.3.9", "13.0", "Tesla V100", packages={"tensorrt-cu13": "10.13.3.9"})
    value = checked(diagnose(system(write(tmp_path, UBUNTU)), here))["TensorRT"]
    assert value.found == "tensorrt-cu13 has nothing for this Tesla V100: CUDA 13 begins at 7.5"
    assert value.hint == "pip uninstall -y tensorrt-cu13 && pip install 'tensorrt-cu12<10.5'"
    absent = replace(here, packages={}, tensorrt=Loaded(problem="No module named 'tensorrt'"))
    assert checked(diagnose(system(tmp_path), absent))["TensorRT"].hint == "pip install 'tensorrt-cu12<10.5'"


def test_wheels_of_cuda_12_run_on_a_later_driver(tmp_path: Path) -> None:
    here = with_gpu((8, 6), "10.13.3.9", "13.1", "RTX 3060", packages={"tensorrt-cu12": "10.13.3.9"})
    assert checked(diagnose(system(write(tmp_path, UBUNTU)), here))["TensorRT"].state is State.READY


def test_rtx_wheels_that_the_driver_is_too_old_for(tmp_path: Path) -> None:
    rtx = Loaded("1.7.1.116", ("sm86",))
    here = with_gpu((8, 6), "", "12.6", "RTX 3060", rtx=rtx, packages={"tensorrt-rtx-cu13": "1.7.1"})
    findings = checked(diagnose(system(write(tmp_path, UBUNTU)), here))
    assert findings["TensorRT-RTX"].hint == "pip uninstall -y tensorrt-rtx-cu13 && pip install tensorrt-rtx-cu12"
    assert findings["build RTX engines"].state is State.READY and findings["run engines"].state is State.MISSING
    assert findings["TensorRT"].hint == "pip install tensorrt-cu12"


@pytest.mark.parametrize(
    ("packages", "problem", "cuda", "hint"),
    [
        ({}, "No module named 'tensorrt'", "12.6", "pip install tensorrt-cu12"),
        ({}, "No module named 'tensorrt'", "13.0", "pip install tensorrt-cu13"),
        ({}, "No module named 'tensorrt'", "11.8", "update the driver to one for CUDA 12 or later: "),
        ({"tensorrt-cu12": "10.13"}, "libnvinfer.so.10: no such file", "12.6", "pip install --force-reinstall "),
    ],
)
def test_a_server_without_tensorrt(
    tmp_path: Path, packages: dict[str, str], problem: str, cuda: str, hint: str
) -> None:
    here = replace(with_gpu((8, 6), "", cuda, "RTX 3060", packages=packages), tensorrt=Loaded(problem=problem))
    findings = checked(diagnose(system(write(tmp_path, UBUNTU)), here))
    assert findings["TensorRT"].hint.startswith(hint)
    assert findings["TensorRT"].found == ("not installed" if "module" in problem else problem)
