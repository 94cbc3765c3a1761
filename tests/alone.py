"""Programs of a bundle, run as on a machine that has less than this one."""

from __future__ import annotations

import json
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


def expect_other_scores(bundle: Path) -> None:
    """Change what a bundle's second golden photo shall score in FP32, as if it had another network."""
    path = bundle / "golden" / "golden.json"
    golden = json.loads(path.read_text())
    golden["expected"]["fp32"]["scores"][1] = [0.0, 0.0, 1.0]
    path.write_text(json.dumps(golden))
