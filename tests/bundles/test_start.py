"""A bundle's runtime is checked before any of it runs; files that were added are reported and not executed."""

from __future__ import annotations

import os
import py_compile
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.board_bundle import python_3_8
from trtpoets.bundles.vendored_runtime import copy_template
from trtpoets.core.manifest import write_manifest
from trtpoets.core.types import Precision

MARK = "import pathlib\npathlib.Path({mark!r}).write_text('executed')\n"


def run(bundle: Path, python: str = sys.executable, **variables: str) -> subprocess.CompletedProcess[str]:
    """`./trtpoets --version` with a Python, in an environment that says nothing of Python's but `variables`."""
    tools = bundle.parent / "tools"
    tools.mkdir(exist_ok=True)
    # A link to the Python of a virtual environment would not find its packages.
    (tools / "python3").write_text(f'#!/bin/sh\nexec {shlex.quote(python)} "$@"\n', encoding="utf-8")
    (tools / "python3").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment = {**kept, "PATH": f"{tools}:{os.environ['PATH']}", **variables}
    return subprocess.run(
        [bundle / "trtpoets", "--version"],
        env=environment,
        cwd=bundle / "runtime",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def compiled(source: str, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    text = out.parent / "source.py"
    text.write_text(source)
    py_compile.compile(str(text), cfile=str(out), doraise=True)
    text.unlink()


def zipped(source: str, out: Path) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("hashlib.py", source)


def linked(source: str, out: Path) -> None:
    (out.parents[2] / "elsewhere.py").write_text(source)
    out.symlink_to(out.parents[2] / "elsewhere.py")


PLANTED: tuple[tuple[str, Callable[[str, Path], object]], ...] = (
    *((f"runtime/{name}.py", lambda text, out: out.write_text(text)) for name in ("hashlib", "json", "os", "pathlib")),
    *(
        (f"runtime/{name}.py", lambda text, out: out.write_text(text))
        for name in ("sitecustomize", "numpy", "__future__")
    ),
    ("runtime/x.pth", lambda text, out: out.write_text("import hashlib\n")),
    ("runtime/hashlib.pyc", compiled),
    (f"runtime/trtpoets/core/__pycache__/errors.{sys.implementation.cache_tag}.pyc", compiled),
    ("runtime/hashlib/__init__.py", lambda text, out: (out.parent.mkdir(), out.write_text(text))),
    ("runtime/trtpoets/numpy.py", lambda text, out: out.write_text(text)),
    ("runtime/python.zip", zipped),
    ("runtime/hashlib.py", linked),
)


@pytest.mark.parametrize(
    ("name", "plant"), PLANTED, ids=[f"{number}-{name}" for number, (name, _) in enumerate(PLANTED)]
)
def test_files_not_in_the_manifest_are_not_executed(
    bundle: Path, tmp_path: Path, name: str, plant: Callable[[str, Path], object]
) -> None:
    mark = tmp_path / "mark"
    plant(MARK.format(mark=str(mark)), bundle / name)
    for variables in ({}, {"PYTHONPATH": str(bundle / "runtime")})[: 1 + name.endswith("hashlib.py")]:
        result = run(bundle, **variables)
        assert result.returncode == 1 and not mark.exists()
        assert result.stderr.startswith(f"Error: {bundle}/runtime/"), result.stderr


def test_on_the_python_of_older_boards(bundle: Path, tmp_path: Path) -> None:
    python = python_3_8()
    if python is None:
        pytest.skip("needs a Python 3.8 with numpy and Pillow: $TRTPOETS_PYTHON38, or python3.8 on PATH")
    mark = tmp_path / "mark"
    (bundle / "runtime" / "hashlib.py").write_text(MARK.format(mark=str(mark)))
    assert run(bundle, python).returncode == 1 and not mark.exists()
    (bundle / "runtime" / "hashlib.py").unlink()
    result = run(bundle, python)
    assert (result.returncode, result.stdout) == (0, "trtpoets 0.1.0\n"), result.stderr


def test_nothing_runs_without_a_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    (bundle / "runtime" / "trtpoets" / "onboard" / "__main__.py").write_text("raise SystemExit('executed')\n")
    result = run(bundle)
    assert result.returncode == 1
    assert "is not a bundle: its manifest.json can't be read: No such file" in result.stderr


def test_an_intact_runtime_runs_and_writes_no_files(bundle: Path) -> None:
    result = run(bundle, PYTHONPATH=f"{bundle}/runtime:", PYTHONPYCACHEPREFIX=str(bundle / "built"))
    assert (result.returncode, result.stdout) == (0, "trtpoets 0.1.0\n"), result.stderr
    assert not (bundle / "built").exists() and not list(bundle.rglob("__pycache__"))


def test_compiled_files_in_built_are_not_used(bundle: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for prefix in bundle.joinpath("built", "pycache-0"), bundle / "built":
        module = Path(os.__file__).with_name("hashlib.py")
        out = prefix / str(module.parent)[1:] / f"hashlib.{sys.implementation.cache_tag}.pyc"
        compiled(MARK.format(mark=str(mark)), out)
    assert run(bundle, PYTHONPYCACHEPREFIX=str(bundle / "built")).returncode == 0
    assert not mark.exists()


SCRIPTS = [
    "onnxruntime/classify.py",
    "onnxruntime/selftest.py",
    "tflite/classify.py",
    "tflite/selftest.py",
    "triton/client.py",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_programs_of_other_bundles(script: str, tmp_path: Path) -> None:
    """They lie in the bundle's own folder, which Python puts first on its path."""
    folder, mark = tmp_path / "bundle", tmp_path / "mark"
    (folder / "runtime").mkdir(parents=True)
    for name in (script, "common/checked.py", "common/photo_lines.py", "common/golden_test.py"):
        copy_template(name, folder)
    write_manifest(folder, name="x", target="x", version="0", model="0" * 64, order=[Precision.FP32])
    evil = MARK.format(mark=str(mark))
    names = ("argparse.py", "__future__.py", "runpy.py", "numpy/__init__.py", "runtime/json.py")
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(evil)
        for where in (tmp_path, folder) if name == "argparse.py" else (folder,):
            result = subprocess.run(
                [sys.executable, path_from(where, folder / Path(script).name)],
                cwd=where,
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 1 and f"{path} is not in the manifest" in result.stderr, result.stderr
            assert not mark.exists()
        path.unlink()


def path_from(where: Path, file: Path) -> str:
    return os.path.relpath(file, where)
