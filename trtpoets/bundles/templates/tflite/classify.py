#!/usr/bin/env python3
"""Classify photos with TFLite and print a line of JSON for each.

    python3 classify.py [--precision int8] [--threads 4] [--top 5] [--threshold 0] PHOTO_OR_FOLDER...

Needs ai-edge-litert (or TensorFlow), numpy and Pillow. Exit code: 0 on success, 1 if a file cannot be
read or the network cannot run, 2 for wrong usage.
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

from photo_lines import HERE, arguments, print_answers, run  # adds the runtime to sys.path

from trtpoets.core.errors import BadInput
from trtpoets.core.manifest import read_manifest
from trtpoets.core.tflite_file import read_tflite
from trtpoets.device.runners.tflite import TfliteRunner


def runner_of(precision: str, threads: int) -> TfliteRunner:
    """Return the runner of a precision, "" for the first in the manifest. Raises BadInput, BadArtefact."""
    order = [item.value for item in read_manifest(HERE).order]
    if precision and precision not in order:
        raise BadInput(f"this bundle has no {precision}", f"it has {', '.join(order)}")
    return TfliteRunner(read_tflite(HERE / f"{precision or order[0]}.tflite"), threads)


def main() -> int:
    """Classify the photos on the command line."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--precision", default="", help="fp32 or int8; default: the first in manifest.json")
    parser.add_argument("--threads", type=int, default=0, help="number of CPU threads; 0: all cores")
    options = parser.parse_args()
    with runner_of(options.precision, options.threads) as runner:
        return print_answers(runner.infer, runner.spec, options, 1)


if __name__ == "__main__":
    run(main)
