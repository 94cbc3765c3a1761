"""Measures the CPU time of importing the device runtime, which every command of a bundle needs, and numpy's share.

    python benchmarks/runtime_start.py [--python PYTHON]

The first start compiles every module; later starts read compiled files. Prints the minimum over `STARTS` starts.
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
start = time.process_time()
import numpy
numpy_seconds = time.process_time() - start
import trtpoets.onboard.commands
print(numpy_seconds, time.process_time() - start)
"""


def seconds(python: str, environment: dict[str, str]) -> tuple[float, float]:
    """Return the CPU time in seconds of importing numpy, and numpy and the runtime, in a new process."""
    result = subprocess.run([python, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True)
    numpy_seconds, both = map(float, result.stdout.split())
    return numpy_seconds, both


def main() -> None:
    """Print one line for the first start and one for later starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the Python to measure; it needs numpy")
    python = parser.parse_args().python
    with tempfile.TemporaryDirectory() as caches:
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        root = str(Path(__file__).resolve().parent.parent)
        environment = {**inherited, "PYTHONPATH": root, "PYTHONPYCACHEPREFIX": caches}
        first = seconds(python, environment)
        later = min((seconds(python, environment) for _ in range(STARTS)), key=lambda pair: pair[1])
    for name, (numpy_seconds, both) in (("first", first), ("later", later)):
        ratio = both / numpy_seconds
        print(
            f"{name}: {both:.2f} s, of which numpy {numpy_seconds:.2f} s ({ratio:.1f} times; goal: {GOAL} s in total)"
        )


if __name__ == "__main__":
    main()
