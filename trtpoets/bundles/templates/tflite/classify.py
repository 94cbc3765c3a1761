#!/usr/bin/env python3
"""Say what photos show, through TFLite: a line of JSON for each photo.

    python3 classify.py [--precision int8] [--threads 4] [--top 5] [--threshold 0] PHOTO_OR_FOLDER...

Needs ai-edge-litert (or TensorFlow), numpy and Pillow. Exit code: 0 done, 1 something can't be read or run, 2 wrong
usage.
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

from photo_lines import HERE, arguments, print_answers, run  # it also makes the runtime known

from trtpoets.core.errors import BadInput
from trtpoets.core.manifest import read_manifest
from trtpoets.core.tflite_file import read_tflite
from trtpoets.device.runners.tflite import TfliteRunner


def runner_of(precision: str, threads: int) -> TfliteRunner:
    """The runner of a precision; of the one to ship first where none is named. Raises BadInput, BadArtefact."""
    order = [each.value for each in read_manifest(HERE).order]
    if precision and precision not in order:
        raise BadInput(f"this bundle has no {precision}", f"it has {', '.join(order)}")
    return TfliteRunner(read_tflite(HERE / f"{precision or order[0]}.tflite"), threads)


def main() -> int:
    """Classify what the command line names."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--precision", default="", help="fp32 or int8; default: the first that manifest.json names")
    parser.add_argument("--threads", type=int, default=0, help="how many cores; 0 takes all")
    given = parser.parse_args()
    with runner_of(given.precision, given.threads) as runner:
        return print_answers(runner.infer, runner.spec, given, 1)


if __name__ == "__main__":
    run(main)
