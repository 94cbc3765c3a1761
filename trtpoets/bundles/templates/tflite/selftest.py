#!/usr/bin/env python3
"""Whether this machine answers as the one where the bundle was made: the golden photos, through TFLite.

    python3 selftest.py [--precision int8] [--threads 4] [--json]

Exit code: 0 the scores are those expected, 3 they are not, 1 it can't be told, 2 wrong usage.
"""

import os
import sys

# Python puts this folder first on its path, and has imported os already: nothing else is before all code was checked.
# (So no `from __future__`, which imports.)
_HERE = os.path.realpath(__file__).rpartition("/")[0]
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != _HERE]
sys.dont_write_bytecode = True  # the bundle stays as its manifest says

import runpy

runpy.run_path(f"{_HERE}/checked.py")

import argparse

from classify import HERE, runner_of  # it also makes the runtime known
from golden_test import golden_test
from photo_lines import run

from trtpoets.core.manifest import check_manifest


def main() -> int:
    """Test what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--precision", default="", help="fp32 or int8; default: the first that manifest.json names")
    parser.add_argument("--threads", type=int, default=0, help="how many cores; 0 takes all")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    given = parser.parse_args()
    check_manifest(HERE)
    with runner_of(given.precision, given.threads) as runner:
        return golden_test(runner.infer, runner.precision.value, "TFLite", given.json)


if __name__ == "__main__":
    run(main)
