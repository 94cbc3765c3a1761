"""Facts about a machine from its system files."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.machines import jetson_files, software, system, with_gpu, write
from tests.support.machines import NANO, THOR, checked
from trtpoets.device.doctor import diagnose
from trtpoets.device.doctor.findings import State
from trtpoets.device.doctor.system import system_at


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


def test_a_machine_without_information(tmp_path: Path) -> None:
    result = system_at(tmp_path, {})
    assert (result.jetson, result.memory_gib, result.governor, result.nvidia_card) == (None, 0.0, None, False)
    checked(diagnose(result, software()))
