"""Runs programs of a bundle as on a machine with fewer packages than this one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

_HOOK = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused!r}:
            raise ImportError(f"{{name}} is refused here", name=name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_alone(refused: Collection[str], program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a Python program where the packages `refused` can't be imported."""
    command = [sys.executable, "-c", _HOOK.format(refused=tuple(refused)), program, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)


def interrupt(program: Path, photo: Path, folder: Path) -> tuple[int, str]:
    """Send SIGINT to a program that classifies 2,000 copies of a photo; returns its exit code and stderr.

    The program is still working when the signal arrives: nobody reads its output, which does not fit into the pipe.
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


def expect_other_scores(bundle: Path) -> None:
    """Change the expected FP32 scores of a bundle's second golden photo, as if it had another network."""
    path = bundle / "golden" / "golden.json"
    golden = json.loads(path.read_text())
    golden["expected"]["fp32"]["scores"][1] = [0.0, 0.0, 1.0]
    path.write_text(json.dumps(golden))
