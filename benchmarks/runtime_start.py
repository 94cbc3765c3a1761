"""Processor time of importing the device runtime, which each command of a bundle pays, beside numpy's share of it.

    python benchmarks/runtime_start.py [--python PYTHON]

The first start compiles every module; later ones read compiled files. Seconds are the least of `STARTS` starts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

STARTS = 10
GOAL = 0.3

PROGRAM = """
import time
begun = time.process_time()
import numpy
numpys = time.process_time() - begun
import trtpoets.onboard.commands
print(numpys, time.process_time() - begun)
"""


def seconds(python: str, environment: dict[str, str]) -> tuple[float, float]:
    """Processor time (s) of importing numpy, and of importing numpy and the runtime, in a process of its own."""
    told = subprocess.run([python, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True)
    numpys, both = map(float, told.stdout.split())
    return numpys, both


def main() -> None:
    """Print one line for the first start and one for later ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the Python to measure; it needs numpy")
    python = parser.parse_args().python
    with tempfile.TemporaryDirectory() as caches:
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        root = str(Path(__file__).resolve().parent.parent)
        environment = {**inherited, "PYTHONPATH": root, "PYTHONPYCACHEPREFIX": caches}
        first = seconds(python, environment)
        later = min((seconds(python, environment) for _ in range(STARTS)), key=lambda pair: pair[1])
    for name, (numpys, both) in (("first", first), ("later", later)):
        print(f"{name}: {both:.2f} s, of which numpy {numpys:.2f} s ({both / numpys:.1f} times; goal: {GOAL} s in all)")


if __name__ == "__main__":
    main()
