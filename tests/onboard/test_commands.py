"""The commands of a bundle on the fake device: build, checks, measurements; in Python 3.8 and the current Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.fakes.board_bundle import PYTHONS, Board, as_json

# Building


def test_what_a_device_lacks_is_not_brought_by_pip(here: Board, bundle: Path, tmp_path: Path) -> None:
    with (tmp_path / "site" / "sitecustomize.py").open("a") as site:
        site.write("\nimport sys\n\nsys.modules['pycuda'] = sys.modules['pycuda.driver'] = None\n")
    result = here.run(bundle, "build")
    assert result.returncode == 1
    assert "pycuda" in result.stderr
    assert result.stderr.endswith("try: show what is missing and how to install it: ./install --dry-run\n")
    with (tmp_path / "site" / "sitecustomize.py").open("a") as site:
        site.write("sys.modules['onnxruntime'] = None\n")
    result = here.run(bundle, "selftest", "--runner", "onnxruntime")
    assert result.stderr.endswith("try: pip install onnxruntime\n")


@pytest.mark.slow
def test_jetpack_5s_tensorrt(board: Board, bundle: Path) -> None:
    board.environment["PAPER_TENSORRT"] = "8.5.2"
    result = board.run(bundle, "build", "--json")
    assert result.returncode == 0, result.stderr
    assert as_json(result)[0]["card"]["tensorrt_version"] == "8.5.2"
    assert board.run(bundle, "selftest").returncode == 0


# Bundles that are not whole


def test_a_bundle_that_can_t_be_written_to(here: Board, bundle: Path) -> None:
    here.use(bundle.parent / "venv")
    here.environment["PATH"] = f"{bundle.parent}/venv/bin:{os.environ['PATH']}"
    (bundle / "built").write_text("in the way")
    result = subprocess.run([bundle / "build"], env=here.variables, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"{bundle}/built/.lock" in result.stderr and "[TP1085]" in result.stderr
    assert result.stderr.endswith(
        "move it, or choose another folder\n"
    )  # the hint names no option that these programs lack


# The program


@pytest.mark.slow
def test_the_doctor(here: Board, bundle: Path) -> None:
    result = here.run(bundle, "trtpoets", "doctor")
    assert result.returncode == 0
    assert "TensorRT: 10.3.0" in result.stdout


@pytest.mark.parametrize("python", PYTHONS)
def test_the_runtime_needs_only_numpy(python: str, bundle: Path, tmp_path: Path) -> None:
    """Pillow, TensorRT and pycuda are imported when needed. `benchmarks/runtime_start.py` measures the import."""
    program = """
import sys
import trtpoets.onboard.commands
files = {name: str(getattr(module, "__file__", "")) for name, module in sys.modules.items()}
print(*{name.split(".")[0] for name, file in files.items() if "site-packages" in file})
"""
    environment = {**os.environ, "PYTHONPATH": str(bundle / "runtime"), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run([python, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert set(result.stdout.split()) - {"_virtualenv", "_distutils_hack", "sitecustomize"} == {"numpy"}
