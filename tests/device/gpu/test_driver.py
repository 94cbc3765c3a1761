"""The real pycuda and real ctypes calls over `tests/fakes/libcuda.c`, which stands for the driver.

`tests/test_on_gpu.py` runs the same on a GPU.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.device.gpu.driver_scenarios import SCENARIOS

HERE = Path(__file__).parent


def pycuda_driver() -> Path | None:
    """pycuda's compiled module, found without importing it: that needs a libcuda."""
    spec = importlib.util.find_spec("pycuda")
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((file for folder in folders for file in Path(folder).glob("_driver*.so")), None)


@pytest.fixture(scope="session")
def libcuda_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `libcuda.so.1`: ours, and for what else pycuda links, functions that refuse."""
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    folder, source = tmp_path_factory.mktemp("libcuda"), (HERE.parents[1] / "fakes" / "libcuda.c").read_text()
    pycuda = pycuda_driver()
    if pycuda and shutil.which("nm"):
        listing = subprocess.run(
            ["nm", "-D", "--undefined-only", pycuda], capture_output=True, text=True, check=True
        ).stdout
        wanted = set(re.findall(r" (cu[A-Z]\w*|curand\w*)$", listing, re.MULTILINE))
        own = set(re.findall(r"^int (cu\w+)\(", source, re.MULTILINE))
        source += "".join(f"int {name}(void) {{ return NOT_SUPPORTED; }}\n" for name in sorted(wanted - own))
    (folder / "libcuda.c").write_text(source)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-pthread", "-o", folder / "libcuda.so.1", folder / "libcuda.c"], check=True
    )
    return folder


def run(libcuda_folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "LD_LIBRARY_PATH": str(libcuda_folder)},
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("scenario", [scenario.__name__ for scenario in SCENARIOS])
def test_over_a_libcuda_in_c(scenario: str, libcuda_folder: Path) -> None:
    if scenario not in ("the_gpu_describes_itself", "what_ctypes_calls") and pycuda_driver() is None:
        pytest.skip("needs pycuda")
    result = run(libcuda_folder, "tests.device.gpu.driver_scenarios", scenario)
    assert result.returncode == 0, result.stderr
    assert scenario == "a_gpu_that_breaks" or result.stderr == ""


def test_the_tests_for_a_gpu(libcuda_folder: Path) -> None:
    """Runs the tests for a GPU over the fake driver, without engines and TensorFlow, to check the tests themselves."""
    if pycuda_driver() is None:
        pytest.skip("needs pycuda")
    result = run(
        libcuda_folder,
        "pytest",
        "tests/test_on_gpu.py",
        "-m",
        "gpu",
        "-k",
        "not engine and not tensorflow",
        "-q",
        "-rA",
    )
    assert result.returncode == 0, result.stdout
    assert "skipped" not in result.stdout and result.stdout.count("PASSED") == 14, result.stdout
