"""Errors of the program of a bundle have hints for a device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trtpoets.core.errors import BadInput, MissingDependency, TrtPoetsError
from trtpoets.onboard.__main__ import _report


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            MissingDependency("TensorRT is missing", hint="pip install trtpoets[trt]", code="TP0000"),
            "./install --dry-run",
        ),
        (
            MissingDependency("is missing", hint="pip install trtpoets[train]", code="TP0000", subject="onnxruntime"),
            "pip install onnxruntime",
        ),
        (
            BadInput("no room", hint="choose another folder with --engines DIR", code="TP0000"),
            "choose another folder\n",
        ),
    ],
)
def test_hints(error: TrtPoetsError, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    _report(error)
    text = capsys.readouterr().err
    assert hint in text
    assert "trtpoets[" not in text and "--engines" not in text


ROOT = Path(__file__).parents[2]
_PROGRAM = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("numpy", "import trtpoets.onboard.__main__ as m; m.main()"),
        ("hashlib", "import runpy; runpy.run_path({start!r}, run_name='__main__')"),
    ],
    ids=["numpy", "while the runtime is checked"],
)
def test_ctrl_c_while_modules_are_imported(module: str, code: str, tmp_path: Path) -> None:
    pressed = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    if module == "numpy":
        (tmp_path / "numpy.py").write_text(pressed)
    start = tmp_path / "runtime" / "start.py"
    start.parent.mkdir()
    text = (ROOT / "trtpoets/bundles/templates/jetson/start.py").read_text()
    # Ctrl-C during the check of the runtime
    start.write_text(text.replace("    runtime_hash = check()", "    os.kill(os.getpid(), signal.SIGINT)"))
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM + code.format(start=str(start))],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("Error: interrupted") and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
