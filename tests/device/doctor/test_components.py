"""Findings about the parts of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.machines import TRAINING, jetson_files, software, system, with_gpu, write
from tests.support.machines import NANO, UBUNTU, by_name, checked
from trtpoets.device.doctor import diagnose
from trtpoets.device.doctor.findings import State


def test_what_is_installed_and_does_not_import_is_not_ready(tmp_path: Path) -> None:
    broken = {"tensorflow": "libcudart.so.12: cannot open shared object file"}
    here = software(packages=TRAINING, providers=("CPUExecutionProvider",), problems=broken)
    findings = by_name(diagnose(system(write(tmp_path, UBUNTU), "3.12.3", architecture="x86_64"), here))
    assert findings["TensorFlow"].state is State.MISSING and "libcudart" in findings["TensorFlow"].found
    assert findings["retrain, export, quantize"].state is State.MISSING
    assert findings["ONNX"].state is State.READY


def test_a_tensorrt_from_pypi_on_a_jetson(tmp_path: Path) -> None:
    root = write(tmp_path, jetson_files("36 4.3", *NANO, "3.10"))
    packages = {"tensorrt-cu12": "10.7.0", "tensorrt-cu12-libs": "10.7.0"}
    findings = checked(diagnose(system(root), with_gpu((8, 7), "10.7.0", "12.6", packages=packages)))
    assert findings["TensorRT"].found == "10.7.0; JetPack 6.2 brings 10.3.0"
    assert findings["TensorRT"].hint == "pip uninstall -y tensorrt-cu12 tensorrt-cu12-libs"
    upgraded = checked(diagnose(system(root), with_gpu((8, 7), "10.7.0", "12.6")))
    assert upgraded["TensorRT"].state is State.READY, "by apt it may be newer"


def test_a_jetson_that_saves_power(tmp_path: Path) -> None:
    root = write(tmp_path, jetson_files("36 4.3", *NANO, "3.10", mode="pmode:0000"))
    findings = checked(diagnose(system(root), with_gpu((8, 7), "10.3.0", "12.6")))
    assert findings["power"].found == "15W, which limits clocks"
    assert findings["power"].hint == "for full speed (MAXN_SUPER): sudo nvpmodel -m 2 && sudo jetson_clocks"


@pytest.mark.parametrize(
    ("packages", "what", "ending", "hint"),
    [
        ({"tensorflow-cpu": "2.21.0"}, "TensorFlow", "built for CPUs", "pip uninstall -y tensorflow-cpu && pip "),
        ({"tensorflow": "2.21.0"}, "TensorFlow", "does not see the GPU", "pip install 'tensorflow[and-cuda]'"),
        ({"tensorflow": "2.21.0", "tensorflow-cpu": "2.21.0"}, "TensorFlow", "overwrite each other", "pip uninstall"),
        ({"onnxruntime": "1", "onnxruntime-gpu": "1"}, "ONNX Runtime", "overwrite each other", "pip uninstall -y onnx"),
        ({"onnxruntime": "1.24.0"}, "ONNX Runtime", "does not import", "pip install --force-reinstall onnxruntime"),
        ({}, "tf2onnx", "not installed", "pip install 'trtpoets[train]'"),
    ],
)
def test_training_on_a_gpu(tmp_path: Path, packages: dict[str, str], what: str, ending: str, hint: str) -> None:
    here = with_gpu((8, 6), "10.13.3.9", "12.6", "RTX 3060", packages=packages, tensorflow_gpus=0)
    findings = checked(diagnose(system(write(tmp_path, UBUNTU)), here))
    assert findings[what].found.endswith(ending) and findings[what].hint.startswith(hint)


def test_a_governor_that_saves_power(tmp_path: Path) -> None:
    governor = {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n"}
    findings = checked(diagnose(system(write(tmp_path, {**UBUNTU, **governor})), software()))
    assert findings["power"].hint == "for steady timings: sudo cpupower frequency-set -g performance"
