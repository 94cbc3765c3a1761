"""`trtpoets demo` as somebody new meets it: an empty folder, an empty cache, a process of its own; then once more.

The second run finds everything done and only says so. `trtpoets --help` is timed as well, the median of several.

    python benchmarks/demo.py [--quick] [--rounds 9]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trtpoets.core.images import usable_cores

GOALS = {"first": 240.0, "again": 15.0, "help": 0.2}
"""Seconds, on two cores that nobody else uses."""


def seconds(folder: Path, *arguments: str) -> float:
    """How long the program takes, in `folder` and with the cache inside it. Ends this script when the program fails."""
    environment = {**os.environ, "TRTPOETS_CACHE": str(folder / "cache")}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "trtpoets", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    taken = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"trtpoets {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 photos a class, as trtpoets demo --quick")
    parser.add_argument("--rounds", type=int, default=9, help="how often --help is timed")
    options = parser.parse_args()
    command = ["demo", "--quick"] if options.quick else ["demo"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        load = os.getloadavg()[0]
        seconds(folder, "--help")  # the first one reads the package from the disk
        helps = [seconds(folder, "--help") for _ in range(options.rounds)]
        times = {
            "help": statistics.median(helps),
            "first": seconds(folder, *command),
            "again": seconds(folder, *command),
        }
    names = {"first": f"{' '.join(command)}, from nothing", "again": f"{' '.join(command)}, again", "help": "--help"}
    print(f"{usable_cores()} cores, load {load:.1f} before")
    for which, goal in GOALS.items():
        taken = times[which]
        print(f"  trtpoets {names[which]:28}{taken:8.2f} s, {taken / goal:5.2f} of the goal ({goal:g} s)")


if __name__ == "__main__":
    main()
