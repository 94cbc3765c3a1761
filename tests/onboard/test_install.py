"""The `install` command on machines from documented facts: missing components and the commands that install them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.board_bundle import Board, as_json, paper_bundle
from tests.fakes.machines import NOT_INSTALLED, jetson_files, software, system, with_gpu, write
from tests.support.errors import raises
from trtpoets.core.errors import BadInput, MissingDependency, RunFailed
from trtpoets.core.types import Precision
from trtpoets.device.doctor import diagnose
from trtpoets.device.doctor.findings import Finding, State
from trtpoets.onboard import bundle_findings, install
from trtpoets.onboard.install import require_ready
from trtpoets.onboard.installed_bundle import Bundle, open_bundle
from trtpoets.onboard.result_lines import install_lines

ORIN = ("NVIDIA Jetson Orin Nano Developer Kit", "tegra234")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(paper_bundle(tmp_path / "tiny-jetson", [Precision.FP16]))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return `machine(software, release, python)`, which replaces this machine by such a board."""

    def be(loads: Any, release: str = "36 4.3", python: str = "3.10") -> None:
        root = write(tmp_path / "root", jetson_files(release, *ORIN, python))
        result = diagnose(system(root, f"{python}.12"), loads)
        monkeypatch.setattr(install, "doctor", lambda training: result)

    monkeypatch.setattr(bundle_findings, "compiler_problem", lambda _: "")
    monkeypatch.setattr(install, "compiler_problem", lambda _: "")
    return be


def by_name(installation: install.Installation) -> dict[str, Finding]:
    return {finding.what: finding for finding in installation.findings}


def test_a_board_that_lacks_nothing(machine: Any, bundle: Bundle) -> None:
    machine(with_gpu((8, 7), "10.3.0", "12.6"))
    result = install.install(bundle, dry_run=True)
    assert result.lacking == ()
    assert result.commands == (f"{sys.executable} -m venv --system-site-packages {bundle.built / 'venv'}",)
    seen = by_name(result)
    assert "JetPack 6.2 (TensorRT 10.3.0" in seen["Jetson"].found
    assert {seen[what].state for what in ("NVIDIA GPU", "TensorRT", "pycuda", "numpy", "pillow")} == {State.READY}
    assert seen["operators"].found == "ONNX opset 17"
    require_ready(result)
    lines = "\n".join(install_lines(result, dry_run=True))
    assert "to run    " in lines
    assert not bundle.built.exists(), "a dry run writes nothing"


def test_without_tensorrt_nothing_is_done(machine: Any, bundle: Bundle) -> None:
    machine(with_gpu((8, 7), "", "12.6", pycuda=NOT_INSTALLED))
    result = install.install(bundle)
    assert result.lacking == ("TensorRT",)
    assert not bundle.built.exists()
    packages = [command.partition(" install ")[2] for command in result.commands]
    assert not any("tensorrt" in package for package in packages), "TensorRT is never installed by pip"
    with raises(MissingDependency, "TP7019", "TensorRT") as caught:
        require_ready(result)
    assert "apt install" in caught.value.hint or "pyvenv.cfg" in caught.value.hint
    assert "pip install tensorrt" not in caught.value.hint


def test_an_old_jetpack_gets_a_hint(machine: Any, bundle: Bundle) -> None:
    machine(with_gpu((7, 2), "8.2.1", "10.2"), "32 7.1", "3.6")
    with raises(MissingDependency, "TP7019", "TensorRT", "8.2.1, and trtpoets needs 8.5 or later") as caught:
        require_ready(install.install(bundle, dry_run=True))
    assert "trtexec" in caught.value.hint


