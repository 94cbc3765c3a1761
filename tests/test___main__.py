"""Ctrl-C while the program is imported, or while it imports what a command needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.foreign_onnx import colour_classifier

ROOT = Path(__file__).parents[2]

PRESSED = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
IN_EXEC = f"exec({PRESSED!r})\n"
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import trtpoets.__main__ as m; m.main()"
)


def ended(folder: Path, module: str, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program where the import of `module` runs `text`."""
    (folder / f"{module}.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("text", [PRESSED, IN_EXEC])
def test_of_the_program(tmp_path: Path, text: str) -> None:
    done = ended(tmp_path, "typer", text, "--help")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Error: interrupted\n")


@pytest.mark.parametrize("text", [PRESSED, IN_EXEC])
def test_of_a_command(tmp_path: Path, text: str) -> None:
    model = colour_classifier(tmp_path / "net.onnx")
    done = ended(tmp_path, "onnx", text, "adopt", str(model), "--name", "x", "--engines", str(tmp_path))
    assert done.returncode == 130, done.stderr
    message, hint = done.stderr.splitlines()
    assert message.startswith("Error: interrupted") and hint.startswith("  try: ")
