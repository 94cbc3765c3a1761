#!/usr/bin/env python3
"""Whether this machine answers as the one where the bundle was made: the golden photos, through TFLite.

    python3 selftest.py [--precision int8] [--threads 4] [--json]

Exit code: 0 the scores are those expected, 3 they are not, 1 it can't be told, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

sys.dont_write_bytecode = True  # the bundle stays as its manifest says

from classify import HERE, runner_of  # it also makes the runtime known

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.manifest import check_manifest
from trtpoets.core.spec import Precision
from trtpoets.judge.golden import check_scores_against, read_golden

TIMED = 20


def main() -> int:
    """Test what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--precision", default="", help="fp32 or int8; default: the first that manifest.json names")
    parser.add_argument("--threads", type=int, default=0, help="how many cores; 0 takes all")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    given = parser.parse_args()
    try:
        check_manifest(HERE)
        golden = read_golden(HERE / "golden")
        with runner_of(given.precision, given.threads) as runner:
            precision = Precision(runner.name.split("-")[1])
            verdict = check_scores_against(golden, precision, runner.infer(golden.pixels))
            times = []
            for number in range(TIMED):
                begun = time.perf_counter()
                runner.infer(golden.pixels[number % len(golden.photos)][None])
                times.append(1000 * (time.perf_counter() - begun))
    except TrtPoetsError as error:
        print(f"Error: {error.message}" + (f"\n  try: {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    told = {
        "passed": verdict.passed,
        "precision": precision.value,
        "max_difference": verdict.max_difference,
        "tolerance": verdict.tolerance,
        "same_answers": verdict.same_answers,
        "photos": verdict.photos,
        "median_ms": sorted(times)[TIMED // 2],
    }
    if given.json:
        print(json.dumps(told))
    else:
        print(
            f"{'passed' if verdict.passed else 'FAILED'}: {precision.value} by TFLite: scores differ by "
            f"{verdict.max_difference:.2g} at most, {verdict.tolerance:g} is allowed; "
            f"{verdict.same_answers} of {verdict.photos} answers alike; {told['median_ms']:.2f} ms a photo "
            f"(median of {TIMED}, on a machine that may be busy)"
        )
    return 0 if verdict.passed else 3


if __name__ == "__main__":
    sys.exit(main())
