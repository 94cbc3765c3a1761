#!/usr/bin/env python3
"""Run the golden photos with ONNX Runtime and compare the scores with those expected.

    python3 selftest.py [--provider cpu|cuda|tensorrt] [--precision int8] [--settings FILE] [--json]

Exit code: 0 if the scores are as expected, 3 if they are not, 1 if the test cannot run, 2 for wrong usage.
"""

import os
import sys

# Python adds this folder to sys.path. Remove it, so that no file here is imported before checked.py has checked it.
# (`from __future__` would be such an import; `os` was imported before.)
_HERE = os.path.realpath(__file__).rpartition("/")[0]
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != _HERE]
sys.dont_write_bytecode = True  # compiled files would not be in the manifest

import runpy

runpy.run_path(f"{_HERE}/checked.py")

import argparse

from classify import HERE, file_of, open_session, scores_of, settings_of  # adds the runtime to sys.path
from golden_test import golden_test
from photo_lines import run

from trtpoets.core.manifest import check_manifest
from trtpoets.core.types import Int8Form, Precision


def main() -> int:
    """Run the self-test."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--provider", choices=("cpu", "cuda", "tensorrt"), default="cpu", help="execution provider")
    parser.add_argument("--precision", choices=[item.value for item in Precision], help="default: from settings.json")
    parser.add_argument("--settings", help="settings file to use instead of settings.json")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    check_manifest(HERE)
    settings = settings_of(options.provider, options.settings)
    precision = options.precision or settings["precision"]
    session = open_session(settings, precision)
    form = Int8Form.CPU if file_of(settings, precision) == "int8.cpu.onnx" else Int8Form.TENSORRT
    return golden_test(lambda photos: scores_of(session, photos), precision, options.provider, options.json, form)


if __name__ == "__main__":
    run(main)
