"""Runs programs of a bundle without certain packages, interrupts them, and changes the bundle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

_WITHOUT_PACKAGES = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages!r}:
            raise ImportError(f"{{name}} is not available here", name=name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_without(packages: Collection[str], program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a Python program that cannot import `packages`; returns its exit code and output."""
    command = [sys.executable, "-c", _WITHOUT_PACKAGES.format(packages=tuple(packages)), program, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)


def interrupt(program: Path, photo: Path, folder: Path) -> tuple[int, str]:
    """Send SIGINT to a program that classifies 2,000 links to a photo in `folder`; returns its exit code and stderr.

    The program is still running when the signal arrives: only its first line is read before, and the rest of its output
    is larger than the pipe's buffer.
    """
    folder.mkdir()
    for number in range(2000):
        (folder / f"{number:04}{photo.suffix}").hardlink_to(photo)
    command = [sys.executable, str(program), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            error = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    return process.returncode, error


def change_expected_scores(bundle: Path) -> None:
    """Change the expected FP32 scores of a bundle's second golden photo, so that its network fails the golden check."""
    path = bundle / "golden" / "golden.json"
    golden = json.loads(path.read_text())
    golden["expected"]["fp32"]["scores"][1] = [0.0, 0.0, 1.0]
    path.write_text(json.dumps(golden))
