"""Findings about what works on a machine."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.machines import TRAINING, software, system, with_gpu, write
from tests.support.machines import UBUNTU, checked
from trtpoets.device.doctor import diagnose
from trtpoets.device.doctor.findings import State
from trtpoets.device.doctor.software import Loaded


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
