"""The doctor's findings, on this machine and on machines from documented facts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.machines import NOT_INSTALLED, TRAINING, jetson_files, software, system, with_gpu, write
from tests.support.machines import AGX, NANO, TENSORFLOW, THOR
from trtpoets.core.errors import MissingDependency, RunFailed
from trtpoets.core.types import Flavour
from trtpoets.device.doctor import Diagnosis, diagnose, doctor
from trtpoets.device.doctor import software as doctor_software
from trtpoets.device.doctor.findings import Finding, State
from trtpoets.device.doctor.imports import Imports
from trtpoets.device.doctor.software import Loaded
from trtpoets.device.doctor.system import system_at
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.jetson.jetpack import CHIPS
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.reporting.tables.results import print_json, print_table

ROOT = Path(__file__).parents[3]
XAVIER = ("NVIDIA Jetson Xavier NX Developer Kit", "tegra194")


def by_name(found: Diagnosis) -> dict[str, Finding]:
    return {finding.what: finding for finding in (*found.parts, *found.works)}


def checked(found: Diagnosis) -> dict[str, Finding]:
    """By name, after what must be true of every machine."""
    for finding in (*found.parts, *found.works):
        assert finding.found, finding.what
        good = finding.state in (State.READY, State.IDLE)
        assert good == (not finding.hint), f"{finding.what}: {finding.state} comes with the hint {finding.hint!r}"
    return by_name(found)


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


def test_what_is_installed_and_does_not_import_is_not_ready(tmp_path: Path) -> None:
    broken = {"tensorflow": "libcudart.so.12: cannot open shared object file"}
    here = software(packages=TRAINING, providers=("CPUExecutionProvider",), problems=broken)
    findings = by_name(diagnose(system(write(tmp_path, UBUNTU), "3.12.3", architecture="x86_64"), here))
    assert findings["TensorFlow"].state is State.MISSING and "libcudart" in findings["TensorFlow"].found
    assert findings["retrain, export, quantize"].state is State.MISSING
    assert findings["ONNX"].state is State.READY


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


def test_a_venv_without_the_systems_packages(tmp_path: Path) -> None:
    root = write(tmp_path, jetson_files("36 4.3", *NANO, "3.10"))
    blind = system(root, "3.10.12", sees_system=False)
    findings = checked(diagnose(blind, with_gpu((8, 7), "", "12.6")))
    line = "sed -i 's/^include-system-site-packages.*/include-system-site-packages = true/' /home/me/.venv/pyvenv.cfg"
    assert findings["TensorRT"].state is State.MISSING
    assert findings["TensorRT"].found == "/usr/lib/python3.10/dist-packages/tensorrt is not seen by this Python"
    assert findings["TensorRT"].hint == findings["build TensorRT engines"].hint == findings["run engines"].hint == line

    config = write(tmp_path, {"pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = false\n"}) / "pyvenv.cfg"
    subprocess.run(["bash", "-c", line.replace("/home/me/.venv/pyvenv.cfg", str(config))], check=True)
    assert config.read_text() == "home = /usr/bin\ninclude-system-site-packages = true\n"


def test_a_python_that_is_not_the_systems(tmp_path: Path) -> None:
    root = write(tmp_path, jetson_files("36 4.3", *NANO, "3.10"))
    findings = checked(diagnose(system(root, "3.12.1", sees_system=False), with_gpu((8, 7), "", "12.6")))
    assert findings["TensorRT"].hint == (
        "TensorRT is for the system's Python 3.10: /usr/bin/python3 -m venv --system-site-packages .venv"
    )


def test_a_jetson_without_tensorrt(tmp_path: Path) -> None:
    files = {name: text for name, text in jetson_files("36 4.3", *NANO, "3.10").items() if "tensorrt" not in name}
    bare = with_gpu((8, 7), "", "12.6", pycuda=NOT_INSTALLED, packages={})
    findings = checked(diagnose(system(write(tmp_path, files)), bare))
    assert findings["TensorRT"].hint == "sudo apt update && sudo apt install -y nvidia-jetpack python3-libnvinfer"
    assert findings["pycuda"].hint == (
        "sudo apt install -y build-essential python3-dev && PATH=/usr/local/cuda/bin:$PATH pip install pycuda"
    )


def test_a_tensorrt_from_pypi_on_a_jetson(tmp_path: Path) -> None:
    root = write(tmp_path, jetson_files("36 4.3", *NANO, "3.10"))
    packages = {"tensorrt-cu12": "10.7.0", "tensorrt-cu12-libs": "10.7.0"}
    findings = checked(diagnose(system(root), with_gpu((8, 7), "10.7.0", "12.6", packages=packages)))
    assert findings["TensorRT"].found == "10.7.0; JetPack 6.2 brings 10.3.0"
    assert findings["TensorRT"].hint == "pip uninstall -y tensorrt-cu12 tensorrt-cu12-libs"
    upgraded = checked(diagnose(system(root), with_gpu((8, 7), "10.7.0", "12.6")))
    assert upgraded["TensorRT"].state is State.READY, "by apt it may be newer"


def test_a_tensorrt_from_pypi_on_jetpack_7(tmp_path: Path) -> None:
    root = write(tmp_path, jetson_files("38 4.0", *THOR, "3.12"))
    wheels = with_gpu((11, 0), "10.16.1", "13.0", packages={"tensorrt-cu13": "10.16.1"})
    findings = checked(diagnose(system(root, "3.12.3"), wheels))
    assert (findings["TensorRT"].state, findings["TensorRT"].found) == (
        State.READY,
        "10.16.1; JetPack 7.1 brings 10.13.3",
    )


def test_a_jetson_that_saves_power(tmp_path: Path) -> None:
    root = write(tmp_path, jetson_files("36 4.3", *NANO, "3.10", mode="pmode:0000"))
    findings = checked(diagnose(system(root), with_gpu((8, 7), "10.3.0", "12.6")))
    assert findings["power"].found == "15W, which limits clocks"
    assert findings["power"].hint == "for full speed (MAXN_SUPER): sudo nvpmodel -m 2 && sudo jetson_clocks"


def test_a_container_on_a_jetson(tmp_path: Path) -> None:
    files = jetson_files("36 4.3", *NANO, "3.10")
    del files["etc/nv_tegra_release"]
    inside = system(write(tmp_path, {**files, ".dockerenv": ""}), environment={"L4T_VERSION": "36.4.3"})
    findings = checked(diagnose(inside, software()))
    assert "JetPack 6.2 (" in findings["Jetson"].found
    assert findings["NVIDIA GPU"].hint.startswith("in a container: start it with --runtime nvidia;")
    assert findings["build TensorRT engines"].hint == findings["NVIDIA GPU"].hint


def test_an_unknown_l4t(tmp_path: Path) -> None:
    root = write(tmp_path, jetson_files("45 1.0", *THOR, "3.14"))
    findings = checked(diagnose(system(root, "3.14.0"), with_gpu((11, 0), "12.0.0", "14.0")))
    assert "L4T 45.1.0: a JetPack that is not in our table" in findings["Jetson"].found
    assert findings["build TensorRT engines"].state is State.READY


# Servers and laptops

UBUNTU = {"etc/os-release": 'PRETTY_NAME="Ubuntu 24.04 LTS"\n', "usr/local/cuda/bin/nvcc": ""}
GPU_CARD = {"sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n"}
SERVER: dict[str, Any] = {
    "name": "NVIDIA H100",
    "packages": {**TRAINING, "tensorrt-cu12": "10.13.3.9", "pycuda": "2026.1"},
    "tensorflow_gpus": 1,
    "providers": ("CUDAExecutionProvider", "CPUExecutionProvider"),
}


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


def test_a_gpu_that_is_too_old(tmp_path: Path) -> None:
    old = with_gpu((6, 1), "10.13.3.9", "12.6", "GeForce GTX 1080")
    findings = checked(diagnose(system(write(tmp_path, UBUNTU)), old))
    assert findings["build TensorRT engines"].found == (
        "TensorRT 10.13.3.9 begins at compute capability 7.5, this GPU has 6.1"
    )


def test_a_laptop_without_a_gpu(tmp_path: Path) -> None:
    here = software(rtx=Loaded("1.7.1.116", ("sm86",)), packages=TRAINING, providers=("CPUExecutionProvider",))
    findings = checked(diagnose(system(write(tmp_path, UBUNTU), "3.12.3", architecture="x86_64"), here))
    assert not [finding.what for finding in findings.values() if finding.hint], "nothing is wrong with it"
    ready = ("retrain, export, quantize", "build RTX engines", "run ONNX files on the CPU")
    assert all(findings[name].state is State.READY for name in ready)
    assert findings["run engines"].found == "needs an NVIDIA GPU"


def test_a_card_without_a_driver(tmp_path: Path) -> None:
    findings = checked(diagnose(system(write(tmp_path, {**UBUNTU, **GPU_CARD})), software()))
    assert findings["NVIDIA GPU"].hint == "sudo ubuntu-drivers install && sudo reboot"
    assert findings["run engines"].state is State.MISSING


def test_a_container_without_the_gpu(tmp_path: Path) -> None:
    findings = checked(diagnose(system(write(tmp_path, {**UBUNTU, "run/.containerenv": ""})), software()))
    assert findings["NVIDIA GPU"].hint.endswith("start the container with --gpus all")


@pytest.mark.parametrize(
    ("packages", "cuda", "found", "hint"),
    [
        (
            {"tensorrt-cu12": "10.13", "tensorrt-cu12-libs": "10.13", "tensorrt-cu13": "11.0", "tensorrt": "11.0"},
            "12.6",
            "wheels for CUDA 12 and 13 are both installed, and overwrite each other",
            "pip uninstall -y tensorrt tensorrt-cu12 tensorrt-cu12-libs tensorrt-cu13 && pip install tensorrt-cu12",
        ),
        (
            {"tensorrt-cu12": "10.13", "tensorrt-cu13": "11.0"},
            "13.1",
            "wheels for CUDA 12 and 13 are both installed, and overwrite each other",
            "pip uninstall -y tensorrt-cu12 tensorrt-cu13 && pip install tensorrt-cu13",
        ),
        (
            {"tensorrt-cu13": "11.0", "tensorrt-cu13-libs": "11.0"},
            "12.6",
            "tensorrt-cu13 needs a driver for CUDA 13; this one serves 12.6",
            "pip uninstall -y tensorrt-cu13 tensorrt-cu13-libs && pip install tensorrt-cu12",
        ),
    ],
)
def test_cuda_12_and_13_mixed_up(tmp_path: Path, packages: dict[str, str], cuda: str, found: str, hint: str) -> None:
    here = with_gpu((8, 6), "11.0.0", cuda, "RTX 3060", packages=packages)
    findings = checked(diagnose(system(write(tmp_path, UBUNTU)), here))
    assert (findings["TensorRT"].found, findings["TensorRT"].hint) == (found, hint)
    assert findings["build TensorRT engines"].hint == findings["run engines"].hint == hint


def test_cuda_13_has_nothing_for_volta(tmp_path: Path) -> None:
    here = with_gpu((7, 0), "10.13.3.9", "13.0", "Tesla V100", packages={"tensorrt-cu13": "10.13.3.9"})
    value = checked(diagnose(system(write(tmp_path, UBUNTU)), here))["TensorRT"]
    assert value.found == "tensorrt-cu13 has nothing for this Tesla V100: CUDA 13 begins at 7.5"
    assert value.hint == "pip uninstall -y tensorrt-cu13 && pip install 'tensorrt-cu12<10.5'"
    absent = replace(here, packages={}, tensorrt=Loaded(problem="No module named 'tensorrt'"))
    assert checked(diagnose(system(tmp_path), absent))["TensorRT"].hint == "pip install 'tensorrt-cu12<10.5'"


@pytest.mark.parametrize(
    ("cuda", "capability", "extras"),
    [
        ("12.8", (8, 9), ("tensorrt-cu12", "rtx-cu12")),
        ("13.1", (8, 9), ("tensorrt-cu13", "rtx-cu13")),
        ("13.0", (7, 0), ("tensorrt-cu12", "rtx-cu12")),
        ("", (), ("tensorrt", "rtx")),
    ],
)
def test_hints_name_the_extra_that_the_driver_runs(
    monkeypatch: pytest.MonkeyPatch, cuda: str, capability: tuple[int, int], extras: tuple[str, str]
) -> None:
    def gpus() -> tuple[Gpu, ...]:
        if not cuda:
            raise RunFailed("no NVIDIA driver here")
        return (Gpu("some GPU", capability, 8 << 30),)

    monkeypatch.setattr(libcuda, "gpus", gpus)
    monkeypatch.setattr(libcuda, "cuda_version", lambda: cuda)
    monkeypatch.setattr(libcuda, "module_version", lambda: None)
    known = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for flavour, module, extra in zip(Flavour, ("tensorrt", "tensorrt_rtx"), extras, strict=True):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingDependency) as caught:
            load_tensorrt(flavour)
        assert caught.value.hint == f"pip install 'trtpoets[{extra}]'"
        assert extra in known


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


@pytest.mark.parametrize(
    ("packages", "what", "found", "hint"),
    [
        ({"tensorflow-cpu": "2.21.0"}, "TensorFlow", "built for CPUs", "pip uninstall -y tensorflow-cpu && pip "),
        ({"tensorflow": "2.21.0"}, "TensorFlow", "does not see the GPU", "pip install 'tensorflow[and-cuda]'"),
        ({"tensorflow": "2.21.0", "tensorflow-cpu": "2.21.0"}, "TensorFlow", "overwrite each other", "pip uninstall"),
        ({"onnxruntime": "1", "onnxruntime-gpu": "1"}, "ONNX Runtime", "overwrite each other", "pip uninstall -y onnx"),
        ({"onnxruntime": "1.24.0"}, "ONNX Runtime", "does not import", "pip install --force-reinstall onnxruntime"),
        ({}, "tf2onnx", "not installed", "pip install 'trtpoets[train]'"),
    ],
)
def test_training_on_a_gpu(tmp_path: Path, packages: dict[str, str], what: str, found: str, hint: str) -> None:
    here = with_gpu((8, 6), "10.13.3.9", "12.6", "RTX 3060", packages=packages, tensorflow_gpus=0)
    findings = checked(diagnose(system(write(tmp_path, UBUNTU)), here))
    assert findings[what].found.endswith(found) and findings[what].hint.startswith(hint)


def test_pycuda_without_a_compiler(tmp_path: Path) -> None:
    here = with_gpu((8, 6), "10.13.3.9", "12.6", "RTX 3060", pycuda=Loaded(problem="libcurand.so.10: no such file"))
    findings = checked(diagnose(system(write(tmp_path, {"etc/os-release": ""})), here))
    assert findings["pycuda"].found == "libcurand.so.10: no such file"
    assert findings["pycuda"].hint == (
        "sudo apt install -y build-essential python3-dev nvidia-cuda-toolkit "
        "&& pip install --force-reinstall --no-cache-dir pycuda"
    )


def test_a_governor_that_saves_power(tmp_path: Path) -> None:
    governor = {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n"}
    findings = checked(diagnose(system(write(tmp_path, {**UBUNTU, **governor})), software()))
    assert findings["power"].hint == "for steady timings: sudo cpupower frequency-set -g performance"


def test_a_machine_without_information(tmp_path: Path) -> None:
    result = system_at(tmp_path, {})
    assert (result.jetson, result.memory_gib, result.governor, result.nvidia_card) == (None, 0.0, None, False)
    checked(diagnose(result, software()))
