#!/usr/bin/env python3
"""Say what photos show, through TFLite: a line of JSON for each photo.

    python3 classify.py [--precision int8] [--threads 4] [--top 5] [--threshold 0] PHOTO_OR_FOLDER...

Needs ai-edge-litert (or TensorFlow), numpy and Pillow. Exit code: 0 done, 1 something can't be read or run, 2 wrong
usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # the bundle stays as its manifest says

from photo_lines import HERE, answers, files_in  # it also makes the runtime known

from trtpoets.core.errors import BadInput, TrtPoetsError
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("photos", nargs="+", type=Path, help="photo files, or folders of them")
    parser.add_argument("--precision", default="", help="fp32 or int8; default: the first that manifest.json names")
    parser.add_argument("--threads", type=int, default=0, help="how many cores; 0 takes all")
    parser.add_argument("--top", type=int, default=5, help="how many labels a photo")
    parser.add_argument("--threshold", type=float, default=0.0, help="leave out labels with a lower score")
    given = parser.parse_args()
    bad = 0
    try:
        with runner_of(given.precision, given.threads) as runner:
            asked = {"batch": 1, "top": given.top, "threshold": given.threshold}
            for answer in answers(runner.infer, runner.spec, files_in(given.photos), **asked):
                print(json.dumps(answer, ensure_ascii=False), flush=True)
                bad += "error" in answer
    except TrtPoetsError as error:
        print(f"Error: {error.message}" + (f"\n  try: {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
