"""What a device lacks for a bundle: packages, operators, room, and a compiler for pycuda."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.board_bundle import paper_bundle
from tests.fakes.machines import jetson_files, software, system, with_gpu, write
from trtpoets.core.errors import StorageFailed
from trtpoets.core.manifest import write_manifest
from trtpoets.core.types import Precision
from trtpoets.device.doctor import Diagnosis, diagnose
from trtpoets.device.doctor.findings import Finding, State
from trtpoets.device.doctor.software import Software
from trtpoets.onboard import bundle_findings
from trtpoets.onboard.bundle_findings import compiler_problem, findings_of, lacking
from trtpoets.onboard.installed_bundle import Bundle, open_bundle

ORIN = ("NVIDIA Jetson Orin Nano Developer Kit", "tegra234")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(paper_bundle(tmp_path_factory.mktemp("bundle") / "tiny-jetson", [Precision.FP16]))


def machine(folder: Path, loads: Software, release: str = "36 4.3", python: str = "3.10") -> Diagnosis:
    root = write(folder / "root", jetson_files(release, *ORIN, python))
    return diagnose(system(root, f"{python}.12"), loads)


def orin(folder: Path) -> Diagnosis:
    return machine(folder, with_gpu((8, 7), "10.3.0", "12.6"))


def by_name(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_only_what_engines_need_is_listed(packed: Bundle, tmp_path: Path) -> None:
    findings = findings_of(packed, orin(tmp_path))
    names = [finding.what for finding in findings]
    assert names == [
        *("Python", "system", "Jetson", "power", "NVIDIA GPU", "CUDA", "TensorRT", "pycuda"),
        *("numpy", "pillow", "operators", "room"),
    ]
    assert lacking(findings) == []


def test_required_findings_that_are_missing(packed: Bundle, tmp_path: Path) -> None:
    findings = findings_of(packed, machine(tmp_path, software()))
    assert [finding.what for finding in lacking(findings)] == ["NVIDIA GPU", "TensorRT", "pycuda"]


@pytest.mark.parametrize(
    ("versions", "text", "state"),
    [
        ({"numpy": "1.17.4", "pillow": "7.0.0"}, "7.0.0, but 8.0 or later is needed", State.MISSING),
        ({"numpy": "1.17.4"}, "not installed", State.MISSING),
        ({"numpy": "1.17.4", "pillow": "8.0.0"}, "8.0.0", State.READY),
    ],
)
def test_packages(
    versions: dict[str, str],
    text: str,
    state: State,
    packed: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundle_findings, "installed", lambda _: versions)
    findings = findings_of(packed, orin(tmp_path))
    pillow = by_name(findings)["pillow"]
    assert (pillow.found, pillow.state) == (text, state)
    assert pillow.hint == ("" if state is State.READY else "pip install 'pillow>=8.0'")
    assert by_name(findings)["numpy"].state is State.READY
    assert lacking(findings) == ([] if state is State.READY else [pillow])


def test_another_jetpack_than_the_bundles(bundle: Path, tmp_path: Path) -> None:
    (bundle / "manifest.json").unlink()
    write_manifest(
        bundle,
        name="tiny",
        target="jetson",
        version="0.1.0",
        model="0" * 64,
        order=[Precision.FP16],
        jetpack="5.1.2",
    )
    seen = by_name(findings_of(open_bundle(bundle), orin(tmp_path)))
    assert seen["JetPack"].found == "this bundle was made for JetPack 5.1.2, but JetPack 6.2 is installed"
    assert seen["JetPack"].hint.endswith("trtpoets bundle tiny --for jetson --jetpack 6.2")
    assert seen["JetPack"].state is State.DOUBTFUL


def test_operators_that_tensorrt_does_not_read(packed: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnosis = machine(tmp_path, with_gpu((8, 7), "8.5.2", "11.4"), "35 4.1", "3.8")
    assert by_name(findings_of(packed, diagnosis))["operators"].found == "ONNX opset 17"
    monkeypatch.setattr(bundle_findings, "opset_ceiling", lambda *_: 13)
    seen = by_name(findings_of(packed, diagnosis))["operators"]
    assert (seen.state, seen.found) == (
        State.MISSING,
        "ONNX opset 17, but TensorRT 8.5.2 supports up to 13",
    )
    assert "trtpoets export tiny --opset 13 --force" in seen.hint


def test_too_little_room(packed: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnosis = orin(tmp_path)

    def full(*_: object) -> None:
        raise StorageFailed("3 MiB are free", hint="df -h", code="TP7032")

    monkeypatch.setattr(bundle_findings, "require_room", full)
    room = by_name(findings_of(packed, diagnosis))["room"]
    assert (room.state, room.found, room.hint) == (State.DOUBTFUL, "3 MiB are free", "df -h")


def test_what_a_compiler_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    root = write(tmp_path / "root", jetson_files("36 4.3", *ORIN, "3.10"))
    assert "g++" in compiler_problem(system(root))
    assert "nvcc" not in compiler_problem(system(root))
    assert "nvcc" in compiler_problem(system(tmp_path))
