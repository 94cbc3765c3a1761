#!/usr/bin/env python3
"""Whether this machine answers as the one where the bundle was made: the golden photos, through ONNX Runtime.

    python3 selftest.py [--provider cpu|cuda|tensorrt] [--precision int8] [--settings FILE] [--json]

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

from classify import HERE, open_session, scores_of, settings_of  # it also makes the runtime known
from golden_test import golden_test
from photo_lines import run

from trtpoets.core.manifest import check_manifest
from trtpoets.core.types import Precision


def main() -> int:
    """Test what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--provider", choices=("cpu", "cuda", "tensorrt"), default="cpu", help="what runs it")
    parser.add_argument(
        "--precision", choices=[each.value for each in Precision], help="default: as settings.json says"
    )
    parser.add_argument("--settings", help="another file than settings.json")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    given = parser.parse_args()
    check_manifest(HERE)
    settings = settings_of(given.provider, given.settings)
    precision = given.precision or settings["precision"]
    session = open_session(settings, precision)
    return golden_test(lambda photos: scores_of(session, photos), precision, given.provider, given.json)


if __name__ == "__main__":
    run(main)
