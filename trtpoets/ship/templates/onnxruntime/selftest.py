#!/usr/bin/env python3
"""Whether this machine answers as the one where the bundle was made: the golden photos, through ONNX Runtime.

    python3 selftest.py [--provider cpu|cuda|tensorrt] [--precision int8] [--json]

Exit code: 0 the scores are those expected, 3 they are not, 1 it can't be told, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

sys.dont_write_bytecode = True  # the bundle stays as its manifest says

from classify import HERE, open_session, scores_of, settings_of  # it also makes the runtime known

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.manifest import check_manifest
from trtpoets.core.spec import Precision
from trtpoets.judge.golden import check_scores_against, read_golden

TIMED = 20


def main() -> int:
    """Test what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--provider", choices=("cpu", "cuda", "tensorrt"), default="cpu", help="what runs it")
    parser.add_argument(
        "--precision", choices=[each.value for each in Precision], help="default: as settings.json says"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    given = parser.parse_args()
    try:
        check_manifest(HERE)
        settings = settings_of(given.provider)
        precision = given.precision or settings["precision"]
        session = open_session(settings, precision)
        golden = read_golden(HERE / "golden")
        verdict = check_scores_against(golden, Precision(precision), scores_of(session, golden.pixels))
        times = []
        for number in range(TIMED):
            begun = time.perf_counter()
            scores_of(session, golden.pixels[number % len(golden.photos)][None])
            times.append(1000 * (time.perf_counter() - begun))
    except TrtPoetsError as error:
        print(f"Error: {error.message}" + (f"\n  try: {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    told = {
        "passed": verdict.passed,
        "provider": given.provider,
        "precision": precision,
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
            f"{'passed' if verdict.passed else 'FAILED'}: {precision} by {given.provider}: scores differ by "
            f"{verdict.max_difference:.2g} at most, {verdict.tolerance:g} is allowed; "
            f"{verdict.same_answers} of {verdict.photos} answers alike; {told['median_ms']:.2f} ms a photo "
            f"(median of {TIMED}, on a machine that may be busy)"
        )
    return 0 if verdict.passed else 3


if __name__ == "__main__":
    sys.exit(main())