def test_pycuda_comes_by_pip_and_needs_a_compiler(
    machine: Any, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(with_gpu((8, 7), "10.3.0", "12.6", pycuda=NOT_INSTALLED, packages={}))
    monkeypatch.setattr(install, "installed", lambda _: {"numpy": "1.17.4"})
    result = install.install(bundle, dry_run=True)
    assert result.lacking == ()
    assert result.commands[1] == f"{bundle.built}/venv/bin/python -m pip install pycuda 'numpy>=1.24,<2'"
    assert install.install(bundle, dry_run=True, pip=False).lacking == ("pycuda",)
    monkeypatch.setattr(install, "compiler_problem", lambda _: "nvcc")
    result = install.install(bundle)
    assert result.lacking == ("compiler",)
    assert by_name(result)["compiler"].hint.startswith("sudo apt install -y build-essential python3-dev")
    assert not bundle.built.exists()


def test_packages_that_are_too_old(machine: Any, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow 7.0 of Ubuntu 20.04 has no `formats` argument."""
    machine(with_gpu((8, 7), "8.5.2", "11.4"), "35 4.1", "3.8")
    monkeypatch.setattr(bundle_findings, "installed", lambda _: {"numpy": "1.17.4", "pillow": "7.0.0"})
    result = install.install(bundle, dry_run=True)
    assert result.lacking == ()
    assert result.commands[-1].endswith("pip install 'pillow>=8.0'")
    assert by_name(result)["pillow"].found == "7.0.0, but 8.0 or later is needed"
    assert install.install(bundle, dry_run=True, pip=False).lacking == ("pillow",)


def test_a_machine_without_a_gpu(machine: Any, bundle: Bundle) -> None:
    machine(software())
    assert "NVIDIA GPU" in install.install(bundle).lacking


def paper_venv(board: Board, journal: list[str]) -> Any:
    """Return a replacement of `install._run`: `venv` creates an environment of the board, pip is only recorded."""

    def run(command: list[str], _: Any) -> None:
        journal.append(" ".join(command[1:3]))
        if command[1:3] == ["-m", "venv"]:
            board.use(Path(command[-1]))

    return run


@pytest.mark.parametrize("elsewhere", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_environment(
    machine: Any, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    machine(with_gpu((8, 7), "10.3.0", "12.6", pycuda=NOT_INSTALLED))
    board = Board(tmp_path, sys.executable)
    journal: list[Any] = []
    for name, value in board.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRTPOETS_BUNDLE", str(bundle.folder))
    monkeypatch.setattr(install, "_run", paper_venv(board, journal))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    venv = tmp_path / "elsewhere" if elsewhere else bundle.built / "venv"
    result = install.install(bundle, venv=venv if elsewhere else None)
    assert journal == ["-m venv", "-m pip"]
    assert result.lacking == ()  # reported by the environment's own Python, with the fake GPU
    assert (bundle.built / "venv").is_symlink() == elsewhere
    assert (bundle.built / "venv").resolve() == venv.resolve()
    outcome = subprocess.run([venv / "bin" / "trtpoets", "--version"], capture_output=True, text=True, check=True)
    assert outcome.stdout == "trtpoets 0.1.0\n"
    # The second install leaves the environment as it is.
    machine(with_gpu((8, 7), "10.3.0", "12.6"))
    assert install.install(bundle, venv=venv if elsewhere else None).commands == ()


def test_an_environment_inside_another(machine: Any, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(with_gpu((8, 7), "10.3.0", "12.6"))
    monkeypatch.setattr(sys, "prefix", "/home/me/venv")
    with raises(BadInput, "TP7017") as caught:
        install.install(bundle)
    assert "deactivate" in caught.value.hint


def half_a_venv(monkeypatch: pytest.MonkeyPatch, folder: Path, then: str) -> None:
    """Replace venv by a script that creates bin/python and then runs `then`, commands of a shell."""
    python = folder / "python3"
    python.write_text(f'#!/bin/sh\nmkdir -p "$4/bin" && : > "$4/bin/python"\n{then}\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)


def test_an_incomplete_environment_is_deleted(
    machine: Any, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python without ensurepip, or a full disk: venv fails after it has created bin/python."""
    machine(with_gpu((8, 7), "10.3.0", "12.6"))
    half_a_venv(monkeypatch, tmp_path, "exit 1")
    with raises(RunFailed, "TP7020", "1") as failed:
        install.install(bundle)
    assert "python3-venv" in failed.value.hint
    assert not (bundle.built / "venv").exists()


def test_an_interrupted_environment_is_deleted(
    machine: Any, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(with_gpu((8, 7), "10.3.0", "12.6"))
    half_a_venv(monkeypatch, tmp_path, "kill -INT $PPID\nexec sleep 600")
    with pytest.raises(KeyboardInterrupt):
        install.install(bundle)
    assert not (bundle.built / "venv").exists()


def test_another_environment_than_the_bundles_own(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps of the README: ./install first, and for updates ./install --venv in another folder."""
    base, own, other = tmp_path / "python3", bundle.built / "venv", tmp_path / "root" / "venv"
    base.write_text("")
    (own / "bin").mkdir(parents=True)
    (own / "bin" / "python").symlink_to(base)
    assert install.python_outside(bundle, other) is None  # this Python does not belong to the bundle's environment
    monkeypatch.setattr(sys, "prefix", str(own))
    monkeypatch.setattr(sys, "executable", str(own / "bin" / "python"))
    assert install.python_outside(bundle, None) is None
    assert install.python_outside(bundle, own) is None
    assert install.python_outside(bundle, other) == base
    (other / "bin").mkdir(parents=True)
    (other / "bin" / "python").symlink_to(base)
    assert install.python_outside(bundle, other) == other / "bin" / "python"
    install._link(bundle, other)
    assert own.resolve() == other
    assert sorted(path.name for path in bundle.built.iterdir()) == ["venv"]
    own.unlink()
    (own / "bin").mkdir(parents=True)
    (own / "bin" / "python").write_text("")  # the original of a copy is unknown
    assert install.python_outside(bundle, tmp_path / "new") is None


def test_a_command_that_fails(machine: Any, bundle: Bundle) -> None:
    machine(with_gpu((8, 7), "10.3.0", "12.6"))
    from trtpoets.device.doctor.system import system_at

    with raises(RunFailed, "TP7020", "5"):
        install._run([sys.executable, "-c", "raise SystemExit(5)"], system_at())


def test_a_python_that_does_not_answer(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho nonsense\n")
    python.chmod(0o755)
    with raises(RunFailed, "TP7021"):
        install._seen_from(tmp_path)


def test_the_program_without_numpy(bundle: Bundle, tmp_path: Path) -> None:
    board = Board(tmp_path, sys.executable)
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys\n\nsys.modules['numpy'] = None\n")
    result = board.run(bundle.folder, "install")
    assert result.returncode == 1
    assert "Error: numpy is needed for this program" in result.stderr
    assert "try: sudo apt install -y python3-numpy" in result.stderr


def test_the_program_on_the_fake_device(bundle: Bundle, tmp_path: Path) -> None:
    result = Board(tmp_path, sys.executable).run(bundle.folder, "install", "--dry-run", "--json")
    actual = as_json(result)
    assert (result.returncode, actual["lacking"]) == (0, [])
    assert {finding["what"]: finding["state"] for finding in actual["findings"]}["TensorRT"] == "ready"
