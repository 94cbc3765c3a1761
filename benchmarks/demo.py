"""Measures `trtpoets demo` for a new user, in an empty folder with an empty cache, and a second time.

In the second run all stages are up to date. `trtpoets --help` is measured too; the median of several runs is printed.

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

GOALS = {"first": 110.0, "again": 15.0, "help": 0.2}
"""Maximum seconds on two otherwise idle cores."""


def seconds(folder: Path, *arguments: str) -> float:
    """Run the program in `folder`, with its cache there, and return the seconds. Exits if the program fails."""
    environment = {**os.environ, "TRTPOETS_CACHE": str(folder / "cache")}
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "trtpoets", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    taken = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"trtpoets {' '.join(arguments)} ended with {process.returncode}:\n{process.stderr}")
    return taken


def main() -> None:
    """Run the measurements and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 photos per class, as trtpoets demo --quick")
    parser.add_argument("--rounds", type=int, default=9, help="number of runs of --help")
    options = parser.parse_args()
    command = ["demo", "--quick"] if options.quick else ["demo"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        load = os.getloadavg()[0]
        seconds(folder, "--help")  # the first run reads the package from the disk
        help_seconds = [seconds(folder, "--help") for _ in range(options.rounds)]
        times = {
            "help": statistics.median(help_seconds),
            "first": seconds(folder, *command),
            "again": seconds(folder, *command),
        }
    names = {"first": f"{' '.join(command)}, first run", "again": f"{' '.join(command)}, second run", "help": "--help"}
    print(f"{usable_cores()} cores, load {load:.1f} before")
    for which, goal in GOALS.items():
        taken = times[which]
        print(f"  trtpoets {names[which]:28}{taken:8.2f} s, {taken / goal:5.2f} of the goal ({goal:g} s)")


if __name__ == "__main__":
    main()
