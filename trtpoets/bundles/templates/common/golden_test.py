"""The golden photos through whatever runs the network: what bundles' self-tests share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from photo_lines import HERE  # it also makes the runtime known

from trtpoets.core.console import json_text
from trtpoets.core.streams import discard_output, prepare_streams, writing_results
from trtpoets.core.types import Precision
from trtpoets.judge.golden import check_scores_against, read_golden

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

TIMED = 20


def golden_test(infer: Callable[[np.ndarray], np.ndarray], precision: str, by: str, as_json: bool) -> int:
    """Hold the scores against those expected, time single photos, print both. The exit code: 0, or 3 where they differ.

    `infer` takes photos, uint8 (N, H, W, 3), and gives scores, float32 (N, C), `by` what `precision` names.
    """
    prepare_streams()
    golden = read_golden(HERE / "golden")
    verdict = check_scores_against(golden, Precision(precision), infer(golden.pixels))
    times = []
    for number in range(TIMED):
        begun = time.perf_counter()
        infer(golden.pixels[number % len(golden.photos)][None])
        times.append(1000 * (time.perf_counter() - begun))
    told = {
        "passed": verdict.passed,
        "runner": by,
        "precision": precision,
        "max_difference": verdict.max_difference,
        "tolerance": verdict.tolerance,
        "same_answers": verdict.same_answers,
        "photos": verdict.photos,
        "median_ms": sorted(times)[TIMED // 2],
    }
    said = (
        f"{'passed' if verdict.passed else 'FAILED'}: {precision} by {by}: scores differ by "
        f"{verdict.max_difference:.2g} at most, {verdict.tolerance:g} is allowed; "
        f"{verdict.same_answers} of {verdict.photos} answers alike; {told['median_ms']:.2f} ms a photo "
        f"(median of {TIMED}, on a machine that may be busy)"
    )
    try:
        with writing_results():
            print(json_text(told) if as_json else said)
    except BrokenPipeError:  # who read has gone; the exit code still tells
        discard_output()
    return 0 if verdict.passed else 3
