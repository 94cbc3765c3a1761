"""Programs of a bundle, run as on a machine that has less than this one."""

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
    """Send SIGINT to a program that answers for 2,000 copies of a photo: its exit code, and what it wrote to stderr.

    The program is still at work when the signal comes: nobody reads its answers, which do not fit in the pipe.
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
    """Change what a bundle's second golden photo shall score in FP32, as if it had another network."""
    path = bundle / "golden" / "golden.json"
    golden = json.loads(path.read_text())
    golden["expected"]["fp32"]["scores"][1] = [0.0, 0.0, 1.0]
    path.write_text(json.dumps(golden))
